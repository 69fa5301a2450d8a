"""The lines of a host's overview, and of one VM with its vCPUs.

The catalogue of metrics defines the columns; this module decides which of them fit a width.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, TypeAlias

from ..analysis.apicv import State
from ..catalog.findings import Severity
from ..catalog.metrics import Metric, load_metrics
from ..host.text import printable
from ..sample import VmId
from ..units import NOT_KNOWN_SIGN, format_seconds
from .findings import ReportedFinding
from .findings_text import summary
from .overview import ApicvSummary, Overview, VcpuOverview, VmOverview
from .text import (
    SIMULATED,
    Line,
    Span,
    Style,
    cells,
    counted,
    cut,
    few,
    fill,
    format_metric,
    no_vm_line,
    note_lines,
    padded,
    styled,
)

BUSIEST: Final = "exits_per_s"
VMS_SHOWN: Final = 20

_WIDE = 100
_NAME_MAX, _NAME_MAX_NARROW = 32, 18
_GAP = 2
_FINDINGS_SHOWN = 5
_FIRST = ("exits_per_s", "vmm_returns_per_s", "halts_per_s", "halt_poll_cpus", "page_faults_per_s", "io_exits_per_s")
_STYLES = {Severity.PROBLEM: Style.PROBLEM, Severity.WARNING: Style.WARNING}
_APICV_WORDS = {State.ACTIVE: "yes", State.PENDING: "not yet", State.UNSUPPORTED: "none"}


def overview_lines(overview: Overview, rows: Sequence[int], *, width: int, by: str = BUSIEST) -> Iterator[Line]:
    """The screen of a host. ``rows``: the VMs to show, in order. ``by``: the metric that chose them."""
    yield from _head_lines(overview, _title(overview), width)
    if not overview.vms:
        for line in fill(no_vm_line(overview.source.name, overview.gaps), width=width, hang=""):
            yield styled(line)
    else:
        yield from _vm_table(overview, [overview.vms[row] for row in rows], width)
        yield styled("")
        yield from _finding_lines(overview, width)
    for note in _notes(overview, len(overview.vms) - len(rows), by):
        yield styled(note, Style.DIM)


def vm_lines(overview: Overview, *, width: int, vcpu: int | None = None) -> Iterator[Line]:
    """The screen of the one VM in ``overview``, with one line per vCPU, or the line of ``vcpu`` alone."""
    (vm,) = overview.vms
    yield from _head_lines(overview, _vm_title(overview, vm), width)
    yield from _vcpu_table(vm, width, vcpu)
    yield styled("")
    yield from _finding_lines(overview, width)
    for note in _vm_notes(overview, vm):
        yield styled(note, Style.DIM)


def rows_shown(overview: Overview, *, by: str = BUSIEST, limit: int = VMS_SHOWN) -> list[int]:
    """Places of the VMs with the largest values of a metric; if ``by`` is ``name``, in the order of their names."""
    if by == "name":
        return sorted(range(len(overview.vms)), key=overview.vms.names.__getitem__)[:limit]
    return overview.vms.largest_first(by)[:limit]


def kept_in_place(before: Sequence[VmId], wanted: Sequence[VmId]) -> list[VmId]:
    """``wanted`` reordered so that VMs of ``before`` keep their places, as far as there is room."""
    stay, come = set(wanted), iter([vm for vm in wanted if vm not in set(before)])
    kept = [vm if vm in stay else next(come, None) for vm in before[: len(wanted)]]
    late = [vm for vm in before[len(wanted) :] if vm in stay]
    return [vm for vm in (*kept, *late, *come) if vm is not None]


# --- head -------------------------------------------------------------------------------------------------------------


def _head_lines(overview: Overview, title: str, width: int) -> Iterator[Line]:
    if overview.simulated:
        yield styled(SIMULATED, Style.ALERT)
    for line in fill(title, width=width):
        yield styled(line, Style.HEAD)
    yield styled("")


def _title(overview: Overview) -> str:
    host = overview.host
    parts = (
        printable(host.name or "this host"),
        f"Linux {host.kernel or '?'}",
        host.kvm_module,
        f"{counted(overview.total.vms, 'VM')}, {counted(overview.total.vcpus, 'vCPU')}",
        f"{format_seconds(overview.interval_s)} by {overview.source.name}",
    )
    return " · ".join(part for part in parts if part)


def _vm_title(overview: Overview, vm: VmOverview) -> str:
    parts = (
        printable(vm.name),
        None if vm.uuid is None else printable(vm.uuid),
        None if vm.vmm is None else printable(vm.vmm, max_length=16),
        None if vm.pid is None else f"pid {vm.pid}",
        None if vm.managed_by is None else f"by {printable(vm.managed_by, max_length=16)}",
        *(f"{word} {printable(name)}" for word, name in vm.known_as.items() if name not in (vm.name, vm.uuid)),
        None if vm.clue is None else printable(vm.clue),
        f"APICv {apicv_text(vm.apicv, is_wide=True)}" if vm.apicv.state is not State.UNKNOWN else None,
        f"{format_seconds(overview.interval_s)} by {overview.source.name}",
    )
    return " · ".join(part for part in parts if part)


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextColumn:
    """One column: its header, a cell for each row, and a cell for the total."""

    title: str
    cells: Sequence[str]
    total: str = ""
    is_text: bool = False

    @cached_property
    def width(self) -> int:
        return max(map(cells, (self.title, *self.cells, self.total)))


def _table(columns: Sequence[TextColumn], *, has_total: bool) -> Iterator[Line]:
    yield _row(columns, [column.title for column in columns], lambda _: Style.HEAD)
    for row in range(len(columns[0].cells)):
        yield _row(columns, [column.cells[row] for column in columns], _style)
    if has_total:
        yield _row(columns, [column.total for column in columns], lambda _: Style.HEAD)


def _row(columns: Sequence[TextColumn], texts: Sequence[str], style: Callable[[str], Style]) -> Line:
    spans = []
    for column, text in zip(columns, texts, strict=True):
        gap = "" if column is columns[-1] else " " * _GAP
        spans.append(Span(padded(text, column.width, not column.is_text) + gap, style(text)))
    return tuple(spans)


def _style(cell: str) -> Style:
    return Style.DIM if cell in ("0", "0 %", "0 CPU", NOT_KNOWN_SIGN) else Style.PLAIN


def _fitting(order: Sequence[TextColumn], by_importance: Sequence[TextColumn], width: int) -> list[TextColumn]:
    """The columns of ``order`` that fit ``width``; the more important ones are placed first."""
    left, chosen = width + _GAP, []
    for column in by_importance:
        if column.width + _GAP <= left:
            left -= column.width + _GAP
            chosen.append(column)
    return [column for column in order if any(column is other for other in chosen)]


def _vm_table(overview: Overview, shown: Sequence[VmOverview], width: int) -> Iterator[Line]:
    is_wide = width >= _WIDE
    longest = _NAME_MAX if is_wide else _NAME_MAX_NARROW
    name = TextColumn("VM", [printable(vm.name, max_length=longest) for vm in shown], "total", is_text=True)
    vmm = TextColumn("VMM", [_vmm(vm) for vm in shown], is_text=True)
    pid = TextColumn("PID", [NOT_KNOWN_SIGN if vm.pid is None else str(vm.pid) for vm in shown])
    count = TextColumn("vCPUs", [str(len(vm.vcpus)) for vm in shown], str(overview.total.vcpus))
    apicv = [_apicv_column(shown, is_wide)] if any(vm.apicv.state is not State.UNKNOWN for vm in shown) else []
    total = (overview.total.metrics, overview.total.partial)
    metrics = _metric_columns([(vm.metrics, vm.partial) for vm in shown], total)
    first = [metrics[metric] for metric in _FIRST if metric in metrics]
    order = [name, vmm, pid, count, *apicv, *metrics.values()]
    by_importance = [name, count, *apicv, *first[:4], pid, *first[4:], vmm, *metrics.values()]
    yield from _table(_fitting(order, _distinct(by_importance), width), has_total=len(overview.vms) > 1)


def _vcpu_table(vm: VmOverview, width: int, only: int | None) -> Iterator[Line]:
    shown = [vcpu for vcpu in vm.vcpus if only is None or vcpu.id == only]
    name = TextColumn("vCPU", [str(vcpu.id) for vcpu in shown], "total")
    tid = TextColumn("TID", [NOT_KNOWN_SIGN if vcpu.tid is None else str(vcpu.tid) for vcpu in shown])
    apicv = [_active_column(shown)] if any(vcpu.apicv_active is not None for vcpu in shown) else []
    metrics = _metric_columns([(vcpu.metrics, ()) for vcpu in shown], (vm.metrics, vm.partial))
    order = [name, tid, *apicv, *metrics.values()]
    first = [metrics[metric] for metric in _FIRST if metric in metrics]
    columns = _fitting(order, _distinct([name, *apicv, *first[:4], tid, *first[4:], *metrics.values()]), width)
    yield from _table(columns, has_total=len(shown) > 1)


MetricCells: TypeAlias = tuple[Mapping[str, float | None], Container[str]]
"""The metrics of a subject, and the names of the metrics that lack some vCPUs."""


def _distinct(columns: Sequence[TextColumn]) -> list[TextColumn]:
    return list({id(column): column for column in columns}.values())


def _metric_columns(rows: Sequence[MetricCells], total: MetricCells) -> dict[str, TextColumn]:
    """A column for each metric of the screen with a known value, by the metric's name."""
    on_screen = [metric for metric in load_metrics() if metric.column]
    known = [metric for metric in on_screen if total[0].get(metric.name) is not None]
    return {metric.name: _metric_column(metric, rows, total) for metric in known or on_screen}


