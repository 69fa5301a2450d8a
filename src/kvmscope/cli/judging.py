"""The verdict on interrupt acceleration for what a command has read; for every command that shows some of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..analysis.apicv import Verdicts, WhatIf
    from ..analysis.window import Window
    from ..host.apicv import HostApicv
    from ..host.config import InterruptConfig
    from ..host.machine import Machine
    from .session import Reading


def judge_reading(reading: Reading, machine: Machine, window: Window | None = None) -> Verdicts:
    """Every VM of the reading, judged by its state, this machine and the VMMs' command lines."""
    from ..analysis.apicv import judge

    return judge(reading.sample, _host(machine), _configs(reading), window)


def foresee(reading: Reading, machine: Machine, window: Window | None = None) -> tuple[WhatIf, ...]:
    """Every VM of the reading, as it would be with APICv or AVIC switched on."""
    from ..analysis.apicv import what_if

    return what_if(reading.sample, _host(machine), _configs(reading), window)


def _host(machine: Machine) -> HostApicv:
    from ..host.apicv import host_apicv

    return host_apicv(machine)


def _configs(reading: Reading) -> list[InterruptConfig]:
    from ..host.config import read_config

    return [read_config(identity.process) for identity in reading.identities]
