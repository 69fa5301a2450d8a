"""Reads the facts of this host: kernel, KVM module and its parameters, CPU, lockdown, clocksource.

Nothing is mounted, written or executed. Not here: the meaning of the facts for a statistic.

Rule: an unavailable fact is a ``Fact`` without a value but with the reason, never a default.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ..linux.cpu import read_cpu
from ..linux.files import PROC, SYS
from ..linux.kernel import read_architecture, read_clocksource, read_hostname, read_lockdown, read_release
from ..linux.kvm import find_running_kvm
from ..linux.modules import read_module
from .facts import Machine

AGAIN_S: Final = 10.0
"""KVM's parameters and the host's clocksource can change at any time. Reading all facts takes a millisecond."""


class WatchedMachine:
    """The facts of the host, read again after ``AGAIN_S``; the same object as long as they are equal."""

    def __init__(
        self, read: Callable[[], Machine] | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read or read_machine
        self._clock = clock
        self._found = self._read()
        self._read_at = clock()

    @property
    def now(self) -> Machine:
        """The facts, at most ``AGAIN_S`` old."""
        now = self._clock()
        if now - self._read_at >= AGAIN_S:
            found = self._read()
            self._found, self._read_at = self._found if found == self._found else found, now
        return self._found


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
