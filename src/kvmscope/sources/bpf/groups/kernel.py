"""What a plan needs to know of the running kernel: who runs its VMs, and which hooks it has.

Probed, never compared by version: modules by /sys/module, the CPU by /proc/cpuinfo, hooks by BTF.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path

from .. import btf

_SYS_MODULE = Path("/sys/module")
_CPUINFO = Path("/proc/cpuinfo")


class Isa(Enum):
    """How guests run; by the numbers that KVM's tracepoints have for it (KVM_ISA_VMX, KVM_ISA_SVM), 3 being ours."""

    UNKNOWN = 0
    VMX = 1
    SVM = 2
    ARM64 = 3


_VENDORS = {Isa.VMX: ("kvm_intel", "vmx"), Isa.SVM: ("kvm_amd", "svm")}


@dataclass(frozen=True)
class KernelFacts:
    """The running kernel, or one whose /sys/module and /proc/cpuinfo are elsewhere."""

    sys_module: Path = field(default=_SYS_MODULE)
    cpuinfo: Path = field(default=_CPUINFO)
    machine: str = field(default_factory=platform.machine)

    @cached_property
    def isa(self) -> Isa:
        """UNKNOWN if what runs the VMs is not one of those that kvmscope knows."""
        if self.machine == "aarch64":
            return Isa.ARM64
        flags = self._cpu_flags()
        for isa, (module, flag) in _VENDORS.items():
            if flag in flags and (self.sys_module / module).is_dir():
                return isa
        return Isa.UNKNOWN

    @cached_property
    def vendor(self) -> str:
        """Name of the module that runs the VMs, for people."""
        if self.isa in _VENDORS:
            return _VENDORS[self.isa][0]
        return next((path.name for path in sorted(self.sys_module.glob("kvm_*"))), "kvm")

    def has_tracepoints(self, names: Iterable[str]) -> frozenset[str]:
        """Those of ``names`` that are tracepoints of KVM, its vendor module or the kernel itself."""
        return btf.find_tracepoints(names, modules=self._modules)

    def has_functions(self, names: Iterable[str]) -> frozenset[str]:
        """The same of functions, as far as BTF has them."""
        return btf.find_functions(names, modules=self._modules)

    @property
    def _modules(self) -> tuple[str, ...]:
        return "kvm", self.vendor

    def _cpu_flags(self) -> frozenset[str]:
        for line in self.cpuinfo.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
        return frozenset()
