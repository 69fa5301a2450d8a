"""The events that timing groups counted in a window: one row for each kind of event of a VM or vCPU.

Not here: the meaning of the events (sources/bpf/groups). Works with any provider whose descriptors are a count, its
time (``…_ns``) and its histogram (``…_hist``), in this order; the last two are optional.
Rule: unknown values are None; NaN ends here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from ..formula.check import Formula, Type
from ..formula.tree import Expression, QuantileTerm, Ratio, Reduction, StatName, StatTerm
from ..schema import Descriptor, Kind, Schema, Scope, Unit
from .evaluate import Evaluator
from .plan import Questions
from .window import F64Array, Window

_SCHEMAS_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class Timed:
    """One kind of event: the stats that count and time it; "" for a stat that does not exist."""

    count: str
    time: str = ""
    histogram: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """The events of one kind for one subject. ``row``: of the window's current sample; ``s_per_s``: seconds a second.

    ``mean_s``, ``p50_s``, ``p99_s``: the duration of one event.
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
    """Every kind of event that occurred in the window, for every VM or vCPU, the one that took most time first.

    ``at``: the scope to aggregate to; by default that of the schema. Events of vCPUs can be added up for their VM.
    """
    found = list(_events(window, schema, at or schema.scope))
    return sorted(found, key=lambda event: (-(event.s_per_s or 0.0), -event.per_s))


def _events(window: Window, schema: Schema, at: Scope) -> Iterator[Event]:
    evaluator = Evaluator(window, {})
    evaluator.prepare(_all_questions(schema, at))
    for kind, rate, formulas in _figures(schema):
        per_s = evaluator.of(rate, at)
        columns = {key: evaluator.of(formula, at) for key, formula in formulas.items()}
        for row in np.flatnonzero(per_s > 0).tolist():
            values = {key: _known(column, row) for key, column in columns.items()}
            yield Event(kind, row, float(per_s[row]), **{**_NOTHING, **values})


_NOTHING: Final[Mapping[str, None]] = dict.fromkeys(("s_per_s", "mean_s", "p50_s", "p99_s"))


@lru_cache(maxsize=_SCHEMAS_KEPT)
def rates(schema: Schema) -> Questions:
    """The number of events per second of each kind, for the schema's own subjects."""
    return Questions(tuple(rate for _, rate, _ in _figures(schema)), schema.scope)


@lru_cache(maxsize=_SCHEMAS_KEPT)
def _all_questions(schema: Schema, at: Scope) -> Questions:
    """All formulas of the kinds of a schema, to be evaluated together."""
    return Questions(tuple(each for _, rate, formulas in _figures(schema) for each in (rate, *formulas.values())), at)


@lru_cache(maxsize=_SCHEMAS_KEPT)
def _figures(schema: Schema) -> tuple[tuple[Timed, Formula, Mapping[str, Formula]], ...]:
    """Each kind with the formula of its rate and, by field of ``Event``, those of its other figures."""
    return tuple((kind, _rate(kind, schema), dict(_other_figures(kind, schema))) for kind in kinds_of(schema))


def _rate(kind: Timed, schema: Schema) -> Formula:
    return Formula(StatTerm(Reduction.RATE, StatName(schema.provider, kind.count)), schema.scope, Type())


def _other_figures(kind: Timed, schema: Schema) -> Iterator[tuple[str, Formula]]:
    def formula(expression: Expression) -> Formula:
        return Formula(expression, schema.scope, Type())

    if kind.time:
        time = StatTerm(Reduction.SECONDS, StatName(schema.provider, kind.time))
        yield "s_per_s", formula(time)
        yield "mean_s", formula(Ratio(time, _rate(kind, schema).expression, None))
    if kind.histogram:
        histogram = StatName(schema.provider, kind.histogram)
        yield "p50_s", formula(QuantileTerm(histogram, 0.5))
        yield "p99_s", formula(QuantileTerm(histogram, 0.99))


def _known(column: F64Array, row: int) -> float | None:
    return None if np.isnan(column[row]) else float(column[row])


def _is_time(descriptor: Descriptor) -> bool:
    return descriptor.kind is Kind.CUMULATIVE and descriptor.unit is Unit.SECONDS
