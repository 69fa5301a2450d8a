"""Whether KVM can give guests a clock that they read without an exit: its master clock, which needs the host's TSC.

Source: arch/x86/kvm/x86.c (gtod_is_based_on_tsc, pvclock_update_vm_gtod_copy: without it kvm-clock lacks
PVCLOCK_TSC_STABLE_BIT), arch/x86/kvm/hyperv.c (kvm_hv_setup_tsc_page: without that bit the reference TSC page is off),
arch/x86/entry/vdso (the vDSO reads kvm-clock with that bit alone); Linux 5.10 to 6.18.
"""

from __future__ import annotations

from typing import Final

from ..linux.facts import X86
from .apicv import HostFlag
from .facts import Machine

_BY_TSC: Final = frozenset({"tsc", "tsc-early", "hyperv_clocksource_tsc_page"})


def has_master_clock(machine: Machine) -> HostFlag:
    """Whether the host's clocksource is the TSC; unknown if it cannot be read, or if this is not an x86 host."""
    clock = machine.clocksource
    if machine.architecture.value not in X86:
        return HostFlag(None, "not an x86 host, or that is not known")
    if clock.value is None:
        return HostFlag(None, clock.reason or "the host's clocksource is not known")
    return HostFlag(clock.value in _BY_TSC, f"the host's clocksource is {clock.value}")
