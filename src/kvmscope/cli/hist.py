"""``kvmscope hist``: one histogram, with the real bounds of its buckets and quantiles with their error."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .options import json_option, parse_duration, source_option
from .session import open_host, read_windows

if TYPE_CHECKING:
    from ..analysis.histogram import Quantile
    from ..analysis.window import F64Array, Window
    from ..collect import Host
    from ..sample import Sample
    from ..scene import Scene
    from ..schema import Descriptor, Scope
    from ..view.subjects import Selection

_QUANTILES = (0.5, 0.9, 0.99, 0.999)
_BAR = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"


@click.command("hist", short_help="A histogram with its buckets and quantiles.")
@click.argument("vm", metavar="VM[/VCPU]")
@click.argument("stat", metavar="STAT")
@click.option(
    "--interval",
    callback=parse_duration,
    metavar="TIME",
    help="Only what is added in this time; else all since creation.",
)
@click.option("--provider", metavar="NAME", help="The stat of this provider, should several have one of this name.")
@source_option
@json_option
def command(*, vm: str, stat: str, interval: float | None, provider: str | None, source: str, as_json: bool) -> None:
    """Show a histogram with its buckets and quantiles. For a VM, its vCPUs are added up.

    A quantile is known only up to its bucket: it is in the interval for certain, and near the estimate if values are
    spread evenly over the bucket.

    \b
    kvmscope hist web-1/0 halt_wait_hist
    kvmscope hist web-1 halt_wait_hist --interval 5s
    """
    with open_host(source) as host:
        shown = _read(host, vm, stat, provider, interval)
    if as_json:
        from ..view.jsonout import dump

        click.echo(dump(to_json(shown)))
        return
    from ..view.text import note_lines
    from .echo import echo_lines, echo_notes

    echo_lines(to_lines(shown))
    echo_notes(note_lines(shown.scene.sample.source, shown.scene.why_not, shown.scene.sample.gaps))


@dataclass(frozen=True)
class Shown:
    """A histogram of one subject. ``counts`` is None if it is not known; ``missing`` vCPUs are not in it."""

    scene: Scene
    subject: Selection
    provider: str
    stat: Descriptor
    counts: tuple[int, ...] | None
    missing: int
    interval_s: float | None


def make(scene: Scene, vm: str, name: str, provider: str | None, *, window: Window | None = None) -> Shown:
    """What ``vm`` and ``name`` mean in this sample. Raises UsageError."""
    from ..view.subjects import find_subject

    subject = find_subject(scene, vm)
    provider, scope, stat = _find_histogram(scene.sample, name, provider, is_vcpu=subject.vcpu is not None)
    values = _values(scene.sample, window, provider, scope, stat)
    if values.ndim != 2:  # nobody's could be read
        values = values[:, None].repeat(stat.size, axis=1)
    rows = [subject.vm] if scope.value == "vm" else _vcpu_rows(scene.sample, subject)
    known = [row for row in rows if not math.isnan(values[row].sum())]
    counts = tuple(int(count) for count in values[known].sum(axis=0)) if known else None
    interval_s = None if window is None else window.interval_s
    return Shown(scene, subject, provider, stat, counts, len(rows) - len(known), interval_s)


def to_json(shown: Shown) -> dict[str, Any]:
    """The histogram in base units; ``high`` is null where there is no upper bound."""
    from ..analysis.histogram import edges
    from ..view import jsonout

    sample = shown.scene.sample
    bounds = [float(edge) for edge in edges(shown.stat)]
    counts: Sequence[int | None] = shown.counts or [None] * shown.stat.size
    return {
        **jsonout.head(shown.scene),
        "interval_s": shown.interval_s,
        "vm": jsonout.vm(shown.scene, shown.subject.vm),
        "vcpu": None if shown.subject.vcpu is None else jsonout.vcpu(sample, shown.subject.vcpu),
        "provider": shown.provider,
        "stat": jsonout.descriptor(shown.stat),
        "vcpus_missing": shown.missing,
        "buckets": [
            {"low": low, "high": _finite(high), "count": count}
            for low, high, count in zip(bounds[:-1], bounds[1:], counts, strict=True)
        ],
        "count": None if shown.counts is None else sum(shown.counts),
        "quantiles": [
            {"q": found.q, "low": found.low, "high": _finite(found.high), "estimate": found.estimate}
            for found in _quantiles(shown)
        ],
        "gaps": jsonout.gaps(sample.gaps),
    }


def to_lines(shown: Shown) -> list[str]:
    """Title, a line for each bucket between the first and the last that are not empty, and the quantiles."""
    from ..view.text import SIMULATED, counted

    lines = [SIMULATED] if shown.scene.sample.simulated else []
    lines += [_title(shown), ""]
    if shown.counts is None:
        return [*lines, "not known: it could not be read, or its vCPUs came in this window"]
    total = sum(shown.counts)
    if not total:
        return [*lines, "no value was counted" + (" in this time" if shown.interval_s else " since creation")]
    lines += [*_bucket_lines(shown, shown.counts), ""]
    lines.append(f"{counted(total, 'value')}; all other buckets are empty")
    lines += _quantile_lines(shown)
    if shown.missing:
        lines.append(f"without {counted(shown.missing, 'vCPU')} that could not be read")
    return lines


def _read(host: Host, vm: str, stat: str, provider: str | None, interval_s: float | None) -> Shown:
    if interval_s is None:
        return make(host.look(), vm, stat, provider)
    make(host.look(), vm, stat, provider)  # a wrong word is told before the wait
    scene, window = next(read_windows(host, interval_s))
    return make(scene, vm, stat, provider, window=window)


def _find_histogram(sample: Sample, name: str, provider: str | None, *, is_vcpu: bool) -> tuple[str, Scope, Descriptor]:
    """The stat meant; a VM's own comes before that of its vCPUs."""
    from ..errors import UsageError
    from ..schema import Scope

    scopes = (Scope.VCPU,) if is_vcpu else (Scope.VM, Scope.VCPU)
    stats = [
        (block.schema.provider, scope, stat)
        for scope in scopes
        for block in sample.blocks_of(scope)
        for stat in block.schema.descriptors
        if provider in (None, block.schema.provider)
    ]
    found = next((entry for entry in stats if entry[2].name == name), None)
    histograms = list(dict.fromkeys(stat.name for _, _, stat in stats if stat.is_histogram))
    if found is None:
        near = tuple(difflib.get_close_matches(name, histograms, n=3, cutoff=0.5))
        raise UsageError(f"there is no histogram {name!r} here", nearest=near)
    if not found[2].is_histogram:
        near = tuple(difflib.get_close_matches(name, histograms, n=3, cutoff=0.3))
        raise UsageError(f"{name} is no histogram; `kvmscope read` shows it", nearest=near)
    return found


