"""Mounts, unmounts and looks up file systems. Source: mount(2), umount2(2), proc_pid_mountinfo(5)."""

from __future__ import annotations

from . import libc
from .files import PROC, read_text

_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_DETACH = 2


def is_mounted(place: str, kind: str, *, proc_root: str = PROC) -> bool:
    """Whether a file system of this kind is mounted at ``place``."""
    for line in (read_text(f"{proc_root}/self/mountinfo").value or "").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4] == place and after.split()[0] == kind:
            return True
    return False


def mount_bpf(place: str, *, name: str) -> None:
    """Mount a new BPF file system with noexec, nosuid and nodev. Raises OSError."""
    libc.mount(name, place, "bpf", _NOSUID | _NODEV | _NOEXEC, "mode=0755")


def unmount(place: str) -> None:
    """Unmount lazily: readers keep what they have open. Raises OSError."""
    libc.unmount(place, _DETACH)
