"""Series as text: Prometheus' format 0.0.4, and OpenMetrics 1.0. Written in pieces, so no body is ever whole in memory.

Not here: reading. Rule: names and labels are prepared once for each set of VMs; a scrape joins them with numbers.
Source: prometheus.io/docs/instrumenting/exposition_formats; the OpenMetrics 1.0 specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..analysis.bucket_bounds import bucket_bounds
from ..catalog.series_names import Family, FamilyType
from .labels import LabelSets
from .numbers import ValueColumns, number_columns, word_columns
from .series import HistogramSeries, NumberSeries, Series, StatSeries

_LINES_A_PIECE: Final = 2048


class TextFormat(Enum):
    """A text format, by its Content-Type."""

    PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def write_text(series: Iterable[Series], form: TextFormat = TextFormat.PROMETHEUS) -> Iterator[bytes]:
    """The series as text, in pieces. ``series`` has the series of one family next to each other."""
    for family, parts in groupby(series, key=lambda each: each.family):
        yield head_text(family, form).encode()
        for part in parts:
            rows = max(1, _LINES_A_PIECE * len(part.rows) // max(1, part.count))
            for first in range(0, len(part.rows), rows):
                lines = _lines(part, slice(first, first + rows), form)
                # Bytes, and one pattern for many lines, as a full scrape of a large host has two million lines.
                yield b"".join(lines.patterns) % tuple(lines.columns.ravel().tolist())
    if form is TextFormat.OPENMETRICS:
        yield b"# EOF\n"


def row_texts(series: Series, form: TextFormat) -> Iterable[str]:
    """The lines of each row, in the order of ``series.rows``."""
    lines = _lines(series, slice(0, len(series.rows)), form)
    for pattern, columns in zip(lines.patterns, lines.columns.tolist(), strict=True):
        yield (pattern % tuple(columns)).decode()


def head_text(family: Family, form: TextFormat) -> str:
    """HELP, TYPE and, in OpenMetrics, UNIT."""
    if form is TextFormat.OPENMETRICS:
        unit = f"# UNIT {family.name} {family.unit}\n" if family.unit else ""
        text = family.help.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
        return f"# HELP {family.name} {text}\n# TYPE {family.name} {family.type.value}\n{unit}"
    word = "untyped" if family.type is FamilyType.UNKNOWN else family.type.value
    text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {family.sample_name} {text}\n# TYPE {family.sample_name} {word}\n"


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of some rows: one pattern per line, and its values in the same row of ``columns``."""

    patterns: Sequence[bytes]
    columns: npt.NDArray[Any]


def _lines(series: Series, chosen: slice, form: TextFormat) -> _Lines:
    if isinstance(series, HistogramSeries):
        return _histogram_lines(series, chosen, form)
    values = _values(series, chosen)
    endings = _endings(series.subjects, values.pattern)
    start = series.family.sample_name.encode()
    return _Lines([start + endings[row] for row in series.rows[chosen].tolist()], values.columns)


def _values(series: StatSeries | NumberSeries, chosen: slice) -> ValueColumns:
    if isinstance(series, StatSeries):
        return word_columns(series.descriptor, series.words[chosen])
    return number_columns(series.numbers[chosen])


@lru_cache(maxsize=32)
def _endings(subjects: LabelSets, pattern: bytes) -> tuple[bytes, ...]:
    """The rest of the line after the name of the series, for each subject."""
    if not subjects.names:
        return (b" " + pattern + b"\n",) * len(subjects)
    return tuple(b"{%b} %b\n" % (labels, pattern) for labels in subjects.patterns)


def _histogram_lines(series: HistogramSeries, chosen: slice, form: TextFormat) -> _Lines:
    """The lines of histograms. In OpenMetrics, a histogram without a known sum has no count; its last bucket is it."""
    name = series.family.name
    parts = [f'{name}_bucket{{\0,le="{bound}"}} %d\n' for bound in bucket_bounds(series.descriptor)]
    columns: npt.NDArray[Any] = np.cumsum(series.words[chosen], axis=1, dtype=np.uint64)
    if series.sums is not None or form is TextFormat.PROMETHEUS:
        parts.append(f"{name}_count{{\0}} %d\n")
        columns = np.concatenate([columns, columns[:, -1:]], axis=1)
    if series.sums is not None and series.sum_descriptor is not None:
        sums = word_columns(series.sum_descriptor, series.sums[chosen])
        parts.append(f"{name}_sum{{\0}} {sums.pattern.decode()}\n")
        columns = np.concatenate([columns, sums.columns], axis=1)
    between = "".join(parts).encode().split(b"\0")
    labels = series.subjects.patterns
    return _Lines([labels[row].join(between) for row in series.rows[chosen].tolist()], columns)
