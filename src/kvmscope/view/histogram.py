"""A histogram of one VM or vCPU as plain values and as text, and the list of histograms of a VM or vCPU.

Rule: a VM's histogram is the sum over its known vCPUs, and gives the number of missing ones.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from ..analysis.histogram import edges, quantile
from ..analysis.window import F64Array, Window, find_column
from ..errors import UsageError
from ..host.text import printable
from ..sample import Gap, Sample
from ..scene import Scene
from ..schema import Descriptor, Scope, Unit
from ..units import format_bytes, format_seconds
from .descriptor import StatDescriptor, descriptor_fields
from .subjects import Selection, vcpu_rows
from .text import SIMULATED, cells, columns, counted, wrapped
from .values import SceneAnswer, VcpuTitle, VmTitle, scene_head, vcpu_head, vm_head

_QUANTILES = (0.5, 0.9, 0.99, 0.999)
_QUANTILE_INDENT = 7
_BAR_CELLS = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketView:
    """One bucket, with bounds in base units."""

    low: Annotated[float, "Smallest value that it counts."]
    high: Annotated[float | None, "Its values are below this; null if there is no upper bound."]
    count: Annotated[int | None, "Number of values."]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileView:
    """One quantile in base units: an interval that is certain to contain the true value."""

    q: Annotated[float, "Which one: 0.5 is the median."]
    low: Annotated[float, "Lower bound."]
    high: Annotated[float | None, "Upper bound; null if there is none."]
    estimate: Annotated[float, "Likely value, if values are spread evenly over their bucket."]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramView(SceneAnswer):
    """One histogram of a VM or vCPU."""

    interval_s: Annotated[float | None, "Seconds in which the values were added; null for all since creation."]
    vm: VmTitle
    vcpu: VcpuTitle | None
    provider: Annotated[str, "Provider of the stat."]
    stat: StatDescriptor
    vcpus_missing: Annotated[int, "Number of vCPUs whose values are unknown and not counted."]
    buckets: tuple[BucketView, ...]
    count: Annotated[int | None, "Number of values in all buckets."]
    quantiles: tuple[QuantileView, ...]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramEntry:
    """A histogram in the list, since creation of its subject."""

    provider: Annotated[str, "Provider of the stat."]
    scope: Scope
    stat: StatDescriptor
    count: Annotated[int | None, "Number of values."]
    p50: Annotated[float | None, "Estimate of the median, in base units."]
    p99: Annotated[float | None, "Estimate of the 99th percentile, in base units."]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramListView(SceneAnswer):
    """Every histogram of a VM or vCPU."""

    vm: VmTitle
    vcpu: VcpuTitle | None
    histograms: tuple[HistogramEntry, ...]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """A histogram of a sample: its subject and its descriptor."""

    provider: str
    scope: Scope
    stat: Descriptor


def histogram_view(
    scene: Scene, subject: Selection, name: str, provider: str | None = None, *, window: Window | None = None
) -> HistogramView:
    """The histogram ``name``, since creation or in ``window``, which ends with ``scene``. Raises UsageError."""
    source = _find(scene.sample, name, provider, is_vcpu=subject.vcpu is not None)
    counts, missing = _counts(scene.sample, subject, source, window)
    bounds = [float(edge) for edge in edges(source.stat)]
    shown: Sequence[int | None] = [None] * source.stat.size if counts is None else counts
    return HistogramView(
        **scene_head(scene),
        interval_s=None if window is None else window.interval_s,
        vm=VmTitle(**vm_head(scene, subject.vm)),
        vcpu=None if subject.vcpu is None else VcpuTitle(**vcpu_head(scene.sample, subject.vcpu)),
        provider=source.provider,
        stat=StatDescriptor(**descriptor_fields(source.stat)),
        vcpus_missing=missing,
        buckets=tuple(
            BucketView(low=low, high=_finite(high), count=count)
            for low, high, count in zip(bounds[:-1], bounds[1:], shown, strict=True)
        ),
        count=None if counts is None else sum(counts),
        quantiles=() if counts is None else tuple(_quantiles(source.stat, counts)),
        gaps=scene.sample.gaps,
    )


def histogram_list_view(scene: Scene, subject: Selection, provider: str | None = None) -> HistogramListView:
    """Every histogram of a VM or vCPU, with the number of its values since creation."""
    sources = [each for each in _sources(scene.sample, provider, subject.vcpu is not None) if each.stat.is_histogram]
    return HistogramListView(
        **scene_head(scene),
        vm=VmTitle(**vm_head(scene, subject.vm)),
        vcpu=None if subject.vcpu is None else VcpuTitle(**vcpu_head(scene.sample, subject.vcpu)),
        histograms=tuple(_entry(scene.sample, subject, source) for source in sources),
        gaps=scene.sample.gaps,
    )


# --- text -------------------------------------------------------------------------------------------------------------


def histogram_lines(view: HistogramView, *, width: int | None = None) -> list[str]:
    """Title, a line for each bucket from the first non-empty one to the last, and the quantiles.

    Bars fill the rest of ``width``; longer lines are wrapped.
    """
    return wrapped(_histogram_lines(view, width), indent=_QUANTILE_INDENT, width=width)


def _histogram_lines(view: HistogramView, width: int | None) -> list[str]:
    lines = [SIMULATED] if view.simulated else []
    lines += [_title(view), ""]
    if view.count is None:
        return [*lines, "unknown: it could not be read, or its vCPUs appeared in this interval"]
    if not view.count:
        return [*lines, "no value was counted" + (" in this interval" if view.interval_s else " since creation")]
    lines += [*_bucket_lines(view, width), ""]
    lines.append(f"{counted(view.count, 'value')}; all other buckets are empty")
    lines += _quantile_lines(view)
    if view.vcpus_missing:
        lines.append(f"without {counted(view.vcpus_missing, 'vCPU')} that could not be read")
    return lines


def histogram_list_lines(view: HistogramListView, *, width: int | None = None) -> list[str]:
    """One line per histogram, without the columns that do not fit ``width``."""
    lines = [SIMULATED] if view.simulated else []
    subject = _subject_text(view.vm, view.vcpu)
    if not view.histograms:
        return [*lines, f"{subject} has no histogram that source {view.source.name} can read"]
    rows = [("HISTOGRAM", "OF A", "PROVIDER", "VALUES", "P50", "P99")]
    for each in view.histograms:
        number = "–" if each.count is None else str(each.count)
        p50, p99 = ("–" if value is None else amount_text(each.stat.unit, value) for value in (each.p50, each.p99))
        rows.append((each.stat.name, _SCOPES[each.scope], each.provider, number, p50, p99))
    last = wrapped([f"`kvmscope hist {subject} HISTOGRAM` shows one"], indent=2, width=width)
    return [*lines, *_fitting_table(rows, width), "", *last]


def _fitting_table(rows: Sequence[tuple[str, ...]], width: int | None) -> list[str]:
    for kept in _COLUMNS_KEPT:
        right = tuple(place for place, column in enumerate(kept) if column in _NUMBERS)
        table = columns([tuple(row[column] for column in kept) for row in rows], right=right)
        if width is None or max(map(cells, table)) <= width:
            break
    return table


_COLUMNS_KEPT = ((0, 1, 2, 3, 4, 5), (0, 1, 3, 4, 5), (0, 3, 4, 5), (0, 3, 5), (0, 3), (0,))
"""Columns of the list: all, then those that remain as the room shrinks."""

_NUMBERS = (3, 4, 5)


_SCOPES = {Scope.VM: "VM", Scope.VCPU: "vCPU"}


def _title(view: HistogramView) -> str:
    when = "since creation" if view.interval_s is None else f"added in {format_seconds(view.interval_s)}"
    kind = (view.stat.kind or "unknown kind").replace("_", " ")
    return f"{_subject_text(view.vm, view.vcpu)}  {view.stat.name}  {when}  ({kind}, by {view.source.name})"


def _subject_text(vm: VmTitle, vcpu: VcpuTitle | None) -> str:
    name = printable(vm.name)
    return name if vcpu is None else f"{name}/{vcpu.id}"


def _bucket_lines(view: HistogramView, width: int | None) -> list[str]:
    counts = [bucket.count or 0 for bucket in view.buckets]
    filled = [place for place, count in enumerate(counts) if count]
    most = max(counts)
    rows = [("from", "to below", "count")]
    shown = view.buckets[filled[0] : filled[-1] + 1]
    for bucket in shown:
        low, high = amount_text(view.stat.unit, bucket.low), amount_text(view.stat.unit, bucket.high)
        rows.append((low, high, str(bucket.count or 0)))
    table = columns(rows, right=(0, 1, 2))
    room = _BAR_CELLS if width is None else max(0, min(_BAR_CELLS, width - cells(table[0]) - 2))
    bars = ["", *(_bar((bucket.count or 0) / most, room) for bucket in shown)]
    return [f"{line}  {bar}".rstrip() for line, bar in zip(table, bars, strict=True)]


def _quantile_lines(view: HistogramView) -> list[str]:
    rows = []
    for found in view.quantiles:
        low, high, estimate = (amount_text(view.stat.unit, edge) for edge in (found.low, found.high, found.estimate))
        certain = f"at least {low}" if found.high is None else f"from {low} to below {high}"
        rows.append((f"p{found.q * 100:g}", estimate, certain))
    return columns(rows, right=(1,))


def amount_text(unit: str | None, value: float | None) -> str:
    """A bound in its unit; None for no bound."""
    if value is None or math.isinf(value):
        return "∞"
    if unit == Unit.SECONDS.name.lower():
        return format_seconds(value)
    return format_bytes(value) if unit == Unit.BYTES.name.lower() else f"{value:g}"


def _bar(share: float, most_cells: int) -> str:
    """A bar of at most ``most_cells`` cells; a share above 0 is visible if there is room for any."""
    if share <= 0 or most_cells == 0:
        return ""
    eighths = max(1, round(share * most_cells * 8))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


# --- values -----------------------------------------------------------------------------------------------------------


def _sources(sample: Sample, provider: str | None, is_vcpu: bool) -> list[_Source]:
    """Every stat of a VM or vCPU; a VM's own stats come before those of its vCPUs."""
    return [
        _Source(block.schema.provider, scope, stat)
        for scope in ((Scope.VCPU,) if is_vcpu else (Scope.VM, Scope.VCPU))
        for block in sample.blocks_of(scope)
        for stat in block.schema.descriptors
        if provider in (None, block.schema.provider)
    ]


