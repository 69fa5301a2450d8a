"""The rules of the catalogue as one query: in which windows each fires for which VM, with cost and evidence.

``analysis.findings`` computes the same one window after the other. Here the state of a rule is found without recursion.
For one rule and VM, in the order of windows:

- a *candidate* is a window in which the rule holds (``activity`` and ``when``), or stays if it already fires
  (``activity``, and ``clears`` is known not to hold);
- an *island* is a series of adjacent candidates in which the subject does not start again;
- a *run* is a stretch of an island in which the rule holds;
- the rule fires from the window in which a run is as long as the rule requires, to the end of the island. It began with
  that run.

A VM starts again where it appears, where it begins another epoch, and where one of its existing vCPUs does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..catalog.findings import Rule
from ..formula.check import Formula
from ..formula.resolve import Resolver
from ..schema import Scope
from .columns import BlockSet
from .facts import FACT_NAMES, DocumentFacts, RecordedFacts
from .lower import Lowering, Workspace
from .queries import key_of, level_steps
from .refusal import EngineRefusal, QueryEngine
from .relational import (
    Aggregate,
    Aggregation,
    Branching,
    Function,
    Joined,
    Literal,
    Named,
    NamedScalar,
    Null,
    OneOf,
    Query,
    Ref,
    RelationSource,
    RowsSoFar,
    Scalar,
    Select,
    UnionAll,
    apply,
    equal,
    every,
    when,
)
from .windows import SERIES, WindowPlan, kept, of, same, scene_steps

_KEY: Final = key_of(Scope.VM)
_SUBJECT: Final = (*SERIES, "vm", "rule")
_TIMES: Final = ("begin_ns", "end_ns", "begin_time", "end_time", "interval_s")
_ONE, _ZERO = Literal(1), Literal(0)


@dataclass(frozen=True)
class RuleSet:
    """Rules and the metrics that they refer to. ``silent``: for each rule, the keys of the machines on which it is not
    judged since its stats have another meaning there."""

    rules: Sequence[Rule]
    metrics: Mapping[str, Formula]
    silent: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def evidence_count(self) -> int:
        return max((len(rule.evidence) for rule in self.rules), default=0)


def refused_rules(rules: Sequence[Rule], engine: QueryEngine) -> tuple[EngineRefusal, ...]:
    """The rules that ``rule_query`` cannot express, with the reason."""
    reason = "it is of vCPUs, and whether one starts again depends on its VM"
    return tuple(EngineRefusal(engine, rule.slug, reason) for rule in rules if rule.scope is Scope.VCPU)


def rule_query(asked: RuleSet, block_sets: Sequence[BlockSet], plan: WindowPlan, documents: DocumentFacts) -> Query:
    """A row for each VM and window in which a rule fires.

    Its columns: ``rule``, SERIES, ``window``, ``vm``, ``name``, ``begin_ns``, ``end_ns``, ``begin_time``, ``end_time``,
    ``interval_s``; ``began_ns``: CLOCK_BOOTTIME since which it holds; ``stands``: 1 in the last window of its series;
    ``cost_cpus``, ``lost_vcpus``; ``evidence_0`` and on: the metrics of the rule's evidence, in order.
    """
    workspace = Workspace(block_sets, plan)
    flagged = _flagged(asked, workspace, RecordedFacts(documents))
    steps = [*scene_steps(plan), Named("last_windows", _last_windows()), *level_steps(workspace, Scope.VM)]
    steps += [
        Named("flagged", flagged),
        Named("rules", _rules(asked.rules)),
        Named("candidates", _candidates(asked)),
        Named("marked", _marked()),
        Named("islands", _islands()),
        Named("runs", _runs()),
        Named("complete", _complete()),
        Named("states", _states()),
    ]
    return Query(tuple(steps), _answer(asked))


def _flagged(asked: RuleSet, workspace: Workspace, facts: RecordedFacts) -> Select:
    """The VMs and windows in which any rule holds or would stay, with the columns of all rules."""
    groups = [RuleColumns(asked, Lowering(workspace, blocks, facts)) for blocks in workspace.block_sets]
    columns = workspace.choose_each([group.columns() for group in groups], Scope.VM)
    is_any: Scalar = equal(_ONE, _ZERO)
    for column in columns:
        if column.name.startswith(("holds_", "stays_")):
            is_any = apply(Function.OR, is_any, equal(column.scalar, _ONE))
    name = NamedScalar("name", workspace.leaves[Scope.VM].attribute("name"))
    is_new = NamedScalar("is_new", _starts_again(workspace))
    own = kept("x", *_KEY, *_TIMES)
    return Select((*own, name, is_new, *columns), RelationSource("vms", "x"), where=is_any)


def _starts_again(workspace: Workspace) -> Scalar:
    """1 where the VM appeared in the window, or it or one of its vCPUs began another epoch."""
    before, after = Ref("epoch_before"), Ref("epoch_after")
    changed = when(apply(Function.NOT_EQUAL, before, after), _ONE, _ZERO)
    of_vcpus = workspace.fold(Scope.VCPU, Scope.VM, Aggregate(Aggregation.MAX, changed))
    goes_on = every(equal(before, after), equal(apply(Function.COALESCE, of_vcpus, _ZERO), _ZERO))
    return workspace.sheets[Scope.VM].hold(when(goes_on, _ZERO, _ONE))


class RuleColumns:
    """The columns of rules for VMs whose scenes have one set of blocks."""

    def __init__(self, asked: RuleSet, lowering: Lowering) -> None:
        self._asked = asked
        self._lowering = lowering
        self._resolver = Resolver(lowering.blocks.descriptors, asked.metrics, FACT_NAMES)
        self._sheet = lowering.sheets[Scope.VM]

    def columns(self) -> dict[str, Scalar]:
        """Columns by name; for the rule at place 7: ``holds_7``, ``stays_7``, ``cost_7``, ``lost_7``, ``evidence_7_0``
        and on."""
        rules = enumerate(self._asked.rules)
        return {name: scalar for at, rule in rules for name, scalar in self._of_rule(at, rule)}

    def conditions(self, rule: Rule) -> tuple[Scalar, Scalar]:
        """Where the rule holds, and where it stays if it already fires."""
        active = _TRUE if rule.activity is None else self._condition(rule.activity)
        fires = self._condition(rule.when)
        clears = apply(Function.NOT, fires) if rule.clears is None else self._condition(rule.clears)
        active = every(active, self._is_judged(rule))
        return every(active, fires), every(active, apply(Function.NOT, clears))

    def _of_rule(self, at: int, rule: Rule) -> Iterator[tuple[str, Scalar]]:
        holds, stays = self.conditions(rule)
        yield f"holds_{at}", when(holds, _ONE, _ZERO)
        yield f"stays_{at}", when(stays, _ONE, _ZERO)
        yield f"cost_{at}", self._number(rule.cost)
        yield f"lost_{at}", self._number(rule.lost)
        for place, name in enumerate(rule.evidence):
            yield f"evidence_{at}_{place}", self._number(self._resolver.metric(name))

    def _is_judged(self, rule: Rule) -> Scalar:
        """Whether the rule is judged. A simulated VM does not depend on its host, so no caveat silences its rules."""
        is_silent = OneOf(Ref("machine"), tuple(self._asked.silent.get(rule.slug, ())))
        return apply(Function.OR, Ref("simulated"), apply(Function.NOT, is_silent))

    def _condition(self, formula: Formula) -> Scalar:
        return self._sheet.hold(self._lowering.condition(self._resolver.resolve(formula, Scope.VM).node, Scope.VM))

    def _number(self, formula: Formula | None) -> Scalar:
        if formula is None:
            return Null()
        return self._lowering.number(self._resolver.resolve(formula, Scope.VM).node, Scope.VM)


def _rules(rules: Sequence[Rule]) -> UnionAll:
    """The rules as rows: place, slug, and the number of consecutive windows in which each must hold."""
    return UnionAll(
        tuple(
            Select(
                (
                    NamedScalar("place", Literal(at)),
                    NamedScalar("rule", Literal(rule.slug)),
                    NamedScalar("least", Literal(rule.windows)),
                ),
                None,
            )
            for at, rule in enumerate(rules)
        )
    )


def _candidates(asked: RuleSet) -> Select:
    """A row for each rule and each flagged VM and window."""

    def of_rule(what: str) -> Scalar:
        return Branching(
            tuple((equal(Ref("place", "r"), Literal(at)), Ref(f"{what}_{at}", "f")) for at in range(len(asked.rules)))
        )

    def evidence(place: int) -> Scalar:
        branches = tuple(
            (equal(Ref("place", "r"), Literal(at)), Ref(f"evidence_{at}_{place}", "f"))
            for at, rule in enumerate(asked.rules)
            if place < len(rule.evidence)
        )
        return Branching(branches)

    return Select(
        (
            *kept("f", *_KEY, *_TIMES, "name", "is_new"),
            *kept("r", "rule", "least"),
            NamedScalar("holds", of_rule("holds")),
            NamedScalar("stays", of_rule("stays")),
            NamedScalar("cost_cpus", of_rule("cost")),
            NamedScalar("lost_vcpus", of_rule("lost")),
            *(NamedScalar(f"evidence_{place}", evidence(place)) for place in range(asked.evidence_count)),
        ),
        RelationSource("flagged", "f"),
        joins=(Joined(RelationSource("rules", "r"), None),),
    )


def _marked() -> Select:
    """The candidates, each with its place among the candidates of its rule and VM, and how often the VM has started
    again."""
    upto = RowsSoFar(of("c", *_SUBJECT), of("c", "window"))
    return Select(
        (
            NamedScalar("place", Aggregate(Aggregation.COUNT, None, upto)),
            NamedScalar("starts", Aggregate(Aggregation.SUM, Ref("is_new", "c"), upto)),
        ),
        RelationSource("candidates", "c"),
        where=apply(Function.OR, equal(Ref("holds", "c"), _ONE), equal(Ref("stays", "c"), _ONE)),
        keeps_columns=True,
    )


def _islands() -> Select:
    """The candidates by island: in an island, window numbers are as far apart as places."""
    return Select(
        (NamedScalar("island", apply(Function.SUBTRACT, Ref("window", "m"), Ref("place", "m"))),),
        RelationSource("marked", "m"),
        keeps_columns=True,
    )


def _runs() -> Select:
    """The number of earlier windows of the island in which the rule did not hold: constant within a run."""
    fails = apply(Function.SUBTRACT, _ONE, Ref("holds", "i"))
    return Select(
        (NamedScalar("run", Aggregate(Aggregation.SUM, fails, _upto("i"))),),
        RelationSource("islands", "i"),
        keeps_columns=True,
    )


def _complete() -> Select:
    """When the run began, if it is as long as the rule requires so far; else NULL."""
    of_run = RowsSoFar((*of("r", *_ISLAND), Ref("run", "r")), of("r", "window"))
    length = Aggregate(Aggregation.SUM, Ref("holds", "r"), of_run)
    began = Aggregate(Aggregation.MIN, when(equal(Ref("holds", "r"), _ONE), Ref("begin_ns", "r")), of_run)
    return Select(
        (NamedScalar("length", length), NamedScalar("run_began_ns", began)),
        RelationSource("runs", "r"),
        keeps_columns=True,
    )


def _states() -> Select:
    """Since when the rule fires, from the island's first run that was long enough; NULL where it does not fire."""
    is_enough = every(
        equal(Ref("holds", "c"), _ONE), apply(Function.MORE_OR_EQUAL, Ref("length", "c"), Ref("least", "c"))
    )
    began = Aggregate(Aggregation.MIN, when(is_enough, Ref("run_began_ns", "c")), _upto("c"))
    return Select((NamedScalar("began_ns", began),), RelationSource("complete", "c"), keeps_columns=True)


