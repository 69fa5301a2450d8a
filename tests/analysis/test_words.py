"""Many stats at once have the words that each has alone: ``window`` is the oracle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from kvmscope.analysis.plan import StatSelection
from kvmscope.analysis.window import Window, find_column
from kvmscope.analysis.words import words_moved, words_now, words_of
from kvmscope.sample import Sample, VmId
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Unit
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

EXITS = Descriptor("exits", Kind.CUMULATIVE, offset=0)
HALTS = Descriptor("halts", Kind.CUMULATIVE, offset=8)
DEPTH = Descriptor("depth", Kind.INSTANT, offset=16)
BUSY = Descriptor("busy", Kind.INSTANT, Unit.BIT, bucket_size=3, offset=24)
HIST = Descriptor("hist", Kind.LOG_HISTOGRAM, size=2, offset=32)
USUAL = Schema("kvm", Scope.VCPU, (EXITS, HALTS, DEPTH, BUSY, HIST), 48)
FEWER = Schema("kvm", Scope.VCPU, (HALTS, EXITS), 16)
IN_NS = Schema("kvm", Scope.VCPU, (EXITS, Descriptor("halts", Kind.CUMULATIVE, Unit.SECONDS, offset=8)), 16)

Blocks = Mapping[int, tuple[Schema, tuple[int, ...]] | None]
"""The words of one vCPU of each VM, by the VM's number; None if it could not be read."""


def sample(at_s: int, vms: Blocks) -> Sample:
    made = [
        VmStats(VmId(vm), [], [VcpuStats(0, [] if found is None else [StatsOf(found[0], _words(found[1]))])])
        for vm, found in vms.items()
    ]
    return assemble(made, source="test", taken_ns=0, monotonic_ns=at_s * 10**9)


def _words(words: tuple[int, ...]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array(words, dtype=np.uint64)


def usual(exits: int, halts: int = 0, depth: int = 0, bits: int = 0) -> tuple[Schema, tuple[int, ...]]:
    return USUAL, (exits, halts, depth, bits, 1, 2)


BEFORE: Blocks = {1: usual(10, 5, 7, 0b1000), 2: usual(2**63, 8), 3: None, 4: usual(1)}
WINDOWS: Mapping[str, tuple[Blocks, Blocks]] = {
    "all stay": ({1: usual(1), 2: usual(5, 2)}, {1: usual(3, 9, 2**64 - 1, 0b0111), 2: usual(5, 3, 1, 0b1111)}),
    "a count falls": (BEFORE, {**BEFORE, 1: usual(9, 6), 2: usual(2**63 + 2**60 + 1, 7)}),
    "some come and go": (BEFORE, {4: usual(7), 9: usual(3), 1: usual(12, 5), 3: usual(4)}),
    "all come": ({}, BEFORE),
    "all go": (BEFORE, {}),
    "described in several ways": (
        {**BEFORE, 5: (FEWER, (3, 4)), 6: (IN_NS, (1, 2))},
        {**BEFORE, 5: (FEWER, (5, 9)), 6: (IN_NS, (2, 3))},
    ),
    "described differently than before": (BEFORE, {1: (FEWER, (20, 30)), 2: (IN_NS, (1, 2))}),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_each_of_many_stats_has_the_words_that_it_has_alone(name: str) -> None:
    before, after = (sample(at_s, vms) for at_s, vms in enumerate(WINDOWS[name]))
    window = Window(before, after)
    selection = StatSelection("kvm", Scope.VCPU, (HALTS, DEPTH, EXITS, BUSY))
    now, count = words_now(window, selection), len(after.vcpus)
    for place, stat in enumerate(selection.stats):
        column = find_column(after, "kvm", Scope.VCPU, stat.name, like=stat)
        known = np.zeros(count, np.bool_) if column is None else column.known
        assert _known(now.known, place, count).tolist() == known.tolist(), stat.name
        assert column is None or now.words[place, known].tolist() == column.words[known].tolist(), stat.name
    counts = StatSelection("kvm", Scope.VCPU, (EXITS, HALTS))
    moved = words_moved(window, counts)
    for place, stat in enumerate(counts.stats):
        alone = window.movement("kvm", Scope.VCPU, stat.name)
        if alone is not None and alone.descriptor.shape == stat.shape:
            assert _known(moved.known, place, count).tolist() == alone.known.tolist(), stat.name
            assert moved.words[place, alone.known].tolist() == alone.words[alone.known].tolist(), stat.name


def _known(known: np.ndarray | None, place: int, count: int) -> np.ndarray:
    return np.ones(count, np.bool_) if known is None else known[place]


def test_stats_by_name_are_not_known_where_nobody_has_them_or_they_have_several_words() -> None:
    found = words_of(sample(0, {1: usual(3, depth=4)}), "kvm", Scope.VCPU, ("depth", "nothing", "hist", "exits"))
    assert found.known is not None
    assert found.known.tolist() == [[True], [False], [False], [True]]
    assert found.words[[0, 3], 0].tolist() == [4, 3]
    nobody = words_of(sample(0, {1: None}), "apicv", Scope.VM, ("apicv_active",))
    assert nobody.known is not None
    assert nobody.known.tolist() == [[False]]
