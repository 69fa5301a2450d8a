"""The initial RAM disk of an emulated kernel: its modules, the files of one run, and the script that is process 1.

Bytes in, bytes out: it reads no file and starts no process. The userland is on a disk instead (``userland``): under
emulation, the kernel takes 2.4 s longer to unpack 120 MB into memory than to mount them.
Rule: the script either reaches the command, or switches the machine off without writing an exit code.
Source: Documentation/driver-api/early-userspace/buffer-format.rst (newc); MODULE_INFO in include/linux/module.h.
"""

from __future__ import annotations

import lzma
import re
import shlex
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

_TRAILER = "TRAILER!!!"
_DEPENDS = re.compile(rb"(?:^|\0)depends=([^\0]*)\0")

RESULT_FOLDER = "run/answer"
"""The directory below the guest's root in which the script keeps its own results."""

STDOUT_PORT, STDERR_PORT, RESULT_PORT = 1, 2, 3
"""Numbers of the virtio-serial ports; kernel messages go only to the console."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, directory or symbolic link of an archive; ``path`` is relative to its root."""

    path: str
    mode: int
    data: bytes = b""


def directory(path: str) -> Entry:
    """A directory that every user can enter."""
    return Entry(path, stat.S_IFDIR | 0o755)


def regular(path: str, data: bytes, *, executable: bool = False) -> Entry:
    """A file that every user can read."""
    return Entry(path, stat.S_IFREG | (0o755 if executable else 0o644), data)


def symlink(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def encode_cpio(entries: Iterable[Entry]) -> bytes:
    """A newc archive of the entries and of every directory above them, once each, parents first; owner root, time 0."""
    complete: dict[str, Entry] = {}
    for entry in entries:
        parts = entry.path.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            complete.setdefault(above, directory(above))
        complete[entry.path] = entry
    members = [_encode_member(entry, inode) for inode, entry in enumerate(complete.values(), start=1)]
    return b"".join([*members, _encode_member(Entry(_TRAILER, 0), 0)])


def _encode_member(entry: Entry, inode: int) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


@dataclass(frozen=True, slots=True)
class Module:
    """A kernel module, uncompressed, and the modules that it needs."""

    name: str
    data: bytes
    depends: tuple[str, ...]


def module_name(filename: str) -> str:
    """The kernel's name for the module of a file: ``kvm-amd.ko.xz`` is ``kvm_amd``."""
    return filename.split(".ko", maxsplit=1)[0].replace("-", "_")


def read_module(filename: str, data: bytes) -> Module:
    """A module from its file, decompressed."""
    if filename.endswith(".xz"):
        data = lzma.decompress(data)
    found = _DEPENDS.search(data)
    names = found[1].decode().split(",") if found else []
    return Module(module_name(filename), data, tuple(name.replace("-", "_") for name in names if name))


def order_modules(wanted: Iterable[str], load: Callable[[str], Module | None]) -> list[Module]:
    """The wanted modules and their dependencies, in load order; ``load`` returns None for a built-in module."""
    ordered: dict[str, Module | None] = {}

    def visit(name: str) -> None:
        if name in ordered:
            return
        module = load(name)
        for needed in module.depends if module else ():
            visit(needed)
        ordered[name] = module

    for name in wanted:
        visit(name)
    return [module for module in ordered.values() if module]


def init_script(modules: Sequence[str], parameters: Mapping[str, str]) -> str:
    """The script of process 1 in the RAM disk: loads the modules, mounts the userland, and switches to it."""
    loads = "\n".join(f"insmod /modules/{name}.ko {parameters.get(name, '')} || fail module {name}" for name in modules)
    return f"""\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
fail() {{ echo "kvmscope: $*" >/dev/console; poweroff -f; }}
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
{loads}
[ -c /dev/kvm ] || fail no /dev/kvm
tries=0
until [ -b /dev/nvme0n1 ] && [ -c /dev/vport0p{RESULT_PORT} ]; do
    tries=$((tries + 1)); [ $tries -lt 400 ] || fail no disk or no ports; usleep 50000
done
mount -t ext4 /dev/nvme0n1 /root || fail userland
cp -a /layer/. /root/ || fail files
chroot /root /bin/busybox --install -s
chroot /root /sbin/ldconfig
for place in proc sys dev; do mount --move /$place /root/$place; done
exec switch_root /root /sbin/kvmscope-run
"""


def run_script(argv: Sequence[str], get: Sequence[str]) -> str:
    """The script of process 1 in the userland: runs the command, sends the requested files, and switches off.

    The exit code is the last file of the archive, so an archive that has it is complete. Python's output must stay
    buffered: a virtio port takes 32 KiB per write, and the rest of an unbuffered write is lost.
    """
    wanted = " ".join(shlex.quote(path.lstrip("/")) for path in get)
    return f"""\
#!/bin/busybox sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM=dumb PYTHONPATH=/opt/kvmscope
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf
mkdir -p /dev/pts /dev/shm /{RESULT_FOLDER}
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
ulimit -n 20000
cd /root
cut -d' ' -f1 /proc/uptime >/{RESULT_FOLDER}/ready_s
{shlex.join(argv)} </dev/null >/dev/vport0p{STDOUT_PORT} 2>/dev/vport0p{STDERR_PORT}
code=$?
cut -d' ' -f1 /proc/uptime >/{RESULT_FOLDER}/ended_s
uname -r >/{RESULT_FOLDER}/release
dmesg >/{RESULT_FOLDER}/kernel_log
echo $code >/{RESULT_FOLDER}/exit_code
cd /
set --
for path in {wanted}; do [ -e "$path" ] && set -- "$@" "$path"; done
for name in ready_s ended_s release kernel_log exit_code; do set -- "$@" {RESULT_FOLDER}/$name; done
tar -cf /dev/vport0p{RESULT_PORT} "$@"
poweroff -f
"""
