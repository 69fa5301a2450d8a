"""Guests that run until their count or time is reached, or until Ctrl-C, which is a normal end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from ..console.interrupts import until_ended, until_interrupted
from ..console.progress import progress
from ..units import format_seconds
from . import process
from .spec import LabSpec, Report, RunEnd

_NEVER_S = 10.0 * 365 * 86400
_STOP_TIMEOUT_S = 30.0


def run_guests(
    spec: LabSpec, for_s: float | None, *, stays: bool, show: Callable[[Report], None], note: Callable[[str], None]
) -> Report | None:
    """Runs guests and shows their report; None if they were interrupted before their start.

    ``stays``: after their run, guests are kept idle until Ctrl-C. Then the Ctrl-C that ends the run does not end the
    command; SIGTERM does.
    """
    with process.start(spec) as running:
        ended_by = RunEnd.INTERRUPT
        until = "Ctrl-C" if for_s is None else f"{format_seconds(for_s)} are over"
        with until_interrupted() if stays else until_ended(), progress(f"VMs run {spec.workload} until {until}"):
            running.wait_for_ready()
            running.go()
            ended_by = RunEnd.COUNT if running.wait_for_end(_NEVER_S if for_s is None else for_s) else RunEnd.TIME
        running.stop()
        report = running.wait_for_done(_STOP_TIMEOUT_S)
        report = replace(report, ended_by=RunEnd.FAILURE if report.errors else ended_by)
        show(report)
        if for_s is not None and report.ended_by is RunEnd.COUNT:
            note(f"ended before {format_seconds(for_s)}: every vCPU reached the count")
        if stays and not report.errors:
            with until_ended():
                note("the VMs are idle and stay until Ctrl-C")
                threading.Event().wait()
    return report