def _find(sample: Sample, name: str, provider: str | None, *, is_vcpu: bool) -> _Source:
    sources = _sources(sample, provider, is_vcpu)
    found = next((each for each in sources if each.stat.name == name), None)
    histograms = list(dict.fromkeys(each.stat.name for each in sources if each.stat.is_histogram))
    if found is None:
        _refuse_stat_of_vm(sample, name, provider, is_vcpu)
        raise UsageError(f"there is no histogram '{printable(name)}' here", nearest=_near(name, histograms, 0.5))
    if not found.stat.is_histogram:
        message = f"{name} is not a histogram; `kvmscope read` shows it"
        raise UsageError(message, nearest=_near(name, histograms, 0.3))
    return found


def _refuse_stat_of_vm(sample: Sample, name: str, provider: str | None, is_vcpu: bool) -> None:
    """Raise UsageError for a per-VM stat that was requested of a vCPU, since "no such stat" would mislead."""
    if is_vcpu and any(each.stat.name == name for each in _sources(sample, provider, is_vcpu=False)):
        raise UsageError(f"{name} is a statistic of VMs, not of vCPUs: name the VM without its vCPU")


def _near(name: str, histograms: Sequence[str], cutoff: float) -> tuple[str, ...]:
    return tuple(difflib.get_close_matches(name, histograms, n=3, cutoff=cutoff))


