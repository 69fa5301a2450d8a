"""Text for stats, metrics and gaps, and the layout of plain text in a given width.

Rule: the width is an argument, in columns of a terminal; None means no limit. This module does not access a terminal.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from ..host.text import ELLIPSIS, printable
from ..schema import Base, Descriptor, Kind, Unit
from ..units import (
    format_bytes,
    format_bytes_per_s,
    format_count,
    format_cpus,
    format_seconds,
    format_share,
    format_vcpus,
)

if TYPE_CHECKING:
    from ..catalog.metrics import MetricUnit
    from ..sample import Gap  # imports numpy, which parsing a command line does not need

SIMULATED: Final = "SIMULATED: no kernel stands behind these numbers"
NO_VM: Final = "no VM is running here, or none that {source} can see; to try kvmscope on a few guests: kvmscope demo"
PAGE_WIDTH: Final = 100
"""Columns of a text for a reader of unknown width."""

_SECONDS = {0: "s", -3: "ms", -6: "µs", -9: "ns"}
_GAPS_SHOWN = 3
_NARROWEST = 40
_FORMATS = {
    "cpus": format_cpus,
    "vcpus": format_vcpus,
    "share": format_share,
    "seconds": format_seconds,
    "bytes": format_bytes,
    "bytes-per-second": format_bytes_per_s,
}
"""Keyed by the value of a MetricUnit, as the catalogue takes 40 ms to load and many texts do not need it."""


class Style(Enum):
    """The emphasis of a piece of a line, for front ends with colours."""

    PLAIN = "plain"
    HEAD = "head"
    DIM = "dim"
    GOOD = "good"
    ALERT = "alert"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a line."""

    text: str
    style: Style = Style.PLAIN


Line: TypeAlias = tuple[Span, ...]


def styled(text: str, style: Style = Style.PLAIN) -> Line:
    """A line of one style."""
    return (Span(text, style),)


def plain(lines: Iterable[Line]) -> Iterator[str]:
    """The lines without styles and trailing blanks."""
    return ("".join(span.text for span in line).rstrip() for line in lines)


def format_metric(unit: MetricUnit, value: float | None, *, partial: bool = False) -> str:
    """A metric's value in its unit. ``partial``: it lacks some subjects, so it is a lower bound or approximate."""
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
    """Summary of what could not be read, one line per reason, the most frequent first; a few lines at most."""
    count: dict[str, int] = {}
    for gap in (gap for gap in gaps if gap.provider not in _SUPPORTING and not is_of_one_kernel_stat(gap)):
        count[gap.reason] = count.get(gap.reason, 0) + 1
    ordered = sorted(count, key=lambda reason: -count[reason])
    times = {reason: f" ({count[reason]} times)" if count[reason] > 1 else "" for reason in ordered}
    lines = [f"missing data: {printable(reason, max_length=200)}{times[reason]}" for reason in ordered[:_GAPS_SHOWN]]
    more = len(ordered) - _GAPS_SHOWN
    return lines + ([f"missing data: {more} more; --json has them all"] if more > 0 else [])


def is_of_one_kernel_stat(gap: Gap) -> bool:
    """Whether one stat of KVM is unknown on the whole host. Texts mention it only if that stat is requested."""
    return gap.provider == "kvm" and gap.stat is not None and gap.vm is None


def no_vm_line(source: str, gaps: Iterable[Gap]) -> str:
    """The line in place of VMs: there are none, or that is not certain, for reasons that ``note_lines`` gives."""
    for gap in gaps:
        if gap.vm is None and gap.stat is None and gap.provider in _OF_THE_HOST:
            return f"no VMs found, but source {source} does not see all of this host"
    return NO_VM.format(source=source)


_SUPPORTING = ("pressure",)
"""Providers of supporting data, which many hosts lack: texts do not mention their gaps."""

_OF_THE_HOST = (None, "kvm")
"""Providers whose gaps mean that whole VMs may be missing."""


def note_lines(source: str, why_not: Mapping[str, str], gaps: Sequence[Gap]) -> list[str]:
    """Notes on the numbers: why a better source could not be used, and what could not be read.

    ``why_not``: for each source that is better, why it could not be used.
    """
    reason = None if source in ("pinned", "bpf") else why_not.get("bpf")
    by = [f"read by {source}, since bpf failed: {printable(reason, max_length=200)}"] if reason else []
    return by + gap_lines(gaps)


def counted(number: int, word: str) -> str:
    """``1 VM``, ``2 VMs``, ``1,280 VMs``."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def few(names: Sequence[str], most: int = 4) -> str:
    """The first names, and the number of the others."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def columns(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Rows as lines of aligned columns; columns in ``right`` are aligned to the right."""
    if not rows:
        return []
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(padded(cell, widths[i], i in right) for i, cell in enumerate(row)).rstrip() for row in rows]


def padded(text: str, width: int, right: bool = False) -> str:
    """The text padded with blanks to ``width``; the blanks are on its left if ``right``."""
    blank = " " * (width - cells(text))
    return blank + text if right else text + blank


def cut(text: str, width: int) -> str:
    """The text in at most ``width`` columns; a text that was cut ends in ``…``."""
    if cells(text) <= width:
        return text
    kept = 0
    for at, char in enumerate(text):
        kept += _cells_of(char)
        if kept > width - 1:
            return text[:at] + ELLIPSIS
    return text


def wrapped(lines: Iterable[str], *, indent: int, width: int | None) -> list[str]:
    """The lines wrapped to ``width``; continuation lines are indented."""
    if width is None:
        return list(lines)
    broken = (textwrap.wrap(line, width, subsequent_indent=" " * indent, break_on_hyphens=False) for line in lines)
    return [part for parts in broken for part in parts or [""]]


def fill(text: str, indent: str = "", *, width: int, hang: str = "  ") -> list[str]:
    """The text in lines that fit ``width``, except for longer words; ``hang`` is put before all lines but the first."""
    return textwrap.wrap(
        text,
        max(width, _NARROWEST),
        initial_indent=indent,
        subsequent_indent=indent + hang,
        break_on_hyphens=False,
        break_long_words=False,
    )


def cells(text: str) -> int:
    """The number of terminal columns that ``text`` takes."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


@lru_cache(maxsize=4096)
def _cells_of(char: str) -> int:
    """The columns of a character by Unicode's East Asian Width; combining marks take none."""
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
