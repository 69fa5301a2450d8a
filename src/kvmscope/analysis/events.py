"""What groups that time events have counted in a window: one row for each kind of event of a VM or vCPU.

Not here: what the events are (sources/bpf/groups). Any provider will do whose descriptors come as a count, its time
(``…_ns``) and its histogram (``…_hist``), in this order, the last two where there are such.
Rule: what is not known is None; NaN ends here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..formula.check import Formula, Type
from ..formula.tree import Expression, QuantileTerm, Ratio, Reduction, StatName, StatTerm
from ..schema import Descriptor, Kind, Schema, Scope, Unit
from .evaluate import Evaluator
from .window import F64Array, Window


@dataclass(frozen=True, slots=True)
class Timed:
    """One kind of event: the stats that count and time it; "" where there is none."""

    count: str
    time: str = ""
    histogram: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """What one kind came to for one subject. ``row``: of the window's current sample; ``s_per_s``: seconds a second.

    ``mean_s``, ``p50_s``, ``p99_s``: how long one took.
    """

    kind: Timed
    row: int
    per_s: float
    s_per_s: float | None
    mean_s: float | None
    p50_s: float | None
    p99_s: float | None


def kinds_of(schema: Schema) -> tuple[Timed, ...]:
    """The kinds of events that a schema counts, in its order."""
    kinds: list[Timed] = []
    for descriptor in schema.descriptors:
        if descriptor.kind is Kind.CUMULATIVE and descriptor.unit is Unit.NONE:
            kinds.append(Timed(descriptor.name))
        elif kinds and _is_time(descriptor) and not kinds[-1].time:
            kinds[-1] = Timed(kinds[-1].count, descriptor.name)
        elif kinds and descriptor.is_histogram and not kinds[-1].histogram:
            kinds[-1] = Timed(kinds[-1].count, kinds[-1].time, descriptor.name)
    return tuple(kinds)


def costliest(window: Window, schema: Schema, *, at: Scope | None = None) -> list[Event]:
    """Every kind that happened in the window, of every VM or vCPU, that which took most time first.

    ``at``: of whom; by default of the schema's own subjects. A vCPU's events are had for its VM, not the other way.
    """
    found = list(_events(window, schema, at or schema.scope))
    return sorted(found, key=lambda event: (-(event.s_per_s or 0.0), -event.per_s))


def _events(window: Window, schema: Schema, at: Scope) -> Iterator[Event]:
    evaluator = Evaluator(window, {})
    for kind in kinds_of(schema):
        names = {part: StatName(schema.provider, getattr(kind, part)) for part in ("count", "time", "histogram")}
        rate = StatTerm(Reduction.RATE, names["count"])
        time = StatTerm(Reduction.SECONDS, names["time"])
        wanted: dict[str, Expression | None] = {
            "s_per_s": time if kind.time else None,
            "mean_s": Ratio(time, rate, None) if kind.time else None,
            "p50_s": QuantileTerm(names["histogram"], 0.5) if kind.histogram else None,
            "p99_s": QuantileTerm(names["histogram"], 0.99) if kind.histogram else None,
        }
        per_s = evaluator.of(Formula(rate, schema.scope, Type()), at)
        columns = {
            key: None if part is None else evaluator.of(Formula(part, schema.scope, Type()), at)
            for key, part in wanted.items()
        }
        for row in np.flatnonzero(per_s > 0).tolist():
            yield Event(kind, row, float(per_s[row]), **{key: _known(column, row) for key, column in columns.items()})


def _known(column: F64Array | None, row: int) -> float | None:
    return None if column is None or np.isnan(column[row]) else float(column[row])


def _is_time(descriptor: Descriptor) -> bool:
    return descriptor.kind is Kind.CUMULATIVE and descriptor.unit is Unit.SECONDS
