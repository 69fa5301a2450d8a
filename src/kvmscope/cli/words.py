"""How stats, metrics and gaps are put into words on a screen, and plain columns of text."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from ..host.text import printable
from ..sample import Gap
from ..schema import Base, Descriptor, Kind, Unit
from ..units import format_bytes, format_count, format_seconds, format_share

if TYPE_CHECKING:
    from ..catalog.metrics import MetricUnit

SIMULATED = "SIMULATED: no kernel stands behind these numbers"
NO_VM = "no VM is running here, or none that {source} can see; to try kvmscope on a few guests: kvmscope demo"

_SECONDS = {0: "s", -3: "ms", -6: "µs", -9: "ns"}
_GAPS_SHOWN = 3
_FORMATS = {"cpus": format_share, "share": format_share, "seconds": format_seconds, "bytes": format_bytes}


def format_metric(unit: MetricUnit, value: float | None, *, partial: bool = False) -> str:
    """A metric's value in its unit. ``partial``: some subjects are not in it, so it is at least, or about, this."""
    text = _FORMATS.get(unit.value, format_count)(value)
    if value is None or not partial:
        return text
    return f"≥{text}" if unit.adds_up else f"~{text}"


def kind_text(stat: Descriptor) -> str:
    return stat.kind.name.lower().replace("_", " ") if isinstance(stat.kind, Kind) else f"kind {stat.kind.code}?"


def unit_text(stat: Descriptor) -> str:
    """The unit of a raw word: ``ns``, ``bytes``, ``2^10 bytes``; empty for a bare count."""
    if not isinstance(stat.unit, Unit):
        return f"unit {stat.unit.code}?"
    if stat.unit is Unit.SECONDS and stat.base is Base.POW10 and stat.exponent in _SECONDS:
        return _SECONDS[stat.exponent]
    name = {Unit.NONE: "", Unit.BOOLEAN: "yes or no", Unit.BIT: "yes or no"}.get(stat.unit, stat.unit.name.lower())
    if not isinstance(stat.base, Base):
        return f"base {stat.base.code}? {name}".rstrip()
    return f"{stat.base.number}^{stat.exponent} {name}".rstrip() if stat.exponent else name


def gap_lines(gaps: Sequence[Gap]) -> list[str]:
    """What could not be read, a line a reason and the most frequent first; not more than a few lines."""
    count: dict[str, int] = {}
    for gap in gaps:
        count[gap.reason] = count.get(gap.reason, 0) + 1
    ordered = sorted(count, key=lambda reason: -count[reason])
    times = {reason: f" ({count[reason]} times)" if count[reason] > 1 else "" for reason in ordered}
    lines = [f"not seen: {printable(reason, max_length=200)}{times[reason]}" for reason in ordered[:_GAPS_SHOWN]]
    more = len(ordered) - _GAPS_SHOWN
    return lines + ([f"not seen, for {counted(more, 'other reason')}: --json has them all"] if more > 0 else [])


def counted(number: int, word: str) -> str:
    """``1 VM``, ``2 VMs``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def columns(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Rows as lines of aligned columns; those in ``right`` are aligned to the right."""
    if not rows:
        return []
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_padded(cell, widths[i], i in right) for i, cell in enumerate(row)).rstrip() for row in rows]


def wrapped(lines: Iterable[str], *, indent: int) -> list[str]:
    """The same lines, broken to fit a terminal where there is one; what follows a break is indented."""
    if not sys.stdout.isatty():
        return list(lines)
    width = shutil.get_terminal_size().columns
    broken = (textwrap.wrap(line, width, subsequent_indent=" " * indent, break_on_hyphens=False) for line in lines)
    return [part for parts in broken for part in parts or [""]]


def cells(text: str) -> int:
    """Columns of a terminal that ``text`` takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def echo_lines(lines: Iterable[str]) -> None:
    """Write lines at once."""
    text = "\n".join(lines)
    if text:
        click.echo(text)


def echo_notes(lines: Iterable[str]) -> None:
    """Write lines that are about the data and not the data: to stderr."""
    for line in lines:
        click.echo(line, err=True)


def _padded(text: str, width: int, right: bool) -> str:
    blank = " " * (width - cells(text))
    return blank + text if right else text + blank
