"""Where the rules of VMs hold in the windows of a long recording, evaluated in DuckDB piece by piece.

For ``analysis.rule_history``, which carries the states of rules from one piece to the next. Costs and evidence are not
computed. A rule that reads histograms is evaluated for the VMs for which the rest of its condition holds in the piece,
or for which it held when the piece began (``screens``).

Rule: a window in which numpy could come to another result is not decided here. It is ``unsure`` if a VM or one of its
vCPUs began another epoch, a vCPU got another thread or left, or the blocks of the scenes changed. The rule stats-reset
needs every count and holds in such windows only, so it is not evaluated here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ..analysis.window import BoolArray
from ..catalog.findings import Rule
from ..catalog.metrics import formulas, load_metrics
from ..formula.check import Formula
from ..sample import U64Array
from ..schema import Scope
from ..store.replay import SceneMoment
from .columns import BlockSet
from .facts import EPOCH_ENDED, RecordedFacts
from .lower import Lowering, Workspace
from .printing import print_query
from .queries import level_steps
from .recording_pieces import PIECE, SUSPECTS, LeavingVm, RecordingPieces, numbers
from .recordings import RecordingStore
from .refusal import QueryEngine
from .relational import (
    Function,
    Literal,
    Query,
    RelationSource,
    Scalar,
    Select,
    add,
    apply,
    equal,
    when,
)
from .rules import RuleColumns, RuleSet
from .screens import ScreenedRules, asks_for_every_count
from .thinning import NeededStats
from .windows import WindowPlan, kept, scene_steps

_IN_ONE: Final = 32
"""The number of rules whose flags are packed into one integer."""


@dataclass(frozen=True)
class FlaggedWindows:
    """Flags for consecutive windows. Axes: window, rule, VM.

    ``present``: which VMs each scene has, starting with the scene before the first window. ``unsure``: the windows that
    numpy must evaluate. ``known``: the rules and VMs for which the flags show where a firing rule stays. ``leaving``:
    the VMs that were gone at the end of a window.
    """

    holds: BoolArray
    stays: BoolArray
    present: BoolArray
    unsure: BoolArray
    known: BoolArray
    leaving: Sequence[LeavingVm]


class FlaggedRecording:
    """The windows between consecutive chosen scenes of a recording, all of one boot, host and source."""

    def __init__(self, store: RecordingStore, moments: Sequence[SceneMoment], rules: Sequence[Rule]) -> None:
        """``rules``: the rules of VMs that are judged on this host, in the order of the flags. Raises as
        ``RecordingPieces``."""
        self._pieces = RecordingPieces(store, moments)
        self._rules = [replace(rule, cost=None, lost=None, evidence=(), worst=None) for rule in rules]
        self._places = {rule.slug: place for place, rule in enumerate(rules)}
        self._metrics = formulas(load_metrics())
        asked = [rule for rule in self._rules if not asks_for_every_count(rule)]
        self._screened = ScreenedRules(asked, self._metrics, self._pieces.documents.histograms)
        self._first = tuple(self._screened.first)
        self._texts: dict[tuple[str, ...], str] = {}
        """Text of queries by schema, rules and blocks."""

    @property
    def vms(self) -> U64Array:
        """The ids of all VMs of the host: the columns of flags."""
        return self._pieces.vms

    def windows(self, first: int, last: int, held: BoolArray) -> FlaggedWindows:
        """The windows between the scenes at these places. ``held``: whether each rule held or stayed in the previous
        window, by rule and VM. Raises as ``RecordingPieces.open`` does, QueryError, Unavailable."""
        pieces = self._pieces
        pieces.open(first, last, self._stats(self._first))
        found = self._ask(self._first, PIECE, last - first)
        holds, stays = (np.zeros((last - first, len(self._rules), len(self.vms)), np.bool_) for _ in range(2))
        for number, rule in enumerate(self._first):
            if rule.slug in self._places:
                place = self._places[rule.slug]
                holds[:, place], stays[:, place] = found.holds[number], found.stays[number]
        known = np.zeros(held.shape, np.bool_)
        known[[self._places[rule.slug] for rule in self._first if rule.slug in self._places]] = True
        self._add_costly(found, held, holds, stays, known)
        present = pieces.present()
        unsure = found.ended | pieces.with_other_blocks() | pieces.with_other_threads()
        return FlaggedWindows(holds, stays, present, unsure, known, pieces.leaving(present))

    def _add_costly(self, found: _Flags, held: BoolArray, holds: BoolArray, stays: BoolArray, known: BoolArray) -> None:
        """Evaluate expensive rules for the VMs for which they may fire."""
        screens = self._screened.screens
        numbers_of = {rule.slug: number for number, rule in enumerate(self._first)}
        suspected = np.zeros(len(self.vms), np.bool_)
        for screen in screens:
            suspected |= found.holds[numbers_of[screen.may.slug]].any(axis=0) | held[self._places[screen.rule.slug]]
        if not suspected.any():
            return
        costly = tuple(screen.rule for screen in screens)
        self._pieces.suspect(self.vms[suspected], self._stats(costly))
        flags = self._ask(costly, SUSPECTS, len(holds))
        for number, rule in enumerate(costly):
            place = self._places[rule.slug]
            holds[:, place], stays[:, place] = flags.holds[number], flags.stays[number]
            known[place] = suspected

    # --- queries ------------------------------------------------------------------------------------------------------

    def _ask(self, rules: tuple[Rule, ...], schema: str, windows: int) -> _Flags:
        """The flags of these rules for the VMs of a schema."""
        block_sets = self._pieces.block_sets
        key = (schema, *(rule.slug for rule in rules), *(blocks.text for blocks in block_sets))
        if key not in self._texts:
            self._texts[key] = print_query(self._flag_query(rules, schema, block_sets), QueryEngine.DUCKDB)
        found = self._pieces.read(self._texts[key])
        flags = _Flags.none(len(rules), windows, len(self.vms))
        rows, columns = self._pieces.window_places(found), self._pieces.vm_places(found)
        for number in range(len(rules)):
            group, bit = divmod(number, _IN_ONE)
            for kind, array in (("holds", flags.holds), ("stays", flags.stays)):
                array[number, rows, columns] = (numbers(found, f"{kind}_{group}") >> bit) & 1
        flags.ended[rows[numbers(found, "ended") == 1]] = True
        return flags

    def _flag_query(self, rules: Sequence[Rule], schema: str, block_sets: Sequence[BlockSet]) -> Query:
        """A row for each VM and window in which some rule holds or would stay, or an epoch ended: ``end_ns``, ``vm``,
        ``ended``, and ``holds_0``, ``stays_0`` and on, each with the flags of some rules as bits."""
        plan, stats = WindowPlan(schema=schema), self._stats(rules)
        workspace = Workspace([stats.narrowed(blocks) for blocks in block_sets], plan)
        columns = workspace.choose_each(
            [self._flags(rules, workspace, blocks) for blocks in workspace.block_sets], Scope.VM
        )
        is_any: Scalar = apply(Function.MORE, add(*(column.scalar for column in columns)), Literal(0))
        answer = Select((*kept("x", "end_ns", "vm"), *columns), RelationSource("vms", "x"), where=is_any)
        return Query((*scene_steps(plan), *level_steps(workspace, Scope.VM)), answer)

    def _flags(self, rules: Sequence[Rule], workspace: Workspace, blocks: BlockSet) -> dict[str, Scalar]:
        facts = RecordedFacts(self._pieces.documents.facts)
        lowering = Lowering(workspace, blocks, facts)
        # As on a live host, rules that the host's caveats silence were left out before.
        asked = RuleColumns(RuleSet(rules, self._metrics), lowering)
        flags: dict[str, list[Scalar]] = {}
        for number, rule in enumerate(rules):
            group, bit = divmod(number, _IN_ONE)
            for kind, holds in zip(("holds", "stays"), asked.conditions(rule), strict=True):
                flags.setdefault(f"{kind}_{group}", []).append(when(holds, Literal(1 << bit), Literal(0)))
        ended = when(equal(facts.fact(EPOCH_ENDED, Scope.VM, lowering), Literal(1.0)), Literal(1), Literal(0))
        return {**{name: add(*terms) for name, terms in flags.items()}, "ended": ended}

    # --- statistics ---------------------------------------------------------------------------------------------------

    def _stats(self, rules: Sequence[Rule]) -> NeededStats:
        conditions = [formula for rule in rules for formula in _conditions(rule)]
        return NeededStats.of(conditions, self._metrics)


def _conditions(rule: Rule) -> tuple[Formula, ...]:
    return rule.conditions if rule.clears is None else (*rule.conditions, rule.clears)


@dataclass(frozen=True)
class _Flags:
    """The result of one query. Axes: rule, window, VM. ``ended``: whether an epoch of the VM or of one of its vCPUs
    ended in a window."""

    holds: BoolArray
    stays: BoolArray
    ended: BoolArray

    @classmethod
    def none(cls, rules: int, windows: int, vms: int) -> _Flags:
        shape = (rules, windows, vms)
        return cls(np.zeros(shape, np.bool_), np.zeros(shape, np.bool_), np.zeros(windows, np.bool_))
