"""Series as text: Prometheus' format 0.0.4, and OpenMetrics 1.0. Written in pieces, so that no body is held whole.

Not here: reading. Rule: names and labels are made ready once for each set of VMs; a scrape joins them with numbers.
Source: prometheus.io/docs/instrumenting/exposition_formats; the OpenMetrics 1.0 specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import groupby
from typing import Final

import numpy as np

from ..analysis.bucket_bounds import bucket_bounds, float_text
from ..catalog.series_names import Family, FamilyType
from .numbers import value_texts
from .series import HistogramSeries, NumberSeries, Series, StatSeries

_ROWS_A_PIECE: Final = 512


class TextFormat(Enum):
    """A text format, by its Content-Type."""

    PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def write_text(series: Iterable[Series], form: TextFormat = TextFormat.PROMETHEUS) -> Iterator[bytes]:
    """The series as text, in pieces. Those of one family stand one after another in ``series``."""
    for family, parts in groupby(series, key=lambda each: each.family):
        yield head_text(family, form).encode()
        for part in parts:
            for piece in _lines(part, form):
                yield piece.encode()
    if form is TextFormat.OPENMETRICS:
        yield b"# EOF\n"


def row_texts(series: Series, form: TextFormat) -> Iterable[str]:
    """The lines of each row, in the order of ``series.rows``."""
    every = slice(0, len(series.rows))
    return _histogram_lines(series, every, form) if isinstance(series, HistogramSeries) else _value_lines(series, every)


def head_text(family: Family, form: TextFormat) -> str:
    """HELP, TYPE and, in OpenMetrics, UNIT."""
    if form is TextFormat.OPENMETRICS:
        unit = f"# UNIT {family.name} {family.unit}\n" if family.unit else ""
        text = family.help.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
        return f"# HELP {family.name} {text}\n# TYPE {family.name} {family.type.value}\n{unit}"
    word = "untyped" if family.type is FamilyType.UNKNOWN else family.type.value
    text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {family.sample_name} {text}\n# TYPE {family.sample_name} {word}\n"


def _lines(series: Series, form: TextFormat) -> Iterator[str]:
    for first in range(0, len(series.rows), _ROWS_A_PIECE):
        chosen = slice(first, first + _ROWS_A_PIECE)
        if isinstance(series, HistogramSeries):
            yield "".join(_histogram_lines(series, chosen, form))
        else:
            yield "".join(_value_lines(series, chosen))


def _value_lines(series: StatSeries | NumberSeries, chosen: slice) -> list[str]:
    name = series.family.sample_name
    if not series.subjects.names:
        return [f"{name} {value}\n" for value in _values(series, chosen)]
    # One expression a line: a full scrape of a large host has two million of them.
    start = f"{name}{{"
    return [
        f"{start}{labels}}} {value}\n"
        for labels, value in zip(_labels(series, chosen), _values(series, chosen), strict=True)
    ]


def _values(series: StatSeries | NumberSeries, chosen: slice) -> Sequence[int | str]:
    if isinstance(series, StatSeries):
        return value_texts(series.descriptor, series.words[chosen])
    return [float_text(number) if isinstance(number, float) else number for number in series.numbers[chosen]]


def _histogram_lines(series: HistogramSeries, chosen: slice, form: TextFormat) -> Iterator[str]:
    """For each subject its lines, by a pattern in which only labels and numbers are missing.

    OpenMetrics has no count of a histogram whose sum is not known; its last bucket is the count.
    """
    name = series.family.name
    bounds = bucket_bounds(series.descriptor)
    lines = [f'{name}_bucket{{\0,le="{bound}"}} %d\n' for bound in bounds]
    cumulative = np.cumsum(series.words[chosen], axis=1, dtype=np.uint64)
    if series.sums is not None or form is TextFormat.PROMETHEUS:
        lines.append(f"{name}_count{{\0}} %d\n")
        cumulative = np.concatenate([cumulative, cumulative[:, -1:]], axis=1)
    rows: list[list[int | str]] = cumulative.tolist()
    if series.sums is not None and series.sum_descriptor is not None:
        lines.append(f"{name}_sum{{\0}} %s\n")
        for row, text in zip(rows, value_texts(series.sum_descriptor, series.sums[chosen]), strict=True):
            row.append(text)
    pattern = "".join(lines)
    for labels, row in zip(_labels(series, chosen), rows, strict=True):
        # A label's value may have a percent sign, which is not a place of a number.
        yield pattern.replace("\0", labels.replace("%", "%%")) % tuple(row)


def _labels(series: Series, chosen: slice) -> list[str]:
    texts = series.subjects.texts
    return [texts[row] for row in series.rows[chosen].tolist()]
