"""The values of formulas in a window, for all subjects together.

Formulas are resolved first (``formula.resolve``, where the semantics stand) and compiled to steps (``plan``); here the
steps run over the words of the window. NaN is unknown inside this package.

A step takes all rows of its operands in one call of numpy. On hosts with many subjects copies cost more than calls, so
there a step takes the rows one by one, without a copy.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from ..formula.check import Formula
from ..formula.resolve import Resolver
from ..formula.resolved import Quantity, ResolvedFormula
from ..formula.tree import Comparison, Fold, Junction, Level, Operator
from ..sample import I64Array, Sample, U64Array
from ..schema import Descriptor, Schema, Scope
from .histogram import Distributions
from .plan import (
    BucketTotalStep,
    CohortRows,
    ConstantStep,
    Division,
    FactStep,
    FoldStep,
    FormulaPlan,
    HistogramStep,
    PairStep,
    Planner,
    QuantileStep,
    Questions,
    Rows,
    ShareStep,
    StatStep,
    Step,
    TotalStep,
    WordReading,
)
from .runs import Runs, count_of, runs_of
from .window import BoolArray, F64Array, Window
from .words import words_moved, words_now

_NO_FACTS: Final[Mapping[tuple[Level, str], F64Array]] = MappingProxyType({})
_PLANNERS_KEPT: Final = 8
_MANY_SUBJECTS: Final = 2048


class Evaluator:
    """Formulas over one window. Each value is computed once. Thread-safe: a server evaluates in several threads."""

    def __init__(
        self,
        window: Window,
        metrics: Mapping[str, Formula],
        facts: Mapping[tuple[Level, str], F64Array] = _NO_FACTS,
    ) -> None:
        """``metrics``: by name, for formulas that refer to them. ``facts``: columns that ``fact(…)`` may ask for."""
        self.window = window
        self._formulas = _formulas(_schemas(window.current), tuple(metrics.items()), frozenset(facts))
        self._plan = self._formulas.planner.start
        self._tables = _ValueTables(window, facts, self._formulas.planner)
        self._missing: dict[Questions, I64Array] = {}

    def of(self, formula: str | Formula, at: Level) -> F64Array:
        """One number per subject, in the order of the current sample; NaN: unknown. Conditions: 1 holds, 0 does not.

        ``formula``: a formula, or the name of a metric. Raises UsageError if there is no such metric, or if a formula
        of VMs is evaluated for vCPUs. The first metric of a level that is requested computes all metrics of that level.
        """
        with self._formulas.lock:
            questions, place = self._formulas.find(formula, at)
            self.prepare(questions)
            found: F64Array = self._tables[at].numbers[self._plan.answers[questions].rows[place]]
        return found

    def missing(self, formula: str | Formula, at: Level) -> I64Array:
        """The number of subjects missing from each value of ``of``: vCPUs, or VMs for a formula of VMs on the host."""
        with self._formulas.lock:
            questions, place = self._formulas.find(formula, at)
            found: I64Array = self.all_missing(questions)[place]
        return found

    def prepare(self, *asked: Questions) -> None:
        """Compute the answers to several questions together, which takes less time than one after another."""
        with self._formulas.lock:
            new = tuple(questions for questions in asked if questions not in self._plan.answers)
            if new:
                self._plan = self._formulas.after(self._plan, new)
                self._tables.run(self._plan.steps, self._plan.sizes)

    def all_of(self, questions: Questions) -> F64Array:
        """``of`` each formula: shape (formulas, subjects)."""
        with self._formulas.lock:
            self.prepare(questions)
            found: F64Array = self._tables[questions.level].numbers[self._plan.answers[questions].rows]
        return found

    def all_missing(self, questions: Questions) -> I64Array:
        """``missing`` of each formula: shape (formulas, subjects)."""
        with self._formulas.lock:
            if questions not in self._missing:
                self.prepare(questions)
                self._missing[questions] = self._count_missing(questions)
            return self._missing[questions]

    def _count_missing(self, questions: Questions) -> I64Array:
        answers, table = self._plan.answers[questions], self._tables[questions.level]
        if table.missing is None or not len(answers.rows):
            missing = np.zeros((len(answers.rows), table.count), dtype=np.int64)
        else:
            missing = np.maximum.reduceat(table.missing[answers.sources], answers.starts, axis=0)
        for number, scope in answers.unresolved:
            missing[number] = np.maximum(missing[number], self._tables.runs(scope, questions.level).lengths)
        return missing

    def metrics(self, at: Level) -> Questions:
        """All metrics of level ``at``, in their order."""
        return self._formulas.metrics_at(at)

    def resolve(self, formula: str | Formula, at: Level) -> ResolvedFormula:
        """The resolved formula that ``of`` evaluates. Errors as for ``of``."""
        return self._formulas.resolve(formula, at)


class _Formulas:
    """The questions of one set of metrics, and their plans, for all windows whose samples have the same schemas.

    ``lock``: to be held while a plan is made or run, as windows of several threads share the plans.
    """

    def __init__(self, resolver: Resolver, metrics: Mapping[str, Formula]) -> None:
        self.lock = threading.RLock()
        self.planner = Planner(resolver)
        self._resolver = resolver
        self._metrics = metrics
        self._of_level: dict[Level, Questions] = {}
        self._found: dict[tuple[str | Formula, Level], tuple[Questions, int]] = {}

    def resolve(self, formula: str | Formula, at: Level) -> ResolvedFormula:
        return self._resolver.resolve(self._resolver.metric(formula) if isinstance(formula, str) else formula, at)

    def find(self, formula: str | Formula, at: Level) -> tuple[Questions, int]:
        """The questions with which a formula was last prepared, and its place in them; otherwise it alone."""
        key = (formula, at)
        if key not in self._found:
            self.resolve(formula, at)  # raises the error of an invalid formula
            if isinstance(formula, str):
                together = self.metrics_at(at)
                self._found[key] = together, together.formulas.index(self._metrics[formula])
            else:
                self._found[key] = Questions((formula,), at), 0
        return self._found[key]

    def after(self, plan: FormulaPlan, asked: tuple[Questions, ...]) -> FormulaPlan:
        """The next plan. ``find`` then finds each of its formulas in the questions that contain it."""
        if asked not in plan.following:
            for questions in asked:
                places = {(formula, questions.level): place for place, formula in enumerate(questions.formulas)}
                self._found |= {key: (questions, place) for key, place in places.items()}
        return self.planner.after(plan, asked)

    def metrics_at(self, at: Level) -> Questions:
        """All metrics of this level."""
        if at not in self._of_level:
            formulas = tuple(each for each in self._metrics.values() if at is not Scope.VCPU or each.scope is at)
            self._of_level[at] = Questions(formulas, at)
        return self._of_level[at]


@lru_cache(maxsize=_PLANNERS_KEPT)
def _formulas(
    schemas: tuple[Schema, ...], metrics: tuple[tuple[str, Formula], ...], facts: frozenset[tuple[Level, str]]
) -> _Formulas:
    by_name = dict(metrics)
    return _Formulas(Resolver(_descriptors(schemas), by_name, facts), by_name)


def _schemas(sample: Sample) -> tuple[Schema, ...]:
    return tuple(dict.fromkeys(block.schema for block in sample.blocks))


def _descriptors(schemas: tuple[Schema, ...]) -> dict[tuple[str, Scope, str], Descriptor]:
    """The descriptor of each stat in the first schema that has it; columns follow the same one."""
    found: dict[tuple[str, Scope, str], Descriptor] = {}
    for schema in schemas:
        for descriptor in schema.descriptors:
            found.setdefault((schema.provider, schema.scope, descriptor.name), descriptor)
    return found


# --- running a plan ---------------------------------------------------------------------------------------------------


class _ValueTable:
    """The values of one level: one row per node, one column per subject.

    ``known``: where a stat is known, None as long as all are. ``missing``: the number of subjects that a total or a
    fold leaves out, None as long as there are none. ``buckets`` and ``distributions``: of histograms, by their row.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.numbers: F64Array = np.empty((0, count))
        self.known: BoolArray | None = None
        self.missing: I64Array | None = None
        self.buckets: dict[int, U64Array] = {}
        self.distributions: dict[int, Distributions] = {}

    def reserve(self, size: int) -> None:
        """Grow to at least this many rows; existing rows keep their values."""
        if size > len(self.numbers):
            self.numbers = _extended(self.numbers, size)
            self.known = None if self.known is None else _extended(self.known, size, True)
            self.missing = None if self.missing is None else _extended(self.missing, size, 0)

    def set_known(self, rows: slice | int, known: BoolArray) -> None:
        if self.known is None:
            self.known = np.ones(self.numbers.shape, dtype=np.bool_)
        self.known[rows] = known

    def set_missing(self, rows: slice | int, missing: I64Array) -> None:
        if self.missing is None:
            self.missing = np.zeros(self.numbers.shape, dtype=np.int64)
        self.missing[rows] = missing

    def pieces(self, rows: slice, *operands: Rows) -> Iterator[tuple[Any, ...]]:
        """A step's rows with those of its operands: all at once, or one by one on a host with many subjects."""
        if self.count <= _MANY_SUBJECTS:
            yield rows, *operands
        else:
            yield from zip(range(rows.start, rows.stop), *(each.tolist() for each in operands), strict=True)


