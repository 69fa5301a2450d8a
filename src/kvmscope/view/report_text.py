"""A report as Markdown, to paste into an issue or a mail: findings and events in full, charts as sparklines.

Rule: names are untrusted text; characters that Markdown or HTML would act on are escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ..host.text import printable
from ..units import format_seconds, rfc3339
from .history import BLOCKS
from .report import ReportMetric, ReportSeries, ReportView, ReportVm
from .text import SIMULATED, counted, format_metric

_VMS: Final = 20
_EVENTS: Final = 40
_SPANS: Final = 8
_CELLS: Final = 30


def markdown_lines(view: ReportView) -> Iterator[str]:
    """The report, with the first VMs and events if there are many."""
    yield f"# KVM report of {escaped(view.host.name or 'a host')}"
    yield ""
    if view.simulated:
        yield f"**{SIMULATED}**"
        yield ""
    yield f"{rfc3339(view.begin.ns)} to {rfc3339(view.end.ns)}, {counted(len(view.times), 'interval')} of"
    yield f"{format_seconds(view.interval_s)}. {counted(view.vm_count, 'VM')} with {counted(view.vcpu_count, 'vCPU')},"
    yield f"kernel {escaped(view.host.kernel or 'unknown')}, {escaped(view.host.cpu or 'CPU unknown')}."
    yield from _findings(view)
    yield from _events(view)
    yield from _host(view)
    yield from _vms(view)


def escaped(text: str) -> str:
    """The text without characters that a terminal, Markdown or HTML would act on."""
    plain = printable(text, max_length=200)
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~])", r"\\\1", plain.replace("&", "&amp;").replace("<", "&lt;"))


def _findings(view: ReportView) -> Iterator[str]:
    yield from ("", "## Findings", "")
    if not view.rules:
        yield "No rule fired."
    for rule in view.rules:
        yield f"- **{rule.severity.value}: {escaped(rule.title)}** (`{rule.rule}`), {counted(rule.vms, 'VM')}"
        yield f"  {escaped(rule.explanation)}"
        for span in rule.spans[:_SPANS]:
            end = "holds" if span.end is None else f"until {rfc3339(span.end.ns)}"
            vcpu = "" if span.vcpu is None else f", vCPU {span.vcpu}"
            yield f"  - {escaped(span.name)}{vcpu}: from {rfc3339(span.begin.ns)}, {end}"
        more = len(rule.spans) + rule.more_spans - _SPANS
        if more > 0:
            yield f"  - and {more} more"


def _events(view: ReportView) -> Iterator[str]:
    yield from ("", "## Events", "")
    if not view.events:
        yield "None."
    for event in view.events[:_EVENTS]:
        yield f"- {rfc3339(event.time.ns)} {event.kind}: {escaped(' '.join(filter(None, (event.name, event.text))))}"
    more = len(view.events) + view.more_events - _EVENTS
    if more > 0:
        yield f"- and {more} more"


def _host(view: ReportView) -> Iterator[str]:
    yield from ("", "## All VMs together", "", "| metric | mean | most | over time |", "|---|--:|--:|---|")
    metrics = {metric.name: metric for metric in view.metrics}
    for series in view.series:
        metric = metrics[series.metric]
        texts = (format_metric(metric.unit, value) for value in (series.mean, series.most))
        yield f"| {escaped(metric.title)} | {' | '.join(texts)} | {sparkline(series)} |"


def sparkline(series: ReportSeries) -> str:
    """Up to 30 characters, each the largest value of equally many intervals; a blank if none is known."""
    most = series.most or 0.0
    size = max(1, -(-len(series.values) // _CELLS))
    groups = (series.values[first : first + size] for first in range(0, len(series.values), size))
    return "".join(_block(group, most) for group in groups)


def _block(values: Sequence[float | None], most: float) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return " "
    share = max(known) / most if most > 0 else 0.0
    return BLOCKS[min(len(BLOCKS) - 1, int(share * len(BLOCKS)))]


def _vms(view: ReportView) -> Iterator[str]:
    shown = view.metrics[:6]
    head = ["VM", "vCPUs", "APICv", *(escaped(metric.title) for metric in shown), "findings"]
    yield from ("", "## VMs", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}")
    for vm in view.vms[:_VMS]:
        yield f"| {' | '.join(_vm_cells(vm, shown))} |"
    if len(view.vms) > _VMS:
        yield ""
        yield f"and {counted(len(view.vms) - _VMS, 'more VM')}"


def _vm_cells(vm: ReportVm, metrics: Sequence[ReportMetric]) -> Iterator[str]:
    yield escaped(vm.name) + (" (ended)" if vm.has_ended else "")
    yield str(vm.vcpus)
    last = vm.apicv[-1] if vm.apicv else None
    yield "–" if last is None else escaped(": ".join(filter(None, (last.state, ", ".join(last.reasons)))))
    for metric, value in zip(metrics, vm.means, strict=False):
        yield format_metric(metric.unit, value)
    yield ", ".join(f"`{rule}`" for rule in vm.rules)
