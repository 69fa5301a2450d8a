"""Opens /dev/kvm; if that fails, the error has the reason and the remedy.

It creates no VM. Source: Documentation/virt/kvm/api.rst 4.1 (KVM_GET_API_VERSION, 12 on every kernel since 2.6.22).
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
from typing import Final

from ..errors import PermissionNeeded, SourceError, Unavailable
from .cpu import read_cpu
from .files import PROC, SYS
from .kvm import is_kvm_there
from .namespaces import is_sys_hidden

DEVICE: Final = "/dev/kvm"

_GET_API_VERSION: Final = 0xAE00
_VERSION: Final = 12
_PASS_IT_IN: Final = "give the container the device (docker run --device /dev/kvm)"
_SIMULATE: Final = "without KVM, `kvmscope lab simulate` shows a simulated host"
_MODULES: Final = {"vmx": "kvm_intel", "svm": "kvm_amd"}


def open_kvm(device: str = DEVICE, *, proc_root: str = PROC, sys_root: str = SYS) -> int:
    """An fd of the device, which the caller closes. Raises PermissionNeeded or Unavailable."""
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise explain(error, device, proc_root=proc_root, sys_root=sys_root) from error
    try:
        version = fcntl.ioctl(fd, _GET_API_VERSION, 0)
    except OSError as error:
        os.close(fd)
        raise _not_kvm(device, error.errno) from error
    if version != _VERSION:
        os.close(fd)
        raise _not_kvm(device, None)
    return fd


def explain(error: OSError, device: str, *, proc_root: str = PROC, sys_root: str = SYS) -> SourceError:
    """Why the device could not be opened."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return _no_permission(device, error.errno)
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        reason, remedy = _why_missing(device, proc_root=proc_root, sys_root=sys_root)
        return Unavailable(reason, remedy=remedy, path=device, errno=error.errno)
    return Unavailable(f"{device}: {error.strerror}", path=device, errno=error.errno)


def _no_permission(device: str, code: int | None) -> PermissionNeeded:
    if os.geteuid() == 0:
        reason, remedy = f"{device} may not be opened, not even by root: a container's device rules", _PASS_IT_IN
    else:
        reason, remedy = f"{device} may not be opened by this user", f"run as root{_or_join_the_group(device)}"
    return PermissionNeeded(reason, remedy=remedy, path=device, errno=code)


def _or_join_the_group(device: str) -> str:
    """The remedy to join the group that may open it, if that is another than root's."""
    try:
        status = os.stat(device)  # noqa: PTH116
        name = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return ""
    return f" or as a member of group {name}" if status.st_gid and status.st_mode & 0o060 == 0o060 else ""


def _why_missing(device: str, *, proc_root: str, sys_root: str) -> tuple[str, str]:
    """Reason and remedy if there is no such device."""
    if is_kvm_there(sys_root=sys_root):
        return f"there is no {device} here, though the kernel has KVM: this is a container without it", _PASS_IT_IN
    if is_sys_hidden(sys_root=sys_root):
        return (
            f"there is no {device} here, and {sys_root} is hidden, which would say whether KVM is loaded",
            _PASS_IT_IN,
        )
    cpu = read_cpu(proc_root=proc_root).value
    if cpu is None:
        return f"there is no {device}: KVM is not loaded", f"load kvm_intel or kvm_amd; {_SIMULATE}"
    module = next((module for flag, module in _MODULES.items() if flag in cpu.flags), None)
    if module is None:
        remedy = "load kvm_intel or kvm_amd where the CPU has VMX or SVM: switch virtualization on in the firmware"
        reason = f"there is no {device}: KVM is not loaded, and this CPU shows no virtualization"
        return reason, f"{remedy}; inside a VM, ask for nested virtualization; {_SIMULATE}"
    return f"there is no {device}: KVM is not loaded", f"modprobe {module}; {_SIMULATE}"


def _not_kvm(device: str, code: int | None) -> Unavailable:
    return Unavailable(
        f"{device} is not KVM's device: it does not answer KVM_GET_API_VERSION",
        remedy=f"look at what {device} is (ls -l; KVM's is a character device 10, 232)",
        path=device,
        errno=code,
    )
