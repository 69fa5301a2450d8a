"""The facts of a host that statistics are judged by, as one value. No I/O; ``machine`` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..linux.facts import CpuInfo, Fact, KernelModule

_NOT_RECORDED: Final = Fact[str].unknown("an older kvmscope, which recorded this, did not read it")


@dataclass(frozen=True, slots=True)
class Machine:
    """``kvm``: the common module. ``kvm_vendor``: the one that does the work (``kvm_intel``, ``kvm_amd``, …).

    On an architecture without such a split (arm64, s390, riscv) both are ``kvm``. ``lockdown``: ``none``,
    ``integrity`` or ``confidentiality``. ``clocksource``: the clock that the host's kernel keeps time by.
    """

    hostname: Fact[str]
    kernel_release: Fact[str]
    architecture: Fact[str]
    kvm: Fact[KernelModule]
    kvm_vendor: Fact[KernelModule]
    cpu: Fact[CpuInfo]
    lockdown: Fact[str]
    clocksource: Fact[str] = _NOT_RECORDED
