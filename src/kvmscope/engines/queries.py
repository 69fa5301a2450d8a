"""Whole queries: resolved formulas of one level, for every subject and window of recordings.

The steps of a query go up: scenes to windows, raw rows to leaves of vCPUs, those to folds for VMs, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ..formula.resolved import ResolvedFormula
from ..formula.tree import HOST, Level
from ..schema import Scope
from .columns import BlockSet
from .leaves import OF_WINDOW
from .lower import FactSource, Lowering
from .relational import Column, Joined, Named, Query, Select, Source
from .tables import SUBJECT_KEY
from .windows import WINDOW, WindowPlan, inner_moments, kept, of, same, scene_steps, window_steps

_SHEETS: Final = {Scope.VCPU: "vcpus", Scope.VM: "vms", HOST: "hosts"}


def key_of(level: Level) -> tuple[str, ...]:
    """The columns that name a row of a level: the window's, and the subject's."""
    return WINDOW if level is HOST else (*WINDOW, *SUBJECT_KEY[level])


def formula_query(
    formulas: Mapping[str, ResolvedFormula], level: Level, blocks: BlockSet, plan: WindowPlan, facts: FactSource
) -> Query:
    """One number of each formula for each subject of ``level`` in each window that ends with a scene of ``blocks``.

    The columns of the answer: ``key_of(level)``, ``begin_time``, ``end_time``, ``interval_s``, and one a formula, by
    its name. All formulas are resolved for ``level`` with the descriptors of ``blocks``.
    """
    lowering = Lowering(blocks, plan, facts)
    made = {name: lowering.number(formula.node, level) for name, formula in formulas.items()}
    columns = [Column(name, lowering.sheets[level].hold(scalar)) for name, scalar in made.items()]
    own = kept("x", *key_of(level), "begin_time", "end_time", "interval_s")
    answer = Select((*own, *columns), Source(_SHEETS[level], "x"))
    return Query((*scene_steps(plan), *level_steps(lowering, level)), answer)


def level_steps(lowering: Lowering, level: Level) -> tuple[Named, ...]:
    """The relations from windows up to the sheet of ``level``, after all that is asked of it was lowered."""
    label = lowering.label
    steps = list(window_steps(label, (lowering.blocks,)))
    if any(leaves.reads_between for leaves in lowering.leaves.values()):
        steps.append(inner_moments(label))
    for scope in (Scope.VCPU, Scope.VM):
        if _is_needed(lowering, scope, level):
            steps += lowering.leaves[scope].steps()
            joins = _joins_of(lowering, scope)
            base = lowering.leaves[scope].base(tuple(joins), lowering_columns(lowering, scope))
            steps += lowering.sheets[scope].steps(base)
            steps += _folded(lowering, scope)
    if level is HOST:
        steps += lowering.sheets[HOST].steps(_hosts(lowering))
    return tuple(steps)


def _is_needed(lowering: Lowering, scope: Scope, level: Level) -> bool:
    return (
        level is scope
        or bool(lowering.folds(scope, Scope.VM) and level is not Scope.VCPU)
        or bool(lowering.folds(scope, HOST))
    )


def lowering_columns(lowering: Lowering, level: Level) -> tuple[Column, ...]:
    """The columns that a level has from the levels below it."""
    return tuple(
        column
        for scope in _below(level)
        for column in kept(_alias(scope), *(fold.name for fold in lowering.folds(scope, level)))
    )


def _joins_of(lowering: Lowering, level: Level) -> Iterator[Joined]:
    for scope in _below(level):
        if lowering.folds(scope, level):
            source = Source(_folded_name(lowering, scope, level), _alias(scope))
            yield Joined(source, same("s", _alias(scope), *key_of(level)), keeps_all=True)


def _folded(lowering: Lowering, scope: Scope) -> Iterator[Named]:
    """What is made of the subjects of a scope for those of higher levels."""
    for level in (Scope.VM, HOST):
        folds = lowering.folds(scope, level)
        if folds:
            key = key_of(level)
            source = Source(f"{lowering.label}{_SHEETS[scope]}", "x")
            select = Select((*kept("x", *key), *folds), source, group_by=of("x", *key))
            yield Named(_folded_name(lowering, scope, level), select)


def _hosts(lowering: Lowering) -> Select:
    return Select(
        (*kept("s", *WINDOW, *OF_WINDOW), *lowering_columns(lowering, HOST)),
        Source(f"{lowering.label}windows", "s"),
        joins=tuple(_joins_of(lowering, HOST)),
    )


def _folded_name(lowering: Lowering, scope: Scope, level: Level) -> str:
    return f"{lowering.label}{_SHEETS[scope]}_by_{_SHEETS[level]}"


def _below(level: Level) -> tuple[Scope, ...]:
    return {Scope.VCPU: (), Scope.VM: (Scope.VCPU,), HOST: (Scope.VCPU, Scope.VM)}[level]


def _alias(scope: Scope) -> str:
    return f"of_{scope.value}s"
