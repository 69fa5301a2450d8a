"""Charts as coordinates of SVG: lines, heat maps and bars over a time axis. Layout alone: numbers in, path data out.

Rule: unknown values are gaps, never 0. A heat map has stronger colours for larger counts; a table has its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ...view.heat import HeatColumn

WIDTH: Final = 720
LEFT: Final = 84
"""Width of the labels of the vertical axis."""
RIGHT: Final = 8
SHADES: Final = 6
_LABEL_HEIGHT: Final = 20


@dataclass(frozen=True, slots=True)
class Tick:
    """A label of the vertical axis, at ``y``; ``value`` is in the unit of the axis."""

    y: float
    value: float


@dataclass(frozen=True, slots=True)
class LineChart:
    """A line and the area below it. ``top``: value at the upper end of the axis, which begins at 0."""

    height: int
    line: str
    area: str
    top: float
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class HeatChart:
    """Path data of cells by shade, the lightest first; empty if no cell has the shade. ``rows``: y of row ends."""

    height: int
    shades: tuple[str, ...]
    unknown: str
    rows: tuple[Tick, ...]
    most: int


@dataclass(frozen=True, slots=True)
class Bar:
    """A time span on a row."""

    x: float
    width: float


def line_chart(values: Sequence[float | None], *, height: int) -> LineChart | None:
    """The chart of evenly spaced values; None if no value is known."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    top = _round_up(max(known)) if max(known) > 0 else 1.0
    floor = height - 4

    def point(place: int, value: float) -> tuple[float, float]:
        return _x(place, len(values)), floor - (floor - 8) * min(max(value / top, 0.0), 1.0)

    lines, areas = [], []
    for run in _runs(values):
        points = [point(place, value) for place, value in run]
        text = _polyline(points)
        # A single point is drawn as a dot: a line of length 0 with round ends.
        lines.append(f"{text}h0" if len(points) == 1 else text)
        areas.append(f"{text}V{floor}H{points[0][0]:g}z")
    ticks = tuple(Tick(point(0, top * part)[1], top * part) for part in (0.0, 0.5, 1.0))
    return LineChart(height, "".join(lines), "".join(areas), top, ticks)


def heat_chart(columns: Sequence[HeatColumn], bounds: Sequence[float | None], *, row_height: int) -> HeatChart:
    """Buckets as rows, the lowest at the bottom; each shade stands for a range of counts relative to the largest."""
    rows = len(bounds) - 1
    height = rows * row_height
    most = max((max(column.counts) for column in columns if column.counts), default=0)
    shades: list[list[str]] = [[] for _ in range(SHADES)]
    unknown = []
    edges = [
        round(LEFT + (WIDTH - LEFT - RIGHT) * place / max(len(columns), 1), 1) for place in range(len(columns) + 1)
    ]
    for column, (left, right) in zip(columns, pairwise(edges), strict=True):
        across = f"h{right - left:.4g}"
        if column.counts is None:
            unknown.append(f"M{left:g} 0{across}v{height}H{left:g}z")
            continue
        for row, count in enumerate(column.counts):
            if count:
                y = height - (row + 1) * row_height
                shades[_shade(count, most)].append(f"M{left:g} {y}{across}v{row_height}H{left:g}z")
    step = max(math.ceil(rows / 8), math.ceil(_LABEL_HEIGHT / row_height))
    ticks = tuple(
        Tick(height - row * row_height, bound)
        for row, bound in enumerate(bounds)
        if bound is not None and row % step == 0
    )
    return HeatChart(height, tuple(map("".join, shades)), "".join(unknown), ticks, most)


def bar(begin_ns: int, end_ns: int, first_ns: int, last_ns: int) -> Bar:
    """A time span on an axis from ``first_ns`` to ``last_ns``; always wide enough to be visible."""
    span = max(last_ns - first_ns, 1)
    room = WIDTH - LEFT - RIGHT
    x = LEFT + room * (begin_ns - first_ns) / span
    return Bar(round(x, 1), round(max(room * (end_ns - begin_ns) / span, 3.0), 1))


def _shade(count: int, most: int) -> int:
    """The shade by the square root of a count: small counts differ from none, and large ones from each other."""
    return min(SHADES - 1, int(SHADES * math.sqrt(count / most)))


def _x(place: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (place / (count - 1) if count > 1 else 0.5)


def _runs(values: Sequence[float | None]) -> Iterable[list[tuple[int, float]]]:
    """Runs of consecutive known values, with their places."""
    run: list[tuple[int, float]] = []
    for place, value in enumerate(values):
        if value is not None:
            run.append((place, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.4g} {y:.4g}" for x, y in points)


def _round_up(value: float) -> float:
    """The value rounded up to 1, 2, 2.5, 5 or 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))
