"""The facts of a host that the interpretation of statistics needs, as one value. No I/O; ``machine`` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..linux.facts import CpuInfo, Fact, KernelModule

_NOT_RECORDED: Final = Fact[str].unknown("an older kvmscope, which recorded this, did not read it")


@dataclass(frozen=True, slots=True)
class Machine:
    """``kvm``: the common module. ``kvm_vendor``: the module that runs the VMs (``kvm_intel``, ``kvm_amd``, …).

    On an architecture without vendor modules (arm64, s390, riscv) both are ``kvm``. ``lockdown``: ``none``,
    ``integrity`` or ``confidentiality``. ``clocksource``: the clocksource of the host's kernel.
    """

    hostname: Fact[str]
    kernel_release: Fact[str]
    architecture: Fact[str]
    kvm: Fact[KernelModule]
    kvm_vendor: Fact[KernelModule]
    cpu: Fact[CpuInfo]
    lockdown: Fact[str]
    clocksource: Fact[str] = _NOT_RECORDED
