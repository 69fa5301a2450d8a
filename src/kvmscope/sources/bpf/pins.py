"""Keeps the iterator loaded for unprivileged readers: kvmscope's own BPF file system and its contents.

    /run/kvmscope/          a mount of type bpf, so that detaching it frees everything
        v1/                 version of the snapshot format; an upgrade attaches beside it
            read            the iterator: open and read is one run
            control vms vcpus   the arrays that a run fills
            closed              root's alone: whether the iterator reads no more
            meta            JSON: schemas, sizes, and which kvm they belong to
        groups/             groups that count events, one directory each (groups/pinned.py)

The mount is kvmscope's own because systemd mounts /sys/fs/bpf with access for root only.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import mmap
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import FormatError, SourceError, Unavailable
from ...linux import mounts, procfs
from ...linux.modules import module_inode
from ..kvm_schema import KvmSchemas
from . import libbpf
from .layout import Layout
from .place import ROOT, directory_in, explain, open_directory
from .run_errors import Replaced

if TYPE_CHECKING:
    from ...codec.apicv import Reasons

META_SIZE = 65536
NEW = "new-"
"""The prefix of directories that are being filled. A BPF file system does not allow a dot in names."""
_FORMAT = "kvmscope-pins/4"
_MAPS = ("control", "vms", "vcpus", "meta")
ITERATOR = "read"
_CLOSED = "closed"
_YES = (1).to_bytes(4, sys.byteorder)


@dataclass(frozen=True)
class Meta:
    """The data that a reader needs about a pinned iterator. ``kvm_inode`` identifies one loading of the kvm module,
    ``object`` the loaded program."""

    layout: Layout
    schemas: KvmSchemas
    reasons: Reasons
    kvm_inode: int
    kernel: str
    object: str

    def serves(self, wanted: Meta) -> bool:
        """Whether this can replace ``wanted`` for readers: the same program, with at least as much room."""
        return self.object == wanted.object and self.layout.serves(wanted.layout)

    def check_kvm(self) -> None:
        """Raises Unavailable if kvm was reloaded: the program's offsets may belong to another build of it."""
        if kvm_inode() != self.kvm_inode:
            raise Unavailable("the kvm module was reloaded since `kvmscope attach`", remedy="as root: kvmscope attach")

    def encode(self) -> bytes:
        layout = {name: getattr(self.layout, name) for name in Layout.__slots__}
        text = {
            "format": _FORMAT,
            "kernel": self.kernel,
            "kvm_inode": self.kvm_inode,
            "object": self.object,
            "layout": layout,
            "inhibits": {str(bit): name for bit, name in self.reasons.items()},
            "schemas": [base64.b64encode(data).decode() for data in self.schemas.files],
        }
        return json.dumps(text).encode()

    @classmethod
    def parse(cls, data: bytes) -> Meta:
        """Raises FormatError on anything that ``encode`` of this version does not produce."""
        try:
            text: dict[str, Any] = json.loads(data.rstrip(b"\0"))
            if text["format"] != _FORMAT:
                raise FormatError("pinned meta", offset=0, expected=_FORMAT, got=str(text["format"]))
            vm, vcpu = (base64.b64decode(part) for part in text["schemas"])
            return cls(
                layout=Layout(**_checked(text["layout"])),
                schemas=KvmSchemas.from_files(vm, vcpu),
                reasons={int(bit): str(name) for bit, name in text["inhibits"].items()},
                kvm_inode=int(text["kvm_inode"]),
                kernel=str(text["kernel"]),
                object=str(text["object"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise FormatError("pinned meta", offset=0, expected=_FORMAT, got=repr(error)) from error


def _checked(layout: dict[str, Any]) -> dict[str, Any]:
    if not all(isinstance(size, int) and 0 <= size < 1 << 32 for size in layout.values()):
        raise ValueError("a size must be an integer from 0 to 2^32 - 1")
    return layout


def digest(data: bytes) -> str:
    """A digest of an object file, which identifies the program."""
    return hashlib.sha256(data).hexdigest()


def kvm_inode() -> int:
    """An inode number that changes when the kvm module is reloaded; 0 if there is none."""
    return module_inode("kvm") or 0


@dataclass(frozen=True)
class Pinned:
    """An opened pinned iterator; ``fds`` may be closed once they are mapped. Its successors have another ``inode``."""

    meta: Meta
    fds: Mapping[str, int]
    iterator: Path
    inode: int

    def open_run(self) -> int:
        """A file whose first read is one run. Raises Replaced, Unavailable.

        Without the check for Replaced, a run of a later program would be mistaken for one that filled these arrays.
        """
        try:
            fd = os.open(self.iterator, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise explain(error, self.iterator.parent, gone="the iterator was detached") from error
        try:
            self._check(os.fstat(fd).st_ino)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _check(self, inode: int) -> None:
        if inode != self.inode:
            raise Replaced("the iterator was attached again")
        self.meta.check_kvm()

    def close(self) -> None:
        for fd in self.fds.values():
            os.close(fd)


def open_pinned(root: Path = ROOT) -> Pinned:
    """Open it. Raises Unavailable if nothing usable is attached, PermissionNeeded if this user may not read it."""
    directory = directory_in(root)
    fds: dict[str, int] = {}
    held = open_directory(root)
    try:
        try:
            # By the directory's fd, so that all are of one program even if another replaces it in the process.
            here = Path(procfs.fd_path(held))
            for name in _MAPS:
                fds[name] = libbpf.open_pinned_map(here / name)
            inode = (here / ITERATOR).stat().st_ino
        finally:
            os.close(held)
        pinned = Pinned(_read_meta(fds["meta"]), fds, directory / ITERATOR, inode)
        pinned.meta.check_kvm()
    except BaseException as error:
        for fd in fds.values():
            os.close(fd)
        if isinstance(error, OSError):
            raise explain(error, directory) from error
        raise
    return pinned


def _read_meta(fd: int) -> Meta:
    with mmap.mmap(fd, META_SIZE, prot=mmap.PROT_READ) as mapped:
        return Meta.parse(bytes(mapped))


# -- attach and detach: root only ------------------------------------------------------------------------------------


def attached_meta(root: Path) -> Meta | None:
    """The metadata of the iterator attached for the kvm loaded now; None if there is no usable one."""
    try:
        pinned = open_pinned(root)
    except (SourceError, FormatError):
        return None
    pinned.close()
    return pinned.meta


def pin_program(bpf: libbpf.BpfObject, link_fd: int, meta: Meta, *, root: Path, gid: int, mode: int) -> Path:
    """Pin a loaded program, replacing any of the same version; readers see either the old or the new one."""
    mount(root)
    final = directory_in(root)
    new = final.with_name(NEW + final.name)
    remove_directory(new)
    new.mkdir(mode=0o700)
    with mmap.mmap(bpf.map_fd("meta"), META_SIZE) as mapped:
        encoded = meta.encode()
        mapped[: len(encoded)] = encoded
    for name in _MAPS:
        libbpf.freeze(bpf.map_fd(name))
        libbpf.pin(bpf.map_fd(name), new / name)
    libbpf.pin(bpf.map_fd(_CLOSED), new / _CLOSED)
    libbpf.pin(link_fd, new / ITERATOR)
    set_access(new, gid=gid, mode=mode)
    remove_directory(final)
    new.rename(final)
    return final


def set_access(directory: Path, *, gid: int, mode: int, private: str = "") -> None:
    """Let ``gid`` read; ``mode``: of the files; the directory gets x wherever they have r.

    Files with the prefix ``private`` stay root's alone.

    Readers of an array also get w, since the kernel does not map arrays opened read-only. They still cannot write:
    arrays are frozen when they are pinned.
    """
    for path in directory.iterdir():
        if path.name == _CLOSED or (private and path.name.startswith(private)):
            os.chown(path, 0, 0)
            path.chmod(0o600)
            continue
        os.chown(path, 0, gid)
        path.chmod(mode if path.name == ITERATOR else mode | (mode & 0o444) >> 1)
    os.chown(directory, 0, gid)
    directory.chmod(mode & 0o444 | (mode & 0o444) >> 2 | 0o700)


def remove(root: Path) -> bool:
    """Remove everything that was attached, by any version, and the mount. False if there was nothing."""
    if not _is_mounted(root):
        return False
    for directory in root.iterdir():
        remove_directory(directory)
    # Lazily: during a reader's run the kernel would refuse with EBUSY.
    try:
        mounts.unmount(str(root))
    except OSError as error:
        raise SourceError(
            f"{root} could not be unmounted: {error.strerror}", path=str(root), errno=error.errno
        ) from error
    try:
        root.rmdir()
    except OSError as error:  # another program has files where the mount was
        raise SourceError(f"everything is detached, but {root} stays: {error.strerror}", path=str(root)) from error
    return True


def remove_directory(directory: Path) -> None:
    """Remove it with its contents. A program pinned there stops reading, even for processes that have it open."""
    if (directory / _CLOSED).exists():
        libbpf.write_array(directory / _CLOSED, _YES)
    if directory.is_dir():
        for path in directory.iterdir():
            if path.is_dir():
                remove_directory(path)
            else:
                path.unlink()
        directory.rmdir()


@contextmanager
def locked(root: Path) -> Iterator[Path]:
    """The real path of ``root``, locked for one attach or detach; others wait. Raises SourceError if it is a file."""
    place = root.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(place.with_name(f".{place.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        # Under the lock, since another detach may remove the directory between these two checks.
        if place.exists() and not place.is_dir():
            raise SourceError(f"{place} is not a directory", remedy=f"remove it: rm {place}", path=str(place))
        yield place
    finally:
        os.close(fd)


def mount(root: Path) -> None:
    if _is_mounted(root):
        return
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        mounts.mount_bpf(str(root), name="kvmscope")
    except OSError as error:
        reason = f"a BPF file system could not be mounted at {root}: {error.strerror}"
        raise SourceError(reason, errno=error.errno) from error


def _is_mounted(root: Path) -> bool:
    return mounts.is_mounted(str(root), "bpf")


def running_kernel() -> str:
    return platform.release()
