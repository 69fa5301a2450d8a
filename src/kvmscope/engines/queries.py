"""Whole queries: resolved formulas of one level, for every subject and window of recordings.

The steps of a query go upward: scenes to windows, raw rows to leaves of vCPUs, leaves to folds for VMs, and so on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..formula.check import Formula
from ..formula.resolve import Resolver
from ..formula.tree import HOST, Level
from ..schema import Scope
from .columns import BlockSet
from .leaves import OF_WINDOW
from .lower import FactSource, Lowering, Workspace
from .relational import Joined, Named, NamedScalar, Null, Query, RelationSource, Scalar, Select
from .tables import SUBJECT_KEY
from .windows import WINDOW, WINDOW_ID, WindowPlan, inner_moments, kept, of, same, scene_steps, window_steps

_SHEETS: Final = {Scope.VCPU: "vcpus", Scope.VM: "vms", HOST: "hosts"}


def key_of(level: Level) -> tuple[str, ...]:
    """The columns that identify a row of a level: those of the window and of the subject."""
    return WINDOW if level is HOST else (*WINDOW, *SUBJECT_KEY[level])


def _id_of(level: Level) -> tuple[str, ...]:
    """The same key as numbers."""
    return (WINDOW_ID, *key_of(level)[len(WINDOW) :])


@dataclass(frozen=True)
class FormulaSet:
    """Formulas by the names of their columns, the metrics that they refer to, and the available facts."""

    formulas: Mapping[str, Formula]
    metrics: Mapping[str, Formula]
    facts: FactSource
    fact_names: Collection[tuple[Level, str]]


def formula_query(asked: FormulaSet, level: Level, block_sets: Sequence[BlockSet], plan: WindowPlan) -> Query:
    """One value of each formula for each subject of ``level`` in each window that ends with a scene of these blocks.

    Columns of the result: ``key_of(level)``, ``begin_time``, ``end_time``, ``interval_s``, and one for each formula, by
    its name. Raises UsageError for a formula of VMs at the level of vCPUs.
    """
    workspace = Workspace(block_sets, plan)
    made: dict[str, list[Scalar]] = {name: [] for name in asked.formulas}
    for blocks in block_sets:
        resolver = Resolver(blocks.descriptors, asked.metrics, asked.fact_names)
        lowering = Lowering(workspace, blocks, asked.facts)
        for name, formula in asked.formulas.items():
            made[name].append(lowering.number(resolver.resolve(formula, level).node, level))
    columns = [NamedScalar(name, workspace.choose(scalars, level, Null())) for name, scalars in made.items()]
    own = kept("x", *key_of(level), "begin_time", "end_time", "interval_s")
    answer = Select((*own, *columns), RelationSource(_SHEETS[level], "x"))
    return Query((*scene_steps(plan), *level_steps(workspace, level)), answer)


def level_steps(workspace: Workspace, level: Level) -> tuple[Named, ...]:
    """The relations from windows up to the sheet of ``level``. Call after all formulas of the level are lowered."""
    steps = list(window_steps(workspace.block_sets))
    if any(leaves.reads_between for leaves in workspace.leaves.values()):
        steps.append(inner_moments())
    for scope in (Scope.VCPU, Scope.VM):
        if _is_needed(workspace, scope, level):
            steps += workspace.leaves[scope].steps()
            joins = _joins_of(workspace, scope)
            base = workspace.leaves[scope].base(tuple(joins), columns_from_below(workspace, scope))
            steps += workspace.sheets[scope].steps(base)
            steps += _folded(workspace, scope)
    if level is HOST:
        steps += workspace.sheets[HOST].steps(_hosts(workspace))
    return tuple(steps)


def _is_needed(workspace: Workspace, scope: Scope, level: Level) -> bool:
    return (
        level is scope
        or bool(workspace.folds(scope, Scope.VM) and level is not Scope.VCPU)
        or bool(workspace.folds(scope, HOST))
    )


def columns_from_below(workspace: Workspace, level: Level) -> tuple[NamedScalar, ...]:
    """The columns that a level takes from the levels below it."""
    return tuple(
        column
        for scope in _below(level)
        for column in kept(_alias(scope), *(fold.name for fold in workspace.folds(scope, level)))
    )


def _joins_of(workspace: Workspace, level: Level) -> Iterator[Joined]:
    for scope in _below(level):
        if workspace.folds(scope, level):
            source = RelationSource(_folded_name(workspace, scope, level), _alias(scope))
            yield Joined(source, same("s", _alias(scope), *_id_of(level)), keeps_all=True)


def _folded(workspace: Workspace, scope: Scope) -> Iterator[Named]:
    """The aggregates of the subjects of a scope for higher levels."""
    for level in (Scope.VM, HOST):
        folds = workspace.folds(scope, level)
        if folds:
            key = _id_of(level)
            source = RelationSource(_SHEETS[scope], "x")
            select = Select((*kept("x", *key), *folds), source, group_by=of("x", *key))
            yield Named(_folded_name(workspace, scope, level), select)


def _hosts(workspace: Workspace) -> Select:
    return Select(
        (*kept("s", WINDOW_ID, *WINDOW, *OF_WINDOW), *columns_from_below(workspace, HOST)),
        RelationSource("windows", "s"),
        joins=tuple(_joins_of(workspace, HOST)),
    )


def _folded_name(workspace: Workspace, scope: Scope, level: Level) -> str:
    return f"{_SHEETS[scope]}_by_{_SHEETS[level]}"


def _below(level: Level) -> tuple[Scope, ...]:
    return {Scope.VCPU: (), Scope.VM: (Scope.VCPU,), HOST: (Scope.VCPU, Scope.VM)}[level]


def _alias(scope: Scope) -> str:
    return f"of_{scope.value}s"
