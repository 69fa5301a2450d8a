"""The rules and metrics of the catalogue are the same in DuckDB and ClickHouse's engine as in numpy, in every window.

The hosts are those of a simulated fleet with all its troubles, made restless: VMs rest and go on, come, go, and are
cleared. ``KVMSCOPE_FORMULAS=1000``: ClickHouse's engine judges all rules, and not one of four, since it plans a query
of that length for a quarter of a minute.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import itertools

from engines_at_hand import ENGINES, ClickhouseAtHand, DuckdbAtHand, block_sets, is_near, tables_by_host

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.findings import Finding
from kvmscope.analysis.window import Window
from kvmscope.catalog.findings import load_findings
from kvmscope.catalog.metrics import formulas, load_metrics
from kvmscope.engines.facts import FACT_NAMES, DocumentFacts, RecordedFacts, read_document_facts
from kvmscope.engines.queries import FormulaSet, formula_query, key_of
from kvmscope.engines.rules import RuleSet, rule_query
from kvmscope.engines.windows import WINDOW, WindowPlan
from kvmscope.formula.check import Formula
from kvmscope.formula.tree import HOST, Level
from kvmscope.lab.fleet import host_scenes
from kvmscope.lab.fleet_plan import FleetSize, plan_fleet
from kvmscope.sample import Block, Sample, Vcpus, Vms
from kvmscope.scene import Scene
from kvmscope.schema import Scope
from kvmscope.store.documents import DocumentReader
from kvmscope.store.epochs import counted_words
from kvmscope.store.layout import RecordingTable
from kvmscope.view.judging import Examiner

SIZE = FleetSize(hosts=36, vms=10, vcpus=2, samples=7)
IS_LONG = int(os.environ.get("KVMSCOPE_FORMULAS", "60")) >= 1000
LEVELS: Sequence[Level] = (Scope.VCPU, Scope.VM, HOST)
METRICS = formulas(load_metrics())
Key = tuple[str, int, int, str]
"""Host, window, VM, rule."""


def restless(scenes: Sequence[Scene], seed: int) -> Iterator[Scene]:
    """The same host, whose VMs do only a part of it at times, are cleared, and are missing in some scenes."""
    chance = np.random.default_rng(seed)
    first = scenes[0].sample
    ends = [block.values.astype(np.uint64).copy() for block in first.blocks]
    for before, scene in zip([scenes[0], *scenes], scenes, strict=False):
        share = chance.choice([0.0, 0.4, 1.0, 1.0], len(first.vms))
        cleared = chance.random(len(first.vms)) < 0.04
        blocks = []
        for at, (old, new) in enumerate(zip(before.sample.blocks, scene.sample.blocks, strict=True)):
            vm = new.rows if new.schema.scope is Scope.VM else first.vcpus.vm[new.rows]
            words, counts = new.values.copy(), counted_words(new.schema)
            rises = np.maximum(new.values[:, counts].astype(np.int64) - old.values[:, counts].astype(np.int64), 0)
            grown = (rises * share[vm][:, np.newaxis]).astype(np.uint64)
            words[:, counts] = np.where(cleared[vm][:, np.newaxis], 0, ends[at][:, counts]) + grown
            ends[at] = words
            blocks.append(Block(new.schema, words.copy(), new.rows))
        yield without(replace(scene, sample=replace(scene.sample, blocks=tuple(blocks))), chance)


def without(scene: Scene, chance: np.random.Generator) -> Scene:
    """A scene that lacks some VMs."""
    sample = scene.sample
    stays = chance.random(len(sample.vms)) >= 0.03
    row_of, vcpus = np.cumsum(stays) - 1, stays[sample.vcpus.vm]
    vcpu_row_of = np.cumsum(vcpus) - 1

    def kept(block: Block) -> Block:
        is_vm = block.schema.scope is Scope.VM
        there = (stays if is_vm else vcpus)[block.rows]
        return Block(block.schema, block.values[there], (row_of if is_vm else vcpu_row_of)[block.rows[there]])

    vms = sample.vms
    labels = tuple(label for label, is_there in zip(vms.label, stays, strict=True) if is_there)
    names = tuple(name for name, is_there in zip(scene.identities, stays, strict=True) if is_there)
    left = replace(
        sample,
        vms=Vms(vms.id[stays], vms.pid[stays], vms.created_ns[stays], labels),
        vcpus=Vcpus(row_of[sample.vcpus.vm[vcpus]], sample.vcpus.id[vcpus], sample.vcpus.tid[vcpus]),
        blocks=tuple(map(kept, sample.blocks)),
    )
    return replace(scene, sample=left, identities=names)


@pytest.fixture(scope="module")
def fleet() -> dict[str, list[Scene]]:
    hosts = plan_fleet(SIZE)
    return {host.id: list(restless(list(host_scenes(host, SIZE)), at)) for at, host in enumerate(hosts)}


@pytest.fixture(scope="module")
def tables(fleet: dict[str, list[Scene]]) -> dict[RecordingTable, Any]:
    return tables_by_host(fleet)


@pytest.fixture(scope="module")
def expected(fleet: dict[str, list[Scene]]) -> dict[Key, tuple[Finding, Sample]]:
    found: dict[Key, tuple[Finding, Sample]] = {}
    for host, scenes in fleet.items():
        examiner = Examiner()
        for number, (before, after) in enumerate(itertools.pairwise(scenes), 1):
            for finding in examiner.update(after, Window(before, after)).findings:
                found[host, number, finding.vm.value, finding.rule.slug] = finding, after.sample
    return found


def document_facts(tables: dict[RecordingTable, Any]) -> DocumentFacts:
    documents = tables[RecordingTable.DOCUMENTS].to_pydict()
    reader = DocumentReader(dict(zip(documents["key"], documents["text"], strict=True)), "tables")
    machines = set(tables[RecordingTable.SCENES]["machine"].to_pylist())
    identities = set(tables[RecordingTable.VMS]["identity"].to_pylist())
    return read_document_facts(machines, identities, reader)


@pytest.mark.parametrize("made", ENGINES)
def test_every_rule_fires_where_it_does_in_numpy(
    made: type[DuckdbAtHand] | type[ClickhouseAtHand],
    tables: dict[RecordingTable, Any],
    expected: dict[Key, tuple[Finding, Sample]],
    tmp_path: Path,
) -> None:
    rules = load_findings() if made is DuckdbAtHand or IS_LONG else load_findings()[::4]
    query = rule_query(RuleSet(rules, METRICS), block_sets(tables), WindowPlan(), document_facts(tables))
    rows = made(tables, tmp_path).rows(query)
    slugs = {rule.slug for rule in rules}
    expected = {key: value for key, value in expected.items() if key[3] in slugs}
    found = {(row["host"], int(row["window"]), int(row["vm"]), row["rule"]): row for row in rows}
    assert found.keys() == expected.keys()
    assert len({key[3] for key in found}) >= 0.5 * len(rules), "too few rules were put to the test"
    for key, row in found.items():
        finding, sample = expected[key]
        assert row["vm"] == finding.vm.value
        assert sample.monotonic_ns - int(row["began_ns"]) == round(finding.since_s * 1e9), key
        assert is_near(row["cost_cpus"], as_number(finding.cost_cpus)), key
        assert is_near(row["lost_vcpus"], as_number(finding.lost_vcpus)), key
        for place, value in enumerate(finding.evidence.values()):
            assert is_near(row[f"evidence_{place}"], as_number(value)), (key, place)
        assert row["stands"] == (row["window"] == SIZE.samples - 1)


def of_level(level: Level) -> dict[str, Formula]:
    return {name: each for name, each in METRICS.items() if each.scope is Scope.VCPU or level is not Scope.VCPU}


def values_by_numpy(scenes: Sequence[Scene], level: Level) -> Iterator[tuple[int, tuple[int, ...], dict[str, float]]]:
    """Window, subject, and each metric."""
    for number, (before, after) in enumerate(itertools.pairwise(scenes), 1):
        evaluator = Evaluator(Window(before, after), METRICS)
        columns = {name: evaluator.of(formula, level).tolist() for name, formula in of_level(level).items()}
        for row, subject in enumerate(subjects(after.sample, level)):
            yield number, subject, {name: column[row] for name, column in columns.items()}


def subjects(sample: Sample, level: Level) -> list[tuple[int, ...]]:
    if level is HOST:
        return [()]
    vms = [vm.value for vm in sample.vms.ids]
    if level is Scope.VM:
        return [(vm,) for vm in vms]
    return [(vms[row], vcpu) for row, vcpu in zip(sample.vcpus.vm.tolist(), sample.vcpus.id.tolist(), strict=True)]


@pytest.mark.parametrize("made", ENGINES)
def test_every_metric_has_the_value_of_numpy_at_each_level(
    made: type[DuckdbAtHand] | type[ClickhouseAtHand],
    fleet: dict[str, list[Scene]],
    tables: dict[RecordingTable, Any],
    tmp_path: Path,
) -> None:
    engine, seen = made(tables, tmp_path), set()
    for level in LEVELS if made is DuckdbAtHand or IS_LONG else (Scope.VCPU, HOST):
        asked = FormulaSet(of_level(level), METRICS, RecordedFacts(DocumentFacts()), FACT_NAMES)
        keys = key_of(level)[len(WINDOW) - 1 :]
        rows = {
            (row["host"], tuple(row[key] for key in keys)): row
            for row in engine.rows(formula_query(asked, level, block_sets(tables), WindowPlan()))
        }
        count = 0
        for host, scenes in fleet.items():
            for number, subject, values in values_by_numpy(scenes, level):
                count += 1
                for name, value in values.items():
                    assert is_near(rows[host, (number, *subject)][name], value), (name, level, host, number, subject)
                seen |= {name for name, value in values.items() if not math.isnan(value)}
        assert count == len(rows)
    assert len(seen) >= 0.6 * len(METRICS), f"too few metrics were put to the test: {len(seen)} of {len(METRICS)}"


def as_number(value: float | None) -> float:
    return float("nan") if value is None else value