def _entry(sample: Sample, subject: Selection, source: _Source) -> HistogramEntry:
    counts, _ = _counts(sample, subject, source, None)
    p50, p99 = (None if counts is None else quantile(source.stat, counts, q) for q in (0.5, 0.99))
    return HistogramEntry(
        provider=source.provider,
        scope=source.scope,
        stat=StatDescriptor(**descriptor_fields(source.stat)),
        count=None if counts is None else sum(counts),
        p50=None if p50 is None else _finite(p50.estimate),
        p99=None if p99 is None else _finite(p99.estimate),
    )


def _counts(
    sample: Sample, subject: Selection, source: _Source, window: Window | None
) -> tuple[tuple[int, ...] | None, int]:
    """The count of each bucket, None if they are unknown for all subjects; and the number of subjects without them."""
    values = _values(sample, window, source)
    if values.ndim != 2:  # none could be read
        values = values[:, None].repeat(source.stat.size, axis=1)
    rows = [subject.vm] if source.scope is Scope.VM else vcpu_rows(sample, subject)
    known = [row for row in rows if not math.isnan(values[row].sum())]
    counts = tuple(int(count) for count in values[known].sum(axis=0)) if known else None
    return counts, len(rows) - len(known)


def _values(sample: Sample, window: Window | None, source: _Source) -> F64Array:
    if window is not None:
        return window.delta(source.provider, source.scope, source.stat.name)
    column = find_column(sample, source.provider, source.scope, source.stat.name)
    assert column is not None
    return column.values


def _quantiles(stat: Descriptor, counts: Sequence[int]) -> Iterable[QuantileView]:
    for q in _QUANTILES:
        found = quantile(stat, counts, q)
        if found is not None:
            yield QuantileView(q=found.q, low=found.low, high=_finite(found.high), estimate=found.estimate)


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
