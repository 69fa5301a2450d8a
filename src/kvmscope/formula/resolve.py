"""Turns a formula and the descriptors of a sample into one plain tree (``resolved``), without reading any value.

Resolved here, so evaluators and printers of queries do not need the catalogue:

- *Metrics.* A reference is replaced by the formula of its metric.
- *Alternatives.* ``either`` is replaced by its first option of which the sample has every stat and the caller every
  fact. The choice is by descriptors and therefore the same for all subjects: if such a stat is unknown for a subject,
  the result is unknown, and the next option is not tried. If no option is left, it is unknown.
- *Fitness.* A stat that the sample lacks, or describes with another kind than the formula expects, is
  unknown: ``seconds`` wants a time, ``rate`` and ``delta`` a count or a histogram, ``value`` one word and not a
  histogram, quantiles and shares a histogram, and all of them a descriptor that is understood.
- *Totals.* A formula of vCPUs also evaluates for a VM and the host, one of VMs for the host. Its leaves (counts, times,
  buckets) are then summed, a peak becomes the maximum: a ratio is that of the sums, and a quantile covers all values.
- *Cohorts.* The leaves of one arithmetic expression are summed over the same subjects: those for which all of its
  leaves are known, including leaves within metrics of the same scope. The subjects depend on the values; the stats that
  decide are resolved here. An expression with a leaf that is unknown for all subjects is unknown.
  An expression ends at a comparison, at ``and``, ``or``, ``not``, at the operand of ``sum(…)`` and similar, and at a
  metric of another scope: each of these has its own cohort.
- *Folds.* ``sum``, ``max``, ``mean`` and ``count`` combine the values of vCPUs, and leave out vCPUs whose value is
  unknown. For the host, they combine all vCPUs of the host.
- *Facts.* They are evaluated at the level of the formula, are never summed, and belong to no cohort.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from ..errors import UsageError
from ..schema import Descriptor, Kind, Scope, Unit
from .check import Formula
from .resolved import (
    Cohort,
    Complement,
    Connective,
    Constant,
    FactColumn,
    HistogramQuantile,
    HistogramShare,
    Operation,
    Opposite,
    Presence,
    Quantity,
    Quotient,
    Relation,
    ResolvedFormula,
    ResolvedNode,
    ScopedStat,
    StatColumn,
    StatTotal,
    Unresolved,
    VcpuFold,
)
from .text import write
from .tree import (
    Arithmetic,
    Compare,
    Either,
    Expression,
    FactTerm,
    Join,
    Leaf,
    Level,
    Minus,
    Negation,
    Number,
    OverVcpus,
    QuantileTerm,
    Ratio,
    Reduction,
    Reference,
    ShareTerm,
    StatTerm,
    children,
)

Descriptors: TypeAlias = Mapping[tuple[str, Scope, str], Descriptor]
"""The descriptors of a sample's stats, by provider, scope and name."""

_NO_METRICS: Final[Mapping[str, Formula]] = MappingProxyType({})


def resolve(
    formula: Formula,
    level: Level,
    descriptors: Descriptors,
    *,
    metrics: Mapping[str, Formula] = _NO_METRICS,
    facts: Collection[tuple[Level, str]] = (),
) -> ResolvedFormula:
    """The formula for the subjects of ``level``. ``metrics``: by name. ``facts``: those that the caller provides.

    Raises UsageError if ``level`` is vCPUs for a formula of VMs, or if it names a metric that is not in ``metrics``.
    """
    return Resolver(descriptors, metrics, facts).resolve(formula, level)


