"""Reports of guests and the list of workloads, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from ..units import format_count, format_seconds
from ..view.text import columns
from .spec import Report, VcpuReport, VmReport
from .workloads import WORKLOADS

_HEAD = ("VM", "PID", "vCPU", "TID", "state", "did", "IRQs", "time", "exits")
_RIGHT = tuple(place for place, title in enumerate(_HEAD) if title not in ("VM", "state", "exits"))


def workload_lines() -> list[str]:
    """A line for each workload."""
    rows = [(workload.name, workload.does) for workload in WORKLOADS.values()]
    no_guests = [
        ("bare", "(no guest: VMs that are made and never run)"),
        ("churn", "(no guest: VMs are made and unmade without pause, N times)"),
    ]
    return columns([*rows, *no_guests])


def report_lines(report: Report) -> list[str]:
    """A line for each vCPU, and for each VM that has none."""
    return columns([_HEAD, *(row for vm in report.vms for row in _rows(vm))], right=_RIGHT)


def _rows(vm: VmReport) -> Iterator[tuple[str, ...]]:
    blank = ("",) * (len(_HEAD) - 6)
    if vm.churned is not None:
        yield vm.name, str(vm.pid), "", "", "churned", str(vm.churned), *blank
    elif not vm.vcpus:
        yield vm.name, str(vm.pid), "", "", "bare", "", *blank
    for vcpu in vm.vcpus:
        yield vm.name, str(vm.pid), *_vcpu_cells(vcpu)


def _vcpu_cells(vcpu: VcpuReport) -> Iterator[str]:
    yield from map(str, (vcpu.id, vcpu.tid, vcpu.state.value, vcpu.did, vcpu.interrupts))
    yield format_seconds(vcpu.elapsed_s)
    yield " ".join(f"{reason}:{format_count(count)}" for reason, count in vcpu.exits.items())
