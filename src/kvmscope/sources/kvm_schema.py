"""The schemas of this kernel's own statistics, read from stats fds of a temporary VM.

All VMs of a kernel share one table of descriptors, so those of an empty VM describe every other. The VM is destroyed
afterwards. Not a source: it reads no statistics.
Source: Documentation/virt/kvm/api.rst, 4.133; the ioctl numbers are those of x86, arm64, riscv, s390 and loongarch.
"""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass

from ..codec.statsfile import parse
from ..errors import SourceError, Unavailable
from ..linux.kvm_device import DEVICE, open_kvm
from ..schema import Schema, Scope

PROVIDER = "kvm"

_KVM_CREATE_VM = 0xAE01
_KVM_CREATE_VCPU = 0xAE41
_KVM_GET_STATS_FD = 0xAECE
_LARGEST_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class KvmSchemas:
    """The schemas of the running kernel's two stats files; ``files``: their bytes as read (for attach)."""

    vm: Schema
    vcpu: Schema
    files: tuple[bytes, bytes]

    @classmethod
    def from_files(cls, vm: bytes, vcpu: bytes) -> KvmSchemas:
        """Parse two stats files. Raises FormatError if either is invalid."""
        return cls(_schema(vm, Scope.VM), _schema(vcpu, Scope.VCPU), (vm, vcpu))


def _schema(data: bytes, scope: Scope) -> Schema:
    return parse(data).schema(PROVIDER, scope)


def read_kvm_schemas(device: str = DEVICE) -> KvmSchemas:
    """Read the schemas of the running kernel. Raises PermissionNeeded or Unavailable if ``device`` cannot be used."""
    opened: list[int] = []

    def keep(fd: int) -> int:
        opened.append(fd)
        return fd

    try:
        kvm = keep(open_kvm(device))
        vm = keep(fcntl.ioctl(kvm, _KVM_CREATE_VM, 0))
        vcpu = keep(fcntl.ioctl(vm, _KVM_CREATE_VCPU, 0))
        files = [os.pread(keep(fcntl.ioctl(owner, _KVM_GET_STATS_FD)), _LARGEST_FILE, 0) for owner in (vm, vcpu)]
    except OSError as error:
        raise _explain(error, device) from error
    finally:
        for fd in reversed(opened):
            os.close(fd)
    return KvmSchemas.from_files(*files)


def _explain(error: OSError, device: str) -> SourceError:
    if error.errno in (errno.ENOTTY, errno.EINVAL):
        return Unavailable(
            "this kernel has no binary statistics (KVM_GET_STATS_FD)",
            remedy="Linux 5.14 or later",
            path=device,
            errno=error.errno,
        )
    return Unavailable(f"{device}: {error.strerror}", path=device, errno=error.errno)
