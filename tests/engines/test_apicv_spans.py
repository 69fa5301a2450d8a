"""The view ``apicv_spans``: runs of scenes with one state and the same reasons, also where booleans are bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loads import HOST, NOON_NS, Load, record, simulated_scenes

pytest.importorskip("duckdb", reason="DuckDB is not installed: make setup")

from kvmscope.engines.recordings import open_recordings
from kvmscope.engines.results import plain_result
from kvmscope.sample import Block, Origin
from kvmscope.scene import Scene
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Unit

REASONS = ("apicv_inhibit_pit_reinj", "apicv_inhibit_irqwin")


def booleans(scope: Scope, *names: str, as_bits: bool) -> Schema:
    if as_bits:
        stats = [Descriptor(name, Kind.INSTANT, Unit.BIT, bucket_size=40 + bit) for bit, name in enumerate(names)]
        return Schema("apicv", scope, tuple(stats), 8)
    stats = [Descriptor(name, Kind.INSTANT, Unit.BOOLEAN, offset=8 * at) for at, name in enumerate(names)]
    return Schema("apicv", scope, tuple(stats), 8 * len(names))


def block(scope: Scope, names: tuple[str, ...], rows: list[tuple[int, ...]], *, as_bits: bool) -> Block:
    schema = booleans(scope, *names, as_bits=as_bits)
    words = [[sum(value << (40 + bit) for bit, value in enumerate(row))] if as_bits else list(row) for row in rows]
    return Block(schema, np.array(words, dtype=np.uint64), np.arange(len(rows), dtype=np.int64))


def scenes_of(states: list[tuple[tuple[int, int], tuple[int, int]]], *, as_bits: bool) -> list[Scene]:
    """One VM of two vCPUs, a scene a second: its reasons, and which vCPUs are active."""
    found = []
    for scene, (reasons, active) in zip(simulated_scenes(len(states), load=Load(vms=1)), states, strict=True):
        of_vm = block(Scope.VM, REASONS, [reasons], as_bits=as_bits)
        of_vcpus = block(Scope.VCPU, ("apicv_active",), [(each,) for each in active], as_bits=as_bits)
        found.append(replace(scene, sample=replace(scene.sample, blocks=(*scene.sample.blocks, of_vm, of_vcpus))))
    return found


@pytest.mark.parametrize("as_bits", [False, True], ids=["words", "bits"])
def test_a_span_lasts_from_its_first_scene_to_the_next_one_that_differs(tmp_path: Path, as_bits: bool) -> None:
    active, lost, partly = ((0, 0), (1, 1)), ((1, 1), (0, 0)), ((0, 0), (1, 0))
    scenes = scenes_of([active, active, lost, lost, lost, partly, active], as_bits=as_bits)
    query = "SELECT state, reasons, since, until, seconds, scenes, active_vcpus, vcpus FROM apicv_spans ORDER BY since"
    with open_recordings([record(scenes, tmp_path / "r")]) as store:
        spans = list(plain_result(store.ask(query)).rows())
        booleans_of_vcpus = plain_result(store.ask('SELECT DISTINCT "apicv.apicv_active" FROM samples ORDER BY 1'))
    assert [
        (state, reasons, (since - NOON_NS) / 1e9, (until - NOON_NS) / 1e9, *rest)
        for state, reasons, since, until, *rest in spans
    ] == [
        ("active", "", 0, 2, 2.0, 2, 2, 2),
        ("inhibited", "pit_reinj, irqwin", 2, 5, 3.0, 3, 0, 2),
        ("in part", "", 5, 6, 1.0, 1, 1, 2),
        ("active", "", 6, 6, 0.0, 1, 2, 2),
    ]
    assert booleans_of_vcpus.columns[0].values == [False, True, None]


def at_another_boot(scene: Scene) -> Scene:
    later = replace(scene.sample, taken_ns=scene.sample.taken_ns + 10**10, origin=Origin(HOST, "f" * 32))
    return replace(scene, sample=later)


def test_spans_of_two_boots_are_kept_apart(tmp_path: Path) -> None:
    state = [((1, 0), (0, 0))]
    scenes = scenes_of(state * 2, as_bits=False)
    later = [at_another_boot(scene) for scene in scenes]
    with open_recordings([record([*scenes, *later], tmp_path / "r")]) as store:
        spans = list(plain_result(store.ask("SELECT boot, reasons, seconds FROM apicv_spans ORDER BY since")).rows())
    assert spans == [("b" * 32, "pit_reinj", 1.0), ("f" * 32, "pit_reinj", 1.0)]
