"""The columns of a live table of VMs: their definitions, the choice of those that fit a width, and their cells.

The width of a column does not depend on its values, so a table keeps its layout while values change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from ..catalog.findings import Severity
from ..catalog.metrics import Metric, MetricUnit, load_metrics
from ..host.text import printable
from ..sample import VmId
from ..units import NOT_KNOWN_SIGN, format_estimate, format_seconds
from .history import BLOCKS, History
from .overview import VmOverview
from .overview_text import apicv_text
from .text import Span, Style, format_metric
from .trouble import BY_COST, NAME, VmTrouble

HISTORY_METRIC: Final = "exits_per_s"
"""The metric that the sparkline shows."""

DEFAULT_COLUMNS: Final = (
    "finding",
    "apicv",
    "run_delay_vcpus",
    "exits_per_s",
    "history",
    "vmm_return_share",
    "vcpus",
    "vcpu_cpus",
    "exits_halt_share",
    "halt_poll_fail_share",
    "halt_poll_cpus",
    "exits_io_share",
    "page_faults_per_s",
    "pf_fast_share",
    "halts_per_s",
    "vmm_returns_per_s",
    "io_exits_per_s",
    "injections_per_s",
    "halt_wait_p50_s",
    "halted_vcpus",
    "vmm",
    "pid",
)
"""In order of importance, which is the order on the screen; columns that do not fit are left out."""

ALWAYS: Final = ("mark", "name", "cost")
"""Columns that cannot be switched off."""

_SPELLINGS: Final = {Severity.PROBLEM: "!!", Severity.WARNING: "!", Severity.INFO: "i"}
_STYLES: Final = {Severity.PROBLEM: Style.PROBLEM, Severity.WARNING: Style.WARNING}
_WIDTHS: Final = {
    MetricUnit.PER_SECOND: 6,
    MetricUnit.COUNT: 6,
    MetricUnit.CPUS: 10,
    MetricUnit.VCPUS: 11,
    MetricUnit.SHARE: 7,
    MetricUnit.SECONDS: 8,
    MetricUnit.BYTES: 9,
    MetricUnit.BYTES_PER_SECOND: 11,
    MetricUnit.RATIO: 6,
}
_WIDE_APICV: Final = 12
WIDE: Final = 120
"""Columns of a screen that is wide enough for whole names."""

_NOUGHTS: Final = ("0", "0 %", "0 CPU", NOT_KNOWN_SIGN)


@dataclass(frozen=True, slots=True)
class VmColumn:
    """A column. ``key``: its name in settings; a metric's column has the metric's name.

    ``roomy``: its width on a wide screen. ``most``: the width that it can grow to. ``sorts_by``: the sort key that a
    click on its header selects, if any.
    """

    key: str
    title: str
    width: int
    help: str
    is_text: bool = False
    roomy: int = 0
    most: int = 0
    sorts_by: str = ""
    is_metric: bool = False


@cache
def vm_columns() -> Mapping[str, VmColumn]:
    """Every column by its key."""
    own = (
        VmColumn("mark", "", 1, "Whether the VM is marked.", is_text=True),
        VmColumn("name", "VM", 13, "Name of the VM.", is_text=True, roomy=20, most=32, sorts_by=NAME),
        VmColumn("cost", "costs", 9, "CPUs that its findings cost together, about.", sorts_by=BY_COST),
        VmColumn(
            "finding",
            "finding",
            17,
            "Its most urgent finding, and how many rules found more. !! problem, ! warning, i info.",
            is_text=True,
            roomy=26,
            most=28,
            sorts_by=BY_COST,
        ),
        VmColumn("apicv", "APICv", 7, "Interrupt acceleration: yes, or the reason.", is_text=True, roomy=12, most=24),
        VmColumn(
            "history",
            "history",
            8,
            "Exits per second in the last intervals.",
            is_text=True,
            most=60,
        ),
        VmColumn("vcpus", "vCPUs", 5, "Number of vCPUs."),
        VmColumn("vmm", "VMM", 12, "The program that is its VMM.", is_text=True, most=16),
        VmColumn("pid", "PID", 7, "Process id of its VMM."),
    )
    metrics = (
        VmColumn(
            each.name,
            each.title,
            max(len(each.title), _WIDTHS[each.unit]),
            each.help,
            sorts_by=each.name,
            is_metric=True,
        )
        for each in load_metrics()
    )
    return {column.key: column for column in (*own, *metrics)}


def fitting_columns(wanted: Sequence[str], width: int, *, gap: int) -> tuple[VmColumn, ...]:
    """The columns of ``wanted`` that fit a table of this width, widened by the space that is left."""
    there = vm_columns() if width < WIDE else _roomy_columns()
    left, chosen = width + gap, []
    for key in dict.fromkeys((*ALWAYS, *wanted)):
        column = there.get(key)
        if column is not None and column.width + gap <= left:
            left -= column.width + gap
            chosen.append(column)
    return _grown(chosen, left)


@cache
def _roomy_columns() -> Mapping[str, VmColumn]:
    return {key: replace(each, width=max(each.width, each.roomy)) for key, each in vm_columns().items()}


_GROWING: Final = ("finding", "name", "apicv", "history")


def _grown(columns: Sequence[VmColumn], left: int) -> tuple[VmColumn, ...]:
    """The columns with ``left`` more cells; the columns that are cut most often get them first."""
    grown = {column.key: column for column in columns}
    for key in _GROWING:
        column = grown.get(key)
        if column is not None:
            more = min(left, column.most - column.width)
            left -= more
            grown[key] = replace(column, width=column.width + more)
    return tuple(grown.values())


@cache
def _metrics() -> Mapping[str, Metric]:
    return {metric.name: metric for metric in load_metrics()}


@dataclass(frozen=True, slots=True)
class VmCells:
    """Makes the cells of VMs. ``levels``: the characters of sparklines."""

    troubles: Mapping[VmId, VmTrouble]
    history: History
    levels: str = BLOCKS

    def cell(self, column: VmColumn, vm: VmOverview) -> Span:
        """The cell of a VM in a column, not yet cut or padded."""
        make = _OWN_CELLS.get(column.key)
        if make is not None:
            return make(self, vm, column.width)
        return metric_span(column.key, vm.metrics.get(column.key), is_partial=column.key in vm.partial)

    def history_cell(self, vm: VmOverview, width: int) -> Span:
        values = self.history.of_vm(vm.id, HISTORY_METRIC)
        return Span(self.history.sparkline(values, width, levels=self.levels))

    def cost_cell(self, vm: VmOverview, _width: int) -> Span:
        trouble = self.troubles.get(vm.id)
        if trouble is None:
            return Span("")
        if trouble.cost_cpus is not None:
            return Span(f"{format_estimate(trouble.cost_cpus)} CPU")
        return Span("" if trouble.lost_vcpus is None else f"{format_estimate(trouble.lost_vcpus)} vCPU")

    def finding_cell(self, vm: VmOverview, width: int) -> Span:
        if vm.silent_s is not None:
            return Span(f"VMM silent {format_seconds(vm.silent_s)}", Style.ALERT)
        trouble = self.troubles.get(vm.id)
        if trouble is None:
            return Span("")
        more = f" +{trouble.rules - 1}" if trouble.rules > 1 else ""
        sign = severity_sign(trouble.severity)
        rule = printable(trouble.rule, max_length=max(1, width - len(sign) - 1 - len(more)))
        return Span(f"{sign} {rule}{more}", _STYLES.get(trouble.severity, Style.PLAIN))


_OWN_CELLS: Final[Mapping[str, Callable[[VmCells, VmOverview, int], Span]]] = {
    "name": lambda _cells, vm, width: Span(printable(vm.name or str(vm.id), max_length=width)),
    "cost": VmCells.cost_cell,
    "finding": VmCells.finding_cell,
    "apicv": lambda _cells, vm, width: Span(apicv_text(vm.apicv, is_wide=width >= _WIDE_APICV)),
    "history": VmCells.history_cell,
    "vcpus": lambda _cells, vm, _width: Span(str(len(vm.vcpus))),
    "vmm": lambda _cells, vm, width: Span(printable(vm.vmm or NOT_KNOWN_SIGN, max_length=width)),
    "pid": lambda _cells, vm, _width: Span(NOT_KNOWN_SIGN if vm.pid is None else str(vm.pid)),
}
"""Functions that make the cells of columns that are not metrics, from a VM and a width."""


def severity_sign(severity: Severity) -> str:
    """A severity in one or two characters."""
    return _SPELLINGS[severity]


def severity_style(severity: Severity) -> Style:
    """The style of a finding of this severity."""
    return _STYLES.get(severity, Style.PLAIN)


def metric_span(name: str, value: float | None, *, is_partial: bool = False) -> Span:
    """A metric's value; zeros and unknown values are dimmed."""
    text = format_metric(_metrics()[name].unit, value, partial=is_partial)
    return Span(text, Style.DIM if text in _NOUGHTS else Style.PLAIN)
