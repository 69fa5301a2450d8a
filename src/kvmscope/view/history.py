"""The last minutes of metrics, for sparklines and charts, and how a row of numbers is drawn in one line.

Each added window gives one value. An unknown value, also while the source was away, is None and is drawn as a blank,
never as 0.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Final

from ..sample import VmId
from .overview import Overview
from .values import Moment

LENGTH: Final = 180
"""Number of windows that are kept: three minutes at one per second."""

BLOCKS: Final = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS: Final = "_.,-=+*#"

_UNKNOWN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class _KeptWindow:
    """One window: the metrics of each VM and of the host. In ``columns``, NaN is an unknown value: a list with None
    would take four times the memory with ten thousand VMs.
    """

    time: Moment
    places: Mapping[VmId, int] = field(default_factory=dict)
    columns: Mapping[str, array[float]] = field(default_factory=dict)
    total: Mapping[str, float | None] = field(default_factory=dict)


class History:
    """Some metrics of every VM and of the host in the last windows, the oldest first."""

    def __init__(self, metrics: Sequence[str], *, length: int = LENGTH) -> None:
        self.metrics = tuple(metrics)
        self.length = length
        self._moments: deque[_KeptWindow] = deque(maxlen=length)
        self._added = 0
        self._shown = 0

    def show(self) -> None:
        """Let all results end with the latest window from now on, until the next call."""
        self._shown = self._added

    def _until_shown(self) -> list[_KeptWindow]:
        return list(self._moments)[: max(0, len(self._moments) - (self._added - self._shown))]

    def add(self, overview: Overview) -> None:
        """Add a window."""
        columns = {metric: _packed(overview.vms.column(metric)) for metric in self.metrics}
        total = {metric: overview.total.metrics.get(metric) for metric in self.metrics}
        self._append(_KeptWindow(overview.time, overview.vms.place_of, columns, total))

    def add_unknown(self, time: Moment) -> None:
        """Add a window without known values, as the source was away."""
        self._append(_KeptWindow(time))

    def of_vm(self, vm: VmId, metric: str) -> list[float | None]:
        """The history of one metric of a VM. Raises KeyError for a metric that is not kept."""
        found: list[float | None] = []
        for moment in self._until_shown():
            place = moment.places.get(vm)
            value = _UNKNOWN if place is None else moment.columns[metric][place]
            found.append(None if isnan(value) else value)
        return found

    def of_host(self, metric: str) -> list[float | None]:
        """The history of one metric of all VMs together."""
        return [moment.total.get(metric) for moment in self._until_shown()]

    def _append(self, moment: _KeptWindow) -> None:
        self._moments.append(moment)
        self._added += 1

    def sparkline(self, values: Sequence[float | None], width: int, *, levels: str = BLOCKS) -> str:
        """``values`` of the last windows in ``width`` cells."""
        return sparkline(values, width, first=self._shown - len(values), levels=levels)


def _packed(column: Sequence[float | None]) -> array[float]:
    return array("d", [_UNKNOWN if value is None else value for value in column])


def sparkline(values: Sequence[float | None], width: int, *, first: int = 0, levels: str = BLOCKS) -> str:
    """The values on a scale from 0 to their largest. A cell shows the largest of 1, 2, 4, … windows, so that all fit.

    ``first``: the number of the first value among all values ever added. A cell always covers the same windows, so a
    new value changes the last cell alone.
    """
    if width < 1:
        return ""
    each = 1
    while _cells_of(first, len(values), each) > width:
        each *= 2
    cells: dict[int, list[float]] = {}
    for number, value in enumerate(values, start=first):
        known = cells.setdefault(number // each, [])
        if value is not None:
            known.append(value)
    tops = [max(known) if known else None for known in cells.values()]
    largest = max((top for top in tops if top is not None), default=0.0)
    return "".join(_level(top, largest, levels) for top in tops).rjust(width)


def _cells_of(first: int, count: int, each: int) -> int:
    """The number of cells that values take if a cell covers ``each`` of them."""
    return (first + count - 1) // each - first // each + 1 if count else 0


def _level(value: float | None, largest: float, levels: str) -> str:
    if value is None:
        return " "
    if largest <= 0 or value <= 0:
        return levels[0]
    return levels[min(len(levels) - 1, max(1, round(value / largest * (len(levels) - 1))))]


def chart_lines(values: Sequence[float | None], width: int, height: int, *, levels: str = BLOCKS) -> list[str]:
    """The last ``width`` values as columns of ``height`` lines, the top line first, from 0 to their largest."""
    shown = list(values)[-width:]
    largest = max((value for value in shown if value is not None), default=0.0)
    columns = [_column(value, largest, height, levels) for value in shown]
    blank = " " * (width - len(columns))
    return [blank + "".join(column[row] for column in columns) for row in range(height)]


def _column(value: float | None, largest: float, height: int, levels: str) -> str:
    """The characters of one value, from the top down."""
    if value is None:
        return " " * height
    steps = round(value / largest * height * len(levels)) if largest > 0 else 0
    steps = max(1, steps)  # a known 0 is drawn, unlike an unknown value
    full, rest = divmod(steps, len(levels))
    column = levels[-1] * full + (levels[rest - 1] if rest else "")
    return column[:height].ljust(height)[::-1]


def largest_known(values: Iterable[float | None]) -> float | None:
    """The largest value; None if none is known."""
    return max((value for value in values if value is not None), default=None)
