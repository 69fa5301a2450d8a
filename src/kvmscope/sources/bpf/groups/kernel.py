"""The facts about the running kernel that a plan needs: the module that runs VMs, and the available hooks.

Probed, never compared by version: the module that runs VMs by ``linux.kvm``, hooks by BTF.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from ....errors import Unavailable
from ....linux import btf
from ....linux.files import PROC, SYS
from ....linux.kvm import running_kvm_name


class Isa(Enum):
    """How guests run; the numbers of KVM's tracepoints (KVM_ISA_VMX, KVM_ISA_SVM), and 3, which is kvmscope's."""

    UNKNOWN = 0
    VMX = 1
    SVM = 2
    ARM64 = 3


_ISAS = {"kvm_intel": Isa.VMX, "kvm_amd": Isa.SVM}


@dataclass(frozen=True)
class KernelFacts:
    """The running kernel, or one whose /proc and /sys are captured elsewhere."""

    proc_root: str = PROC
    sys_root: str = SYS
    machine: str = field(default_factory=platform.machine)

    @cached_property
    def isa(self) -> Isa:
        """UNKNOWN if kvmscope does not know the module that runs the VMs."""
        return Isa.ARM64 if self.machine == "aarch64" else _ISAS.get(self.vendor, Isa.UNKNOWN)

    @cached_property
    def vendor(self) -> str:
        """The name of the module that runs the VMs, for messages; ``kvm`` if it is unknown."""
        return running_kvm_name(proc_root=self.proc_root, sys_root=self.sys_root) or "kvm"

    def has_tracepoints(self, names: Iterable[str]) -> frozenset[str]:
        """The subset of ``names`` that are tracepoints of KVM, its vendor module or the kernel itself."""
        return btf.find_tracepoints(names, modules=self._modules)

    def need_tracepoints(self, *names: str, since: str = "") -> None:
        """Raises Unavailable if one of ``names`` is missing; ``since``: the first kernel that has them."""
        if lacking := set(names) - self.has_tracepoints(names):
            came = f", which came with {since}" if since else ""
            raise Unavailable(f"this kernel has no tracepoint {' and no '.join(sorted(lacking))}{came}")

    def has_functions(self, names: Iterable[str]) -> frozenset[str]:
        """The subset of ``names`` that are functions in BTF."""
        return btf.find_functions(names, modules=self._modules)

    @property
    def _modules(self) -> tuple[str, ...]:
        return "kvm", self.vendor