def _metric_column(metric: Metric, rows: Sequence[MetricCells], total: MetricCells) -> TextColumn:
    def cell(values: Mapping[str, float | None], partial: Container[str]) -> str:
        return format_metric(metric.unit, values.get(metric.name), partial=metric.name in partial)

    return TextColumn(metric.title, [cell(*row) for row in rows], cell(*total))


def _apicv_column(shown: Sequence[VmOverview], is_wide: bool) -> TextColumn:
    """Whether interrupts are accelerated, or the reason why not; `kvmscope apicv` has the details."""
    return TextColumn("APICv", [apicv_text(vm.apicv, is_wide=is_wide) for vm in shown], is_text=True)


def _active_column(shown: Sequence[VcpuOverview]) -> TextColumn:
    words = {True: "yes", False: "no", None: NOT_KNOWN_SIGN}
    return TextColumn("APICv", [words[vcpu.apicv_active] for vcpu in shown], is_text=True)


def apicv_text(apicv: ApicvSummary, *, is_wide: bool) -> str:
    """Whether interrupts are accelerated, in a word; ``is_wide``: with the reason."""
    if apicv.state is State.INHIBITED:
        return _reason_text(apicv) if is_wide else "no"
    if apicv.is_partial:
        return "in part" if is_wide else "part"
    return _APICV_WORDS.get(apicv.state, NOT_KNOWN_SIGN)


