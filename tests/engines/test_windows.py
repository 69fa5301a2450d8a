"""Windows of many scenes: counts grow by what they grew within each epoch, and no increase between windows is lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from crafted import MACHINE
from engines_at_hand import ENGINES, ClickhouseAtHand, DuckdbAtHand, Rows, block_sets, is_near, tables_by_host
from formula_cases import SCHEMAS, ReferenceMoment, Subject, Words

from kvmscope.engines.facts import FACT_NAMES, DocumentFacts, RecordedFacts
from kvmscope.engines.queries import FormulaSet, formula_query
from kvmscope.engines.windows import WindowPlan
from kvmscope.formula.check import Formula, Type
from kvmscope.formula.tree import Expression, QuantileTerm, Reduction, StatName, StatTerm
from kvmscope.scene import Scene, VmIdentity
from kvmscope.schema import Scope
from kvmscope.store.layout import RecordingTable

EVERY_S = 4
SCENES = 23
NOON_S = 1_700_000_000
EXITS, HIST = StatName("kvm", "exits"), StatName("kvm", "hist")
Made = type[DuckdbAtHand] | type[ClickhouseAtHand]
Subjects = dict[tuple[int, int], list[tuple[int, int | None]]]
"""By VM and vCPU: epoch and count of each scene of a window."""


def formula(expression: Expression) -> Formula:
    return Formula(expression, Scope.VCPU, Type())


FORMULAS = {
    "exits": formula(StatTerm(Reduction.DELTA, EXITS)),
    "now": formula(StatTerm(Reduction.VALUE, EXITS)),
    "slept": formula(StatTerm(Reduction.DELTA, HIST)),
    "median": formula(QuantileTerm(HIST, 0.5)),
}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """One scene a second, with one of them missing; vCPUs come, go, cannot be read, and are cleared."""
    chance = np.random.default_rng(7)
    words: dict[Subject, Words | None] = {}
    made: list[Scene] = []
    for at_s in range(100, 100 + SCENES):
        for subject in [(vm, vcpu) for vm in (1, 2) for vcpu in (None, 0, 1, 2)]:
            size = SCHEMAS[Scope.VM if subject[1] is None else Scope.VCPU].words
            before = words.get(subject) or (0,) * size
            cleared = chance.random() < 0.05
            grown = tuple(int(chance.integers(0, 9)) + (0 if cleared else word) for word in before)
            words[subject] = grown
        there = {
            subject: None if chance.random() < 0.05 else word
            for subject, word in words.items()
            if subject[1] is None or chance.random() > 0.05
        }
        sample = replace(ReferenceMoment(there).sample(at_s), taken_ns=(NOON_S + at_s) * 10**9)
        made.append(Scene(sample, (VmIdentity("a", None), VmIdentity("b", None)), MACHINE, {}))
    del made[10]
    return made


def rows_of(tables: Mapping[RecordingTable, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tables[RecordingTable.VCPUS].to_pylist()
    return found


def windows_of(times_ns: Sequence[int]) -> list[list[int]]:
    """The scenes of each window: those of its slot, and the first of the next."""
    slots: dict[int, list[int]] = defaultdict(list)
    for time_ns in times_ns:
        slots[time_ns // (EVERY_S * 10**9)].append(time_ns)
    each = list(slots.values())
    whole = [[*these, *following[:1]] for these, following in zip(each, [*each[1:], []], strict=True)]
    return [window for window in whole if len(window) > 1]


def increase(stretch: Sequence[tuple[int, int | None]], scenes: int) -> int | None:
    """Of one count of one vCPU, by the documents' words; epoch and count of each scene in which it was there."""
    if scenes == 2:
        before, after = (stretch[0][1], stretch[-1][1]) if len(stretch) == 2 else (None, None)
        return None if before is None or after is None or after < before else after - before
    by_epoch: dict[int, list[int]] = defaultdict(list)
    for epoch, count in stretch:
        if count is not None:
            by_epoch[epoch].append(count)
    known = [counts[-1] - counts[0] for counts in by_epoch.values() if len(counts) > 1]
    return sum(known) if known else None