def _answer(asked: RuleSet) -> Select:
    evidence = (f"evidence_{place}" for place in range(asked.evidence_count))
    is_last = when(equal(Ref("window", "s"), Ref("last_window", "l")), _ONE, _ZERO)
    return Select(
        (
            *kept("s", "rule", *_KEY, "name", *_TIMES, "began_ns"),
            NamedScalar("stands", is_last),
            *kept("s", "cost_cpus", "lost_vcpus", *evidence),
        ),
        RelationSource("states", "s"),
        joins=(Joined(RelationSource("last_windows", "l"), same("s", "l", *SERIES)),),
        where=apply(Function.NOT, apply(Function.IS_NULL, Ref("began_ns", "s"))),
    )


def _last_windows() -> Select:
    return Select(
        (*kept("p", *SERIES), NamedScalar("last_window", Aggregate(Aggregation.MAX, Ref("window", "p")))),
        RelationSource("paired", "p"),
        where=apply(Function.MORE, Ref("end_ns", "p"), Ref("begin_ns", "p")),
        group_by=of("p", *SERIES),
    )


_ISLAND: Final = (*_SUBJECT, "island", "starts")
_TRUE: Final = equal(_ONE, _ONE)


def _upto(alias: str) -> RowsSoFar:
    """The rows of the same island up to this one."""
    return RowsSoFar(of(alias, *_ISLAND), of(alias, "window"))