def _reason_text(apicv: ApicvSummary) -> str:
    more = f" +{len(apicv.reasons) - 1}" if len(apicv.reasons) > 1 else ""
    return f"no: {apicv.reasons[0].name}{more}"


def _vmm(vm: VmOverview) -> str:
    return printable(vm.vmm or NOT_KNOWN_SIGN, max_length=16)


# --- below the table --------------------------------------------------------------------------------------------------


def _finding_lines(overview: Overview, width: int) -> Iterator[Line]:
    """One line per rule that fired, the most urgent first; `kvmscope doctor` has the details."""
    of_rule: dict[str, list[ReportedFinding]] = {}
    for finding in overview.findings:
        of_rule.setdefault(finding.rule, []).append(finding)
    if not of_rule:
        return
    for found in list(of_rule.values())[:_FINDINGS_SHOWN]:
        yield styled(_rule_text(found, width), _STYLES.get(found[0].severity, Style.PLAIN))
    more = len(of_rule) - _FINDINGS_SHOWN
    rest = f"… and findings of {counted(more, 'more rule')}; " if more > 0 else ""
    yield styled(f"{rest}run `kvmscope doctor` for causes and fixes", Style.DIM)
    yield styled("")


def _rule_text(found: Sequence[ReportedFinding], width: int) -> str:
    """The findings of one rule in a line: the VM or vCPU, or the number of VMs and their total cost."""
    first = found[0]
    names = list(dict.fromkeys(each.name or str(each.vm) for each in found))
    names[0] = printable(names[0], max_length=_NAME_MAX_NARROW)  # the only name that is shown
    if len(found) == 1:
        return cut(summary(first, names[0]), width)
    vms = len({each.vm for each in found})
    subject = f"{names[0]}, {counted(len(found), 'vCPU')}" if vms == 1 else f"{counted(vms, 'VM')} ({few(names, 1)})"
    together = replace(first, vcpu=None, cost_cpus=_sum_of_known(each.cost_cpus for each in found))
    together = replace(together, lost_vcpus=_sum_of_known(each.lost_vcpus for each in found))
    return cut(summary(together, subject), width)


