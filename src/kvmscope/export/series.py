"""Series independent of a format: a family, its subjects, and their values.

Words of the kernel stay whole numbers with their descriptor until they are written. Unknown values have no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np

from ..catalog.series_names import Family
from ..sample import I64Array, U64Array
from ..schema import Descriptor
from .labels import LabelSets


@dataclass(frozen=True, slots=True)
class StatSeries:
    """A stat of one word for some subjects. ``rows``: their rows in ``subjects``, ascending; ``words``: one each."""

    family: Family
    subjects: LabelSets
    rows: I64Array
    descriptor: Descriptor
    words: U64Array

    @property
    def count(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class HistogramSeries:
    """A histogram of some subjects. ``words``: shape (rows, buckets).

    ``sums``: raw sums of the values, described by ``sum_descriptor``; None if the kernel does not have them.
    """

    family: Family
    subjects: LabelSets
    rows: I64Array
    descriptor: Descriptor
    words: U64Array
    sums: U64Array | None = None
    sum_descriptor: Descriptor | None = None

    @property
    def count(self) -> int:
        """The number of series in the classic form: one per bucket, and count and sum."""
        return len(self.rows) * (self.descriptor.size + 1 + (self.sums is not None))


@dataclass(frozen=True, slots=True)
class NumberSeries:
    """Numbers that kvmscope computed or defines, one per subject, in order."""

    family: Family
    subjects: LabelSets
    rows: I64Array
    numbers: Sequence[float | int]

    @property
    def count(self) -> int:
        return len(self.rows)


Series: TypeAlias = StatSeries | HistogramSeries | NumberSeries


def numbers(family: Family, subjects: LabelSets, values: Sequence[float | int | None]) -> NumberSeries:
    """The series of one number per subject; None is an unknown number, which gets no series."""
    if None not in values:
        return NumberSeries(family, subjects, np.arange(len(values)), cast("Sequence[float | int]", values))
    known = [value for value in values if value is not None]
    rows = np.flatnonzero([value is not None for value in values]) if known else np.zeros(0, np.int64)
    return NumberSeries(family, subjects, rows, known)