class Resolver:
    """Formulas over one set of descriptors, metrics and facts; each is resolved once."""

    def __init__(
        self, descriptors: Descriptors, metrics: Mapping[str, Formula], facts: Collection[tuple[Level, str]]
    ) -> None:
        self._descriptors = descriptors
        self._metrics = metrics
        self._facts = frozenset(facts)
        self._fact_names = frozenset(name for _, name in facts)
        self._found: dict[tuple[Formula, Level], ResolvedFormula] = {}

    def resolve(self, formula: Formula, level: Level) -> ResolvedFormula:
        """As the function ``resolve``."""
        key = (formula, level)
        if key not in self._found:
            self._found[key] = ResolvedFormula(self._whole(formula.expression, formula.scope, level), level)
        return self._found[key]

    def metric(self, name: str) -> Formula:
        """The formula of a metric; UsageError if there is none of this name."""
        found = self._metrics.get(name)
        if found is None:
            raise UsageError(f"there is no metric {name!r}")
        return found

    def _whole(self, expression: Expression, scope: Scope, level: Level) -> ResolvedNode:
        """An expression with its own cohort."""
        if scope is Scope.VM and level is Scope.VCPU:
            raise UsageError(f"{write(expression)} belongs to VMs: a vCPU does not have it")
        cohort = None if level is scope else self._cohort(expression, scope)
        return self._node(expression, _Frame(scope, level, cohort))

    def _node(self, expression: Expression, frame: _Frame) -> ResolvedNode:
        match expression:
            case Number():
                return Constant(expression.value)
            case StatTerm() | QuantileTerm() | ShareTerm():
                return self._leaf(expression, frame)
            case FactTerm():
                return self._fact(expression, frame)
            case Reference():
                return self._reference(expression, frame)
            case Minus():
                return Opposite(self._node(expression.operand, frame))
            case Arithmetic(operator=operator, left=left, right=right):
                return Operation(operator, self._node(left, frame), self._node(right, frame))
            case Ratio(left=left, right=right, zero=zero):
                return Quotient(self._node(left, frame), self._node(right, frame), zero)
            case Either():
                chosen = self._choose(expression, frame.scope)
                return chosen if isinstance(chosen, Unresolved) else self._node(chosen, frame)
            case OverVcpus():
                operand = self._whole(expression.operand, Scope.VCPU, Scope.VCPU)
                return VcpuFold(expression.fold, operand, frame.level)
            case Compare(comparison=comparison, left=left, right=right):
                return Relation(comparison, *self._wholes(left, right, frame))
            case Join(junction=junction, left=left, right=right):
                return Connective(junction, *self._wholes(left, right, frame))
            case Negation():
                return Complement(self._whole(expression.operand, frame.scope, frame.level))

    def _wholes(self, left: Expression, right: Expression, frame: _Frame) -> tuple[ResolvedNode, ResolvedNode]:
        return self._whole(left, frame.scope, frame.level), self._whole(right, frame.scope, frame.level)

    def _leaf(self, leaf: Leaf, frame: _Frame) -> ResolvedNode:
        column = self._column(leaf, frame.scope)
        if isinstance(column, Unresolved):
            return column
        if isinstance(frame.cohort, Unresolved):
            return frame.cohort
        source = column if frame.cohort is None else StatTotal(column, frame.level, frame.cohort)
        match leaf:
            case StatTerm():
                return source
            case QuantileTerm():
                return HistogramQuantile(source, leaf.q)
            case ShareTerm():
                return HistogramShare(source, leaf.bound.value, leaf.is_above)

    def _column(self, leaf: Leaf, scope: Scope) -> StatColumn | Unresolved:
        stat = ScopedStat(leaf.stat.provider, scope, leaf.stat.name)
        descriptor = self._descriptors.get(stat)
        if descriptor is None:
            return Unresolved(f"no stat {stat}", scope)
        reason = _misfit(descriptor, leaf)
        return (
            StatColumn(stat, _quantity(leaf), descriptor) if reason is None else Unresolved(f"{stat} {reason}", scope)
        )

    def _fact(self, fact: FactTerm, frame: _Frame) -> ResolvedNode:
        if (frame.level, fact.name) in self._facts:
            return FactColumn(fact.name, frame.level)
        return Unresolved(f"no fact {fact.name}", None)

    def _reference(self, reference: Reference, frame: _Frame) -> ResolvedNode:
        metric = self.metric(reference.name)
        if metric.scope is not frame.scope:
            return self._whole(metric.expression, metric.scope, frame.level)
        return self._node(metric.expression, frame)

    def _choose(self, node: Either, scope: Scope) -> Expression | Unresolved:
        """The chosen option, or why there is none."""
        lacking = [self._lacking(option, scope) for option in node.options]
        taken = (option for option, lack in zip(node.options, lacking, strict=True) if lack is None)
        return next(taken, Unresolved(f"none of {len(lacking)} options: {'; '.join(filter(None, lacking))}", scope))

    def _lacking(self, expression: Expression, scope: Scope) -> str | None:
        """Why an expression is unknown for all subjects; None if the sample has all stats that it reads."""
        match expression:
            case StatTerm() | QuantileTerm() | ShareTerm():
                column = self._column(expression, scope)
                return column.reason if isinstance(column, Unresolved) else None
            case FactTerm(name=name):
                return None if name in self._fact_names else f"no fact {name}"
            case Reference(name=name):
                metric = self.metric(name)
                return self._lacking(metric.expression, metric.scope)
            case Either():
                chosen = self._choose(expression, scope)
                return chosen.reason if isinstance(chosen, Unresolved) else None
        inner = Scope.VCPU if isinstance(expression, OverVcpus) else scope
        return next(filter(None, (self._lacking(part, inner) for part in children(expression))), None)

    def _cohort(self, expression: Expression, scope: Scope) -> Cohort | Unresolved | None:
        """The cohort over which the leaves are summed; None if there are no leaves of this scope to sum."""
        match expression:
            case StatTerm() | QuantileTerm() | ShareTerm():
                column = self._column(expression, scope)
                return column if isinstance(column, Unresolved) else Cohort((_presence(column),))
            case Reference():
                metric = self.metric(expression.name)
                return self._cohort(metric.expression, scope) if metric.scope is scope else None
            case Either():
                chosen = self._choose(expression, scope)
                return chosen if isinstance(chosen, Unresolved) else self._cohort(chosen, scope)
            case Minus() | Arithmetic() | Ratio():
                return _together([self._cohort(part, scope) for part in children(expression)])
        return None