def _sum_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _notes(overview: Overview, hidden: int, by: str) -> Iterator[str]:
    if hidden:
        yield f"… and {counted(hidden, 'VM')} {_fewer(by)}; --all shows them"
    yield from _partial_notes(overview.total.partial)
    for row in overview.vms.silent[:_FINDINGS_SHOWN]:
        yield from _silence(overview.vms[row])
    if paused := overview.vms.paused:
        names = [printable(overview.vms[row].name) for row in paused[:_FINDINGS_SHOWN]]
        more = f" and {len(paused) - len(names)} more" if len(paused) > len(names) else ""
        yield f"paused, or waiting in the VMM: {', '.join(names)}{more}"
    if overview.vms_came or overview.vms_gone:
        came = f"{counted(overview.vms_came, 'VM')} started" if overview.vms_came else ""
        gone = f"{counted(overview.vms_gone, 'VM')} ended" if overview.vms_gone else ""
        later = "; new VMs have no rates yet" if came else ""
        yield f"{' and '.join(filter(None, (came, gone)))} in this interval{later}"
    if overview.stats_reset:
        reset = "1 stat was" if overview.stats_reset == 1 else f"{overview.stats_reset} stats were"
        yield f"{reset} reset; no rate this interval"
    yield from note_lines(overview.source.name, overview.source.why_not, overview.gaps)


def _vm_notes(overview: Overview, vm: VmOverview) -> Iterator[str]:
    yield from _partial_notes(vm.partial)
    yield from _silence(vm)
    if vm.paused:
        yield "its vCPUs neither ran nor were halted in KVM: it is paused, or they wait in the VMM"
    yield from note_lines(overview.source.name, overview.source.why_not, overview.gaps)


def _silence(vm: VmOverview) -> Iterator[str]:
    if vm.silent_s is not None:
        yield f"{printable(vm.name)}: its VMM has not answered for {format_seconds(vm.silent_s)}"


def _partial_notes(partial: Container[str]) -> Iterator[str]:
    if any(metric.column and metric.name in partial for metric in load_metrics()):
        yield "≥: some vCPUs are unknown"


def _fewer(by: str) -> str:
    if by == "name":
        return "after them"
    return "with fewer exits" if by == BUSIEST else f"with less {by}"
