"""Series independent of a format: a family, its subjects, and their values.

Words of the kernel stay whole numbers beside their descriptor until they are written. Unknown values have no row.
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
    """A stat of one word, of some subjects. ``rows``: theirs in ``subjects``, ascending; ``words``: one each."""

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

    ``sums``: of the values in each, raw, as ``sum_descriptor`` describes them; None if the kernel does not have it.
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
        """Of series in the classic form: a bucket each, and count and sum."""
        return len(self.rows) * (self.descriptor.size + 1 + (self.sums is not None))


@dataclass(frozen=True, slots=True)
class NumberSeries:
    """Numbers that are worked out or said by kvmscope itself, each of the subject in its place."""

    family: Family
    subjects: LabelSets
    rows: I64Array
    numbers: Sequence[float | int]

    @property
    def count(self) -> int:
        return len(self.rows)


Series: TypeAlias = StatSeries | HistogramSeries | NumberSeries


def numbers(family: Family, subjects: LabelSets, values: Sequence[float | int | None]) -> NumberSeries:
    """One number a subject; None where it is not known, which gives no series."""
    if None not in values:
        return NumberSeries(family, subjects, np.arange(len(values)), cast("Sequence[float | int]", values))
    known = [value for value in values if value is not None]
    rows = np.flatnonzero([value is not None for value in values]) if known else np.zeros(0, np.int64)
    return NumberSeries(family, subjects, rows, known)