def _values(sample: Sample, window: Window | None, provider: str, scope: Scope, stat: Descriptor) -> F64Array:
    from ..analysis.window import find_column

    if window is not None:
        return window.delta(provider, scope, stat.name)
    column = find_column(sample, provider, scope, stat.name)
    assert column is not None
    return column.values


def _vcpu_rows(sample: Sample, subject: Selection) -> list[int]:
    if subject.vcpu is not None:
        return [subject.vcpu]
    rows = sample.vcpus_of_vm[subject.vm]
    return list(range(rows.start, rows.stop))


def _quantiles(shown: Shown) -> list[Quantile]:
    from ..analysis.histogram import quantile

    if shown.counts is None:
        return []
    found = (quantile(shown.stat, shown.counts, q) for q in _QUANTILES)
    return [one for one in found if one is not None]


def _title(shown: Shown) -> str:
    from ..units import format_seconds
    from ..view.text import kind_text

    sample = shown.scene.sample
    subject = shown.scene.title(shown.subject.vm)
    if shown.subject.vcpu is not None:
        subject += f"/{sample.vcpus.id[shown.subject.vcpu]}"
    when = "since creation" if shown.interval_s is None else f"added in {format_seconds(shown.interval_s)}"
    return f"{subject}  {shown.stat.name}  {when}  ({kind_text(shown.stat)}, by {sample.source})"


def _bucket_lines(shown: Shown, counts: Sequence[int]) -> list[str]:
    from ..analysis.histogram import edges
    from ..view.text import columns

    bounds = [_bound(shown.stat, float(edge)) for edge in edges(shown.stat)]
    filled = [i for i, count in enumerate(counts) if count]
    most = max(counts)
    rows = [("from", "to below", "count", "")]
    rows += [
        (bounds[i], bounds[i + 1], str(counts[i]), _bar(counts[i] / most)) for i in range(filled[0], filled[-1] + 1)
    ]
    return columns(rows, right=(0, 1, 2))


def _quantile_lines(shown: Shown) -> list[str]:
    from ..view.text import columns

    rows = []
    for found in _quantiles(shown):
        low, high, estimate = (_bound(shown.stat, edge) for edge in (found.low, found.high, found.estimate))
        certain = f"at least {low}" if math.isinf(found.high) else f"from {low} to below {high}"
        rows.append((f"p{found.q * 100:g}", estimate, certain))
    return columns(rows, right=(1,))


def _bound(stat: Descriptor, value: float) -> str:
    from ..schema import Unit
    from ..units import format_bytes, format_seconds

    if stat.unit is Unit.SECONDS:
        return format_seconds(value)
    if math.isinf(value):
        return "∞"
    return format_bytes(value) if stat.unit is Unit.BYTES else f"{value:g}"


def _bar(share: float) -> str:
    """A bar of at most ``_BAR`` cells; anything above 0 shows."""
    if share <= 0:
        return ""
    eighths = max(1, round(share * _BAR * 8))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
