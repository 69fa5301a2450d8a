"""The KVM module that runs VMs here, determined in one place.

On x86 a vendor module runs the VMs (``kvm_intel``, ``kvm_amd``, ``kvm_pvm``); elsewhere there is only ``kvm``. Several
vendor modules can be in /sys/module at once: a loadable one without its hardware does not stay loaded, but a built-in
one always stays. So the CPU decides among built-in ones; if it cannot, the module is unknown, never the first by name.
Source: arch/x86/kvm/vmx/main.c and svm/svm.c (module_init), arch/x86/kvm/x86.c (kvm_x86_vendor_init takes one vendor).
"""

from __future__ import annotations

from typing import Final

from .cpu import read_cpu
from .facts import X86, CpuInfo, Fact, KernelModule
from .files import PROC, SYS
from .kernel import read_architecture
from .modules import module_inode, module_names, read_module

_NEEDS_FLAG: Final = {"kvm_intel": "vmx", "kvm_amd": "svm"}


def read_running_kvm(*, proc_root: str = PROC, sys_root: str = SYS) -> Fact[KernelModule]:
    """The module that runs VMs here, or the reason why it is unknown."""
    return find_running_kvm(read_cpu(proc_root=proc_root), read_architecture(proc_root=proc_root), sys_root=sys_root)


def find_running_kvm(cpu: Fact[CpuInfo], architecture: Fact[str], *, sys_root: str = SYS) -> Fact[KernelModule]:
    """The module that runs VMs, given the CPU and the architecture."""
    names = module_names("kvm_*", sys_root=sys_root)
    modules = [module.value for name in names if (module := read_module(name, sys_root=sys_root)).value is not None]
    if not modules:
        if architecture.value is not None and architecture.value not in X86:
            return read_module("kvm", sys_root=sys_root)
        return Fact.unknown(f"no kvm_* in {sys_root}/module")
    loaded = [module for module in modules if not module.is_built_in]
    flags = cpu.value.flags if cpu.value else frozenset()
    candidates = loaded or [m for m in modules if _NEEDS_FLAG.get(m.name) in (None, *flags)]
    if len(candidates) == 1:
        return Fact(candidates[0])
    names_found = ", ".join(module.name for module in candidates or modules)
    return Fact.unknown(f"it is unknown which is in use: {names_found}")


def running_kvm_name(*, proc_root: str = PROC, sys_root: str = SYS) -> str | None:
    """The name of the module that runs VMs here; None if it is unknown."""
    found = read_running_kvm(proc_root=proc_root, sys_root=sys_root).value
    return found.name if found else None


def is_kvm_there(*, sys_root: str = SYS) -> bool:
    """Whether KVM is loaded or built in."""
    return module_inode("kvm", sys_root=sys_root) is not None