@dataclass(frozen=True, slots=True)
class _Frame:
    """The scope of an expression, the level at which it is evaluated, and the cohort over which leaves are summed."""

    scope: Scope
    level: Level
    cohort: Cohort | Unresolved | None


def _together(cohorts: Sequence[Cohort | Unresolved | None]) -> Cohort | Unresolved | None:
    """The intersection of the cohorts."""
    unknown = next((cohort for cohort in cohorts if isinstance(cohort, Unresolved)), None)
    if unknown is not None:
        return unknown
    presences = {presence for cohort in cohorts if isinstance(cohort, Cohort) for presence in cohort.presences}
    return Cohort(tuple(sorted(presences, key=str))) if presences else None


def _presence(column: StatColumn) -> Presence:
    return Presence(column.stat, column.quantity is not Quantity.NOW)


def _quantity(leaf: Leaf) -> Quantity:
    match leaf:
        case QuantileTerm() | ShareTerm():
            return Quantity.BUCKETS
        case StatTerm(reduction=Reduction.VALUE):
            return Quantity.NOW
        case StatTerm(reduction=Reduction.DELTA):
            return Quantity.CHANGE
        case StatTerm():
            return Quantity.RATE


def _misfit(descriptor: Descriptor, leaf: Leaf) -> str | None:
    """Why the kind of a stat does not fit the leaf; None if it fits."""
    if not descriptor.is_understood:
        return "has a kind or unit that is not known"
    if not isinstance(leaf, StatTerm):
        return None if descriptor.is_histogram else "is not a histogram"
    if descriptor.is_histogram:
        return None if leaf.reduction in (Reduction.RATE, Reduction.DELTA) else "is a histogram"
    if descriptor.size != 1:
        return f"has {descriptor.size} words"
    if leaf.reduction is Reduction.SECONDS and descriptor.unit is not Unit.SECONDS:
        return "does not count time"
    is_fit = leaf.reduction is Reduction.VALUE or descriptor.kind is Kind.CUMULATIVE
    return None if is_fit else "is not cumulative"
