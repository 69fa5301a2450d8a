"""Reads the facts of this host: kernel, KVM module and its parameters, CPU, lockdown, clocksource.

Nothing is mounted, written or executed. What the facts mean for a statistic is not said here.

Rule: an unavailable fact is a ``Fact`` without a value but with the reason, never a default.
"""

from __future__ import annotations

from ..linux.cpu import read_cpu
from ..linux.files import PROC, SYS
from ..linux.kernel import read_architecture, read_clocksource, read_hostname, read_lockdown, read_release
from ..linux.kvm import find_running_kvm
from ..linux.modules import read_module
from .facts import Machine


def read_machine(*, proc_root: str = PROC, sys_root: str = SYS) -> Machine:
    """Every fact of the host; never raises for a missing one."""
    architecture = read_architecture(proc_root=proc_root)
    cpu = read_cpu(proc_root=proc_root)
    return Machine(
        hostname=read_hostname(proc_root=proc_root),
        kernel_release=read_release(proc_root=proc_root),
        architecture=architecture,
        kvm=read_module("kvm", sys_root=sys_root),
        kvm_vendor=find_running_kvm(cpu, architecture, sys_root=sys_root),
        cpu=cpu,
        lockdown=read_lockdown(sys_root=sys_root),
        clocksource=read_clocksource(sys_root=sys_root),
    )
