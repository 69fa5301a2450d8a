"""A diff as lines: what differs between the hosts first, then the metrics that changed, then the rest in brief."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..analysis.difference import DifferenceVerdict
from ..host.text import printable
from ..units import format_seconds, rfc3339
from .diff import DiffView, MetricDifference
from .diff_sides import DiffSideView
from .schema_diff import section_lines
from .text import SIMULATED, columns, counted, few, fill, format_metric

_FLAGS = "cpu flags"
_NAMES_SHOWN = 8


def diff_lines(view: DiffView, *, width: int) -> Iterator[str]:
    """The diff for a page of this width."""
    if view.a.simulated or view.b.simulated:
        yield SIMULATED
    yield from columns([_side_cells("A", view.a), _side_cells("B", view.b)])
    yield from fill(_pairing_text(view), width=width)
    yield from _host_lines(view, width)
    yield ""
    yield from fill(_verdict_text(view), width=width)
    changed = [metric for metric in view.metrics if metric.verdict is DifferenceVerdict.CHANGED]
    if changed:
        yield ""
        yield from _table(changed)
    yield from _rest(view, width)


def _side_cells(name: str, side: DiffSideView) -> tuple[str, ...]:
    interval = "" if side.interval_s is None else f" of {format_seconds(side.interval_s)}"
    kernels = few([printable(kernel or "kernel unknown") for kernel in side.kernels], 2)
    hosts = few([printable(host or "host unknown") for host in side.hosts], 2)
    what = f"{counted(side.vms, 'VM')}, {counted(side.intervals, 'interval')}{interval}"
    return name, printable(side.place), f"{_time(side.begin.ns)} to {_time(side.end.ns)}", hosts, kernels, what


def _time(ns: int) -> str:
    return rfc3339(ns, has_ms=False)


def _pairing_text(view: DiffView) -> str:
    only = "".join(
        f"; only on side {name}: {few([printable(vm) for vm in vms], _NAMES_SHOWN)}"
        for name, vms in (("A", view.only_a), ("B", view.only_b))
        if vms
    )
    if view.pairing == "paired":
        return f"the same VMs on both sides are compared{only}"
    return f"VMs are compared as two groups; numbers are means of a VM, of rates and times means of a vCPU{only}"


def _host_lines(view: DiffView, width: int) -> Iterator[str]:
    if view.settings:
        yield from ("", "the hosts differ in:")
        rows = [(f"  {printable(s.name)}", *_setting_cells(s.name, s.a, s.b)) for s in view.settings]
        yield from columns(rows)
    if view.stats:
        yield from section_lines(view.stats)
    if view.caveats:
        yield from ("", "caveats that apply on one side alone:")
        for caveat in view.caveats:
            reason = caveat.a if caveat.applies_to == "a" else caveat.b
            text = f"{caveat.slug}: on side {caveat.applies_to.upper()}, since {reason}. {caveat.text}"
            yield from fill(text, "  ", width=width)
    if view.apicv:
        yield from ("", "interrupt acceleration (APICv/AVIC) differs in:")
        yield from columns([(f"  {printable(vm.name)}", f"{vm.a} -> {vm.b}") for vm in view.apicv])


def _setting_cells(name: str, a: str | None, b: str | None) -> tuple[str]:
    if name == _FLAGS and a is not None and b is not None:
        flags_a, flags_b = set(a.split()), set(b.split())
        parts = [f"-{flag}" for flag in sorted(flags_a - flags_b)] + [f"+{flag}" for flag in sorted(flags_b - flags_a)]
        return (printable(few(parts, _NAMES_SHOWN)),)
    return (" -> ".join(printable("unknown" if each is None else each) for each in (a, b)),)


def _verdict_text(view: DiffView) -> str:
    count = len(view.metrics)
    changed = sum(metric.verdict is DifferenceVerdict.CHANGED for metric in view.metrics)
    together = f"the bounds of all {count} hold together with {view.confidence:.0%} confidence"
    if not count:
        return "no metric is known on both sides"
    if changed:
        return f"{changed} of {counted(count, 'metric')} changed; {together}"
    if view.verdict is DifferenceVerdict.SAME:
        return f"no metric changed; {together}"
    return f"too little data to decide: longer recordings or more VMs would narrow the bounds; {together}"


def _table(metrics: Sequence[MetricDifference]) -> Iterator[str]:
    head = ("METRIC", "A", "B", "CHANGE", "BOUNDS", "MOST IN")
    yield from columns([head, *map(_cells, metrics)], right=(1, 2, 3))


def _cells(metric: MetricDifference) -> tuple[str, ...]:
    caveats = f" (caveat {', '.join(metric.caveats)})" if metric.caveats else ""
    vm = "" if metric.vm is None else printable(metric.vm.name)
    a, b = (format_metric(metric.unit, value) for value in (metric.a, metric.b))
    return f"{metric.title}{caveats}", a, b, _change(metric), bounds_text(metric), vm


def _change(metric: MetricDifference) -> str:
    if metric.relative is None:
        return f"+{format_metric(metric.unit, metric.change)}" if metric.change > 0 else "0"
    return signed(metric.relative)


def bounds_text(metric: MetricDifference) -> str:
    """The bounds of a change, as shares unless the first side's value does not allow it."""
    if metric.low is None or metric.high is None:
        return "no bounds"
    if metric.relative_low is None or metric.relative_high is None:
        return f"{format_metric(metric.unit, metric.low)} to {format_metric(metric.unit, metric.high)}"
    return f"{signed(metric.relative_low)} to {signed(metric.relative_high)}"


def signed(share: float) -> str:
    """A change as a share, with its sign."""
    percent = share * 100
    if abs(percent) < 0.005:
        return "0 %"
    return f"{percent:+.3g} %" if abs(percent) < 999.5 else f"{percent:+,.0f} %"


def _rest(view: DiffView, width: int) -> Iterator[str]:
    for verdict, head in (
        (DifferenceVerdict.SAME, "the same, within 10 %"),
        (DifferenceVerdict.TOO_LITTLE, "too little data"),
    ):
        part = [metric for metric in view.metrics if metric.verdict is verdict]
        if part:
            texts = [f"{metric.title} ({bounds_text(metric)})" for metric in part]
            yield ""
            yield from fill(f"{head}: {', '.join(texts)}", width=width)
    reasons: dict[str, list[str]] = {}
    for metric in view.not_compared:
        reasons.setdefault(metric.reason, []).append(metric.title)
    if reasons:
        yield ""
    for reason, titles in reasons.items():
        yield from fill(f"not compared: {', '.join(titles)}: {printable(reason, max_length=600)}", width=width)
