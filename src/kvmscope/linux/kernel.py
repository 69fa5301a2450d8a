"""The kernel itself: release, architecture, host name, lockdown, clocksource.

Source: kernel/utsname_sysctl.c (``arch`` since Linux 6.1), security/lockdown/lockdown.c, kernel/time/clocksource.c.
"""

from __future__ import annotations

import os
import re

from .facts import Fact
from .files import PROC, SYS, read_line, read_text

LOCKDOWN_FILE = "kernel/security/lockdown"
"""Below /sys."""


def read_hostname(*, proc_root: str = PROC) -> Fact[str]:
    return read_line(f"{proc_root}/sys/kernel/hostname")


def read_release(*, proc_root: str = PROC) -> Fact[str]:
    return read_line(f"{proc_root}/sys/kernel/osrelease")


def read_architecture(*, proc_root: str = PROC) -> Fact[str]:
    """The architecture, as in ``uname -m``."""
    found = read_line(f"{proc_root}/sys/kernel/arch")
    if found.value is None and proc_root == PROC:
        return Fact(os.uname().machine)
    return found


def read_clocksource(*, sys_root: str = SYS) -> Fact[str]:
    """The current clocksource: ``tsc``, ``hpet``, ``kvm-clock``, …"""
    return read_line(f"{sys_root}/devices/system/clocksource/clocksource0/current_clocksource")


def read_lockdown(*, sys_root: str = SYS) -> Fact[str]:
    """The level in force: ``none``, ``integrity`` or ``confidentiality``.

    The file is in securityfs, which is not always mounted and is not mounted here.
    """
    path = f"{sys_root}/{LOCKDOWN_FILE}"
    text = read_text(path)
    if text.value is None:
        return Fact.unknown(f"{text.reason} (securityfs not mounted, or the kernel has no lockdown)")
    chosen = re.search(r"\[(\w+)\]", text.value)
    return Fact(chosen[1]) if chosen else Fact.unknown(f"{path} marks no level as chosen")