def expected(tables: Mapping[RecordingTable, Any], column: str) -> dict[tuple[int, int, int], int | None]:
    times = sorted({row["boottime_ns"] for row in rows_of(tables)})
    found: dict[tuple[int, int, int], int | None] = {}
    for number, window in enumerate(windows_of(times), 1):
        subjects: Subjects = defaultdict(list)
        for row in sorted(rows_of(tables), key=lambda row: row["boottime_ns"]):
            if row["boottime_ns"] in window:
                subjects[row["vm"], row["vcpu"]].append((row["epoch"], row[column]))
        last = {(row["vm"], row["vcpu"]) for row in rows_of(tables) if row["boottime_ns"] == window[-1]}
        first = {(row["vm"], row["vcpu"]): row for row in rows_of(tables) if row["boottime_ns"] == window[0]}
        for subject in last:
            stretch = subjects[subject]
            if subject in first and first[subject]["epoch"] == stretch[-1][0]:
                stretch = [(0, first[subject][column]), (0, stretch[-1][1])]
                found[number, *subject] = increase(stretch, 2)
            else:
                found[number, *subject] = increase(stretch, len(window))
    return found


@pytest.mark.parametrize("made", ENGINES)
def test_a_count_grows_by_what_it_grew_within_each_epoch(made: Made, scenes: list[Scene], tmp_path: Path) -> None:
    tables = tables_by_host({"one": scenes})
    rows = ask(made, tables, tmp_path, WindowPlan(EVERY_S))
    wanted = expected(tables, "kvm.exits")
    found = {(row["window"], row["vm"], row["vcpu"]): row["exits"] for row in rows}
    assert found.keys() == wanted.keys()
    assert all(is_near(value, as_number(wanted[key])) for key, value in found.items())
    epochs = defaultdict(set)
    for row in rows_of(tables):
        epochs[row["vm"], row["vcpu"]].add(row["epoch"])
    assert max(map(len, epochs.values())) > 2, "nobody was cleared, and nothing was tested"


@pytest.mark.parametrize("made", ENGINES)
def test_windows_of_one_epoch_add_up_to_the_whole(made: Made, scenes: list[Scene], tmp_path: Path) -> None:
    calm = [
        replace(scene, sample=replace(calm_sample(at), taken_ns=scene.sample.taken_ns))
        for at, scene in enumerate(scenes)
    ]
    rows = ask(made, tables_by_host({"one": calm}), tmp_path, WindowPlan(EVERY_S))
    whole: dict[tuple[int, int], float] = defaultdict(float)
    for row in rows:
        whole[row["vm"], row["vcpu"]] += row["exits"]
    assert set(whole.values()) == {float(sum(range(len(calm))))}
    assert sum(row["interval_s"] for row in rows if (row["vm"], row["vcpu"]) == (1, 0)) == len(calm) - 1


def calm_sample(at: int) -> Any:
    total = sum(range(at + 1))
    vcpu = tuple(total for _ in range(SCHEMAS[Scope.VCPU].words))
    moment = ReferenceMoment({(1, None): (0, 0, 0), (1, 0): vcpu, (1, 1): vcpu, (2, None): (0, 0, 0), (2, 0): vcpu})
    return moment.sample(100 + at)


@pytest.mark.parametrize("made", ENGINES)
def test_only_the_hosts_that_are_asked_are_read(made: Made, scenes: list[Scene], tmp_path: Path) -> None:
    tables = tables_by_host({"one": scenes, "two": scenes})
    rows = ask(made, tables, tmp_path, WindowPlan(hosts=("two",)))
    assert {row["host"] for row in rows} == {"two"}
    assert not ask(made, tables, tmp_path, WindowPlan(hosts=()))


def ask(made: Made, tables: Mapping[RecordingTable, Any], directory: Path, plan: WindowPlan) -> Rows:
    asked = FormulaSet(FORMULAS, {}, RecordedFacts(DocumentFacts()), FACT_NAMES)
    return made(tables, directory).rows(formula_query(asked, Scope.VCPU, block_sets(tables), plan))


def as_number(value: int | None) -> float:
    return float("nan") if value is None else float(value)