def _extended(rows: Any, size: int, value: float | None = None) -> Any:
    """``value``: fills the new rows; None: they stay uninitialised, as steps fill them."""
    larger = np.empty((size, rows.shape[1]), dtype=rows.dtype)
    larger[: len(rows)] = rows
    if value is not None:
        larger[len(rows) :] = value
    return larger


class _ValueTables:
    """The tables of a window, which steps fill."""

    def __init__(self, window: Window, facts: Mapping[tuple[Level, str], F64Array], planner: Planner) -> None:
        self._window = window
        self._facts = facts
        self._planner = planner
        self._levels: dict[Level, _ValueTable] = {}
        self._runs: dict[tuple[Scope, Level], Runs] = {}

    def __getitem__(self, level: Level) -> _ValueTable:
        if level not in self._levels:
            self._levels[level] = _ValueTable(count_of(self._window.current, level))
        return self._levels[level]

    def runs(self, scope: Scope, level: Level) -> Runs:
        """The subjects of ``scope`` that belong to each subject of ``level``."""
        if (scope, level) not in self._runs:
            self._runs[scope, level] = runs_of(self._window.current, scope, level)
        return self._runs[scope, level]

    def run(self, steps: tuple[Step, ...], sizes: Mapping[Level, int]) -> None:
        """``sizes``: the number of rows that each table needs for these steps."""
        for level in sizes:
            self[level].reserve(self._planner.size(level))
        with np.errstate(all="ignore"):
            for step in steps:
                self._run(step, self[step.level])

    def _run(self, step: Step, table: _ValueTable) -> None:
        match step:
            case PairStep():
                compute = _FUNCTIONS[type(step.function)]
                numbers = table.numbers
                for rows, left, right in table.pieces(step.rows, step.left, step.right):
                    compute(step.function, _taken(numbers, left), _taken(numbers, right), numbers[rows])
            case TotalStep():
                self._total(step, table)
            case FoldStep():
                self._fold(step, table)
            case StatStep():
                self._stats(step, table)
            case ConstantStep():
                table.numbers[step.rows] = step.values
            case FactStep():
                values = table.numbers[step.rows]
                for row, name in enumerate(step.names):
                    values[row] = self._facts[step.level, name]
                _make_finite(values)
            case HistogramStep():
                self._histogram(step, table)
            case BucketTotalStep():
                self._bucket_total(step, table)
            case QuantileStep():
                found = self._distributions(step, table).quantiles(step.qs).estimate
                table.numbers[step.rows] = found.T
                _make_finite(table.numbers[step.rows])
            case ShareStep():
                below = self._distributions(step, table).share_below(step.bound)
                table.numbers[step.row] = 1.0 - below if step.is_above else below

    def _stats(self, step: StatStep, table: _ValueTable) -> None:
        is_change = step.reading is WordReading.CHANGE
        found = words_moved(self._window, step.selection) if is_change else words_now(self._window, step.selection)
        words = found.words.view(np.int64) if step.reading is WordReading.SIGNED_NOW else found.words
        factors = np.where(step.is_rate, step.factors / self._window.interval_s, step.factors)
        values = table.numbers[step.rows]
        np.multiply(words, factors, out=values)
        if not np.isfinite(step.factors).all():
            _make_finite(values)
        if found.known is not None:
            values[~found.known] = np.nan
            table.set_known(step.rows, found.known)

    def _histogram(self, step: HistogramStep, table: _ValueTable) -> None:
        moved = self._window.movement(*step.column.stat)
        if moved is None:
            raise LookupError(f"{step.column.stat} is in the schemas and not in the sample")
        table.buckets[step.row] = moved.words
        if step.column.quantity is not Quantity.BUCKETS:
            per = self._window.interval_s if step.column.quantity is Quantity.RATE else 1.0
            table.numbers[step.row] = moved.words.sum(axis=1) * (1.0 / per)
        if not moved.known.all():
            table.numbers[step.row, ~moved.known] = np.nan
            table.set_known(step.row, moved.known)

    def _total(self, step: TotalStep, table: _ValueTable) -> None:
        of, runs = self[step.scope], self.runs(step.scope, step.level)
        members = self._members(step.cohorts, of)
        reduce, nothing = (runs.max, -np.inf) if step.is_max else (runs.sum, 0.0)
        if members is not None:
            present = runs.count(members)
            table.set_missing(step.rows, (runs.lengths - present)[step.cohorts.of])
        for rows, columns, cohorts in table.pieces(step.rows, step.columns, step.cohorts.of):
            values = _taken(of.numbers, columns)
            if members is None:
                table.numbers[rows] = reduce(values)
                if runs.has_empty:
                    table.numbers[rows, runs.lengths == 0] = np.nan
            else:
                folded = reduce(np.where(members[cohorts], values, nothing))
                table.numbers[rows] = np.where(present[cohorts] > 0, folded, np.nan)

    @staticmethod
    def _members(cohorts: CohortRows, of: _ValueTable) -> BoolArray | None:
        """The members of each cohort; None if all subjects belong to it."""
        if of.known is None:
            return None
        members: BoolArray = np.logical_and.reduceat(of.known[cohorts.presences], cohorts.starts, axis=0)
        return None if members.all() else members

    def _bucket_total(self, step: BucketTotalStep, table: _ValueTable) -> None:
        of, runs = self[step.scope], self.runs(step.scope, step.level)
        members = self._members(step.cohorts, of)
        counts = of.buckets[step.column]
        if members is not None:
            counts = np.where(members[0][:, np.newaxis], counts, np.uint64(0))
            table.set_missing(step.row, runs.lengths - runs.count(members[0]))
        table.buckets[step.row] = runs.sum_buckets(counts)

    def _distributions(self, step: QuantileStep | ShareStep, table: _ValueTable) -> Distributions:
        # Where no subject is known, all counts are 0, and a histogram without values has no quantile and no share.
        if step.buckets not in table.distributions:
            counts = table.buckets[step.buckets]
            if table.known is not None:
                counts = np.where(table.known[step.buckets][:, np.newaxis], counts, np.uint64(0))
            table.distributions[step.buckets] = Distributions(step.descriptor, counts)
        return table.distributions[step.buckets]

    def _fold(self, step: FoldStep, table: _ValueTable) -> None:
        of, runs = self[Scope.VCPU], self.runs(Scope.VCPU, step.level)
        reduce, nothing = (runs.max, -np.inf) if step.fold is Fold.MAX else (runs.sum, 0.0)
        for rows, operands in of.pieces(step.rows, step.operands):
            values = _taken(of.numbers, operands)
            unknown = np.isnan(values)
            members = runs.lengths
            if np.count_nonzero(unknown):
                missing = runs.count(unknown)
                table.set_missing(rows, missing)
                members = members - missing
                values = np.where(unknown, nothing, values)
            folded = reduce(values)
            if step.fold is Fold.MEAN:
                folded = folded / members
            table.numbers[rows] = np.where(members > 0, folded, np.nan)
            _make_finite(table.numbers[rows])


