"""The processes that hold KVM files, from /proc: of VMs, vCPUs and their statistics.

It reads directory entries and link texts, nothing of KVM itself, and opens none of the files.
Rule: a link text names a kind of file and a vCPU id, never a VM: VMs of one process cannot be distinguished here.
Source: names given in virt/kvm/kvm_main.c (anon_inode_getfile and kvm_vm_ioctl_get_stats_fd, Linux 5.14 to 7.3).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from . import procfs
from .files import PROC

_LINK = re.compile(r"anon_inode:(?:(kvm-vm)|(kvm-vm-stats)|kvm-vcpu:(\d+)|kvm-vcpu-stats:(\d+))")


class FdKind(Enum):
    """The kind of a KVM file."""

    VM = "kvm-vm"
    VM_STATS = "kvm-vm-stats"
    VCPU = "kvm-vcpu"
    VCPU_STATS = "kvm-vcpu-stats"


@dataclass(frozen=True, slots=True)
class KvmFd:
    """A KVM file of a process; ``vcpu_id`` is None for the kinds of a VM."""

    number: int
    kind: FdKind
    vcpu_id: int | None = None


@dataclass(frozen=True, slots=True)
class KvmHolder:
    """A process with at least one KVM file. ``command``: its name in the kernel, made printable."""

    pid: int
    started_ticks: int
    command: str
    fds: tuple[KvmFd, ...]

    def of(self, kind: FdKind) -> tuple[KvmFd, ...]:
        """Its files of one kind, by number."""
        return tuple(fd for fd in self.fds if fd.kind is kind)


@dataclass(frozen=True, slots=True)
class KvmScan:
    """One walk: the holders of KVM files, and the numbers of processes that could and could not be inspected."""

    holders: tuple[KvmHolder, ...]
    seen: int
    hidden: int


def parse_link(number: int, link: str) -> KvmFd | None:
    """The file that a link text in /proc/PID/fd describes, or None if it is not a KVM file."""
    match = _LINK.fullmatch(link)
    if match is None:
        return None
    vm, vm_stats, vcpu, vcpu_stats = match.groups()
    if vm or vm_stats:
        return KvmFd(number, FdKind.VM if vm else FdKind.VM_STATS)
    return KvmFd(number, FdKind.VCPU if vcpu else FdKind.VCPU_STATS, int(vcpu or vcpu_stats))


def scan(*, proc_root: str = PROC) -> KvmScan:
    """Walk every process but this one. Processes that end during the walk are left out."""
    holders = []
    seen = hidden = 0
    own = os.getpid()
    for pid in list(procfs.iter_pids(proc_root=proc_root)):
        if pid == own:
            continue
        try:
            holder = look_at(pid, proc_root=proc_root)
        except PermissionError:
            hidden += 1
        except OSError:
            continue
        else:
            seen += 1
            if holder.fds:
                holders.append(holder)
    return KvmScan(tuple(sorted(holders, key=lambda h: (h.started_ticks, h.pid))), seen, hidden)


def look_at(pid: int, *, proc_root: str = PROC) -> KvmHolder:
    """One process, even if it holds no KVM files. OSError if it is gone, PermissionError if it may not be inspected."""
    fds = tuple(sorted(_iter_kvm_fds(f"{proc_root}/{pid}/fd"), key=lambda fd: fd.number))
    stat = procfs.read_stat(pid, proc_root=proc_root) if fds else None
    if stat is None:
        if fds:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), f"{proc_root}/{pid}")
        return KvmHolder(pid, 0, "", ())
    return KvmHolder(pid, stat.start_ticks, "".join(c if c.isprintable() else "?" for c in stat.comm), fds)


def _iter_kvm_fds(directory: str) -> Iterator[KvmFd]:
    # Links are resolved from the directory, not from the root: a host has tens of thousands of them.
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(handle) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    link = os.readlink(entry.name, dir_fd=handle)
                    fd = parse_link(int(entry.name), link) if link.startswith("anon_inode:kvm-") else None
                    if fd is not None:
                        yield fd
    finally:
        os.close(handle)
