"""VMs on arm64 for the scripts inside the emulated arm64 kernel: each vCPU writes to an address that has no memory.

Source: Documentation/virt/kvm/api.rst; arch/arm64/include/uapi/asm/kvm.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
from typing import Self

_CREATE_VM, _GET_VCPU_MMAP_SIZE, _CREATE_VCPU, _RUN, _GET_STATS_FD = 0xAE01, 0xAE04, 0xAE41, 0xAE80, 0xAECE
_SET_USER_MEMORY_REGION, _SET_ONE_REG = 0x4020_AE46, 0x4010_AEAC
_ARM_VCPU_INIT, _ARM_PREFERRED_TARGET = 0x4020_AEAE, 0x8020_AEAF
_EXIT_MMIO = 6
_REG_X0, _REG_PC = 0x6030_0000_0010_0000, 0x6030_0000_0010_0040
_RAM, _SIZE, _UNBACKED = 0x4000_0000, 0x10000, 0x1000_0000
_CODE = struct.pack("<II", 0xB900_0001, 0x17FF_FFFF)  # 1: str w1, [x0]; b 1b


class ArmVm:
    """One VM with a few vCPUs."""

    def __init__(self, *vcpu_ids: int) -> None:
        self._kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        self.fd = fcntl.ioctl(self._kvm, _CREATE_VM, 0)
        self._memory = mmap.mmap(-1, _SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory[: len(_CODE)] = _CODE
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        fcntl.ioctl(self.fd, _SET_USER_MEMORY_REGION, struct.pack("=IIQQQ", 0, 0, _RAM, _SIZE, address))
        self.vcpus = {vcpu_id: self._create_vcpu(vcpu_id) for vcpu_id in vcpu_ids}
        self._states = {
            vcpu_id: mmap.mmap(fd, fcntl.ioctl(self._kvm, _GET_VCPU_MMAP_SIZE)) for vcpu_id, fd in self.vcpus.items()
        }

    def run(self, vcpu_id: int, times: int) -> None:
        """Let a vCPU write ``times`` times; each write ends a KVM_RUN."""
        for _ in range(times):
            fcntl.ioctl(self.vcpus[vcpu_id], _RUN, 0)
            (reason,) = struct.unpack_from("=I", self._states[vcpu_id], 8)
            assert reason == _EXIT_MMIO, f"KVM_RUN ended with {reason}"

    def stats_fds(self) -> dict[int | None, int]:
        """By vCPU id; None for the VM's own."""
        return {key: fcntl.ioctl(fd, _GET_STATS_FD, 0) for key, fd in ((None, self.fd), *self.vcpus.items())}

    def close(self) -> None:
        for state in self._states.values():
            state.close()
        for fd in (*self.vcpus.values(), self.fd, self._kvm):
            os.close(fd)
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _create_vcpu(self, vcpu_id: int) -> int:
        fd = fcntl.ioctl(self.fd, _CREATE_VCPU, vcpu_id)
        target = bytearray(32)
        fcntl.ioctl(self.fd, _ARM_PREFERRED_TARGET, target)
        fcntl.ioctl(fd, _ARM_VCPU_INIT, target)
        for register, value in ((_REG_PC, _RAM), (_REG_X0, _UNBACKED + 4 * vcpu_id)):
            word = ctypes.c_uint64(value)
            fcntl.ioctl(fd, _SET_ONE_REG, struct.pack("=QQ", register, ctypes.addressof(word)))
        return fd