def _taken(numbers: F64Array, rows: Rows | int) -> F64Array:
    """Several rows as one array, or one row as a view. Indexing with an array takes three times as long as ``take``."""
    return numbers[rows] if isinstance(rows, int) else numbers.take(rows, axis=0)


def _make_finite(values: F64Array) -> None:
    """Turn values that are not finite into NaN, for unknown."""
    is_finite = np.isfinite(values)
    if np.count_nonzero(is_finite) < values.size:  # all() takes three times as long
        values[~is_finite] = np.nan


def _operate(operator: Operator, left: F64Array, right: F64Array, out: F64Array) -> None:
    _OPERATIONS[operator](left, right, out=out)
    _make_finite(out)


def _divide(division: Division, above: F64Array, below: F64Array, out: F64Array) -> None:
    np.divide(above, below, out=out)
    if division.zero is not None:
        np.copyto(out, division.zero, where=(below == 0) & ~np.isnan(above))
    _make_finite(out)  # a division by 0 is not finite


def _compare(comparison: Comparison, left: F64Array, right: F64Array, out: F64Array) -> None:
    out[...] = _COMPARISONS[comparison](left, right)
    np.copyto(out, np.nan, where=np.isnan(left) | np.isnan(right))


def _connect(junction: Junction, left: F64Array, right: F64Array, out: F64Array) -> None:
    decisive = 0.0 if junction is Junction.AND else 1.0
    # For 1, 0 and NaN: if no operand is decisive, a conjunction is the product and a disjunction the sum.
    (np.multiply if junction is Junction.AND else np.add)(left, right, out=out)
    np.copyto(out, decisive, where=(left == decisive) | (right == decisive))


_FUNCTIONS: Final[Mapping[type, Any]] = {
    Operator: _operate,
    Division: _divide,
    Comparison: _compare,
    Junction: _connect,
}
_OPERATIONS: Final[Mapping[Operator, np.ufunc]] = {
    Operator.ADD: np.add,
    Operator.SUBTRACT: np.subtract,
    Operator.MULTIPLY: np.multiply,
    Operator.DIVIDE: np.divide,
    Operator.MIN: np.minimum,
    Operator.MAX: np.maximum,
}
_COMPARISONS: Final[Mapping[Comparison, np.ufunc]] = {
    Comparison.LESS: np.less,
    Comparison.LESS_OR_EQUAL: np.less_equal,
    Comparison.EQUAL: np.equal,
    Comparison.NOT_EQUAL: np.not_equal,
}
