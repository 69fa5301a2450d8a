"""Windows: who is who in two samples, what moved, what is not known. The oracle is a loop over plain dicts."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.analysis.plan import StatSelection
from kvmscope.analysis.window import Reset, Window, find_column
from kvmscope.analysis.words import words_moved
from kvmscope.errors import UsageError
from kvmscope.sample import NOT_KNOWN, Block, Sample, Vcpus, VmId, Vms
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Unit, Unknown
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

SECOND = 10**9
VCPU = Schema(
    "kvm",
    Scope.VCPU,
    (
        Descriptor("exits", Kind.CUMULATIVE, offset=0),
        Descriptor("wait_hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=3, offset=8),
        Descriptor("depth", Kind.INSTANT, offset=32),
        Descriptor("most", Kind.PEAK, offset=40),
        Descriptor("odd", Unknown(9), offset=48),
        Descriptor("running", Kind.INSTANT, Unit.BOOLEAN, offset=56),
    ),
    64,
)
VM = Schema("kvm", Scope.VM, (Descriptor("flushes", Kind.CUMULATIVE, offset=0),), 8)

Key = tuple[int, int]


def words(exits: int = 0, hist: Iterable[int] = (0, 0, 0), depth: int = 0, most: int = 0) -> StatsOf:
    return StatsOf(VCPU, np.array([exits, *hist, depth, most, 5, 1], dtype=np.uint64))


def sample(
    vcpus: Mapping[Key, StatsOf | None], *, at_s: float = 0, order: Iterable[int] | None = None, source: str = "test"
) -> Sample:
    """A sample of these vCPUs, the VMs in ``order``; None is a vCPU of which nothing could be read."""
    vms = dict.fromkeys(vm for vm, _ in vcpus)
    made = [
        VmStats(
            VmId(vm),
            [StatsOf(VM, np.array([vm], dtype=np.uint64))],
            [VcpuStats(key[1], [stats] if stats else []) for key, stats in vcpus.items() if key[0] == vm],
        )
        for vm in (order if order is not None else vms)
    ]
    return assemble(made, source=source, taken_ns=0, monotonic_ns=round(at_s * SECOND))


def by_key(window: Window, values: np.ndarray) -> dict[Key, object]:
    now = window.current
    return {
        (int(now.vms.id[now.vcpus.vm[row]]), int(now.vcpus.id[row])): values[row].tolist() for row in range(len(values))
    }


def test_a_rate_is_the_difference_by_the_seconds_between() -> None:
    window = Window(sample({(1, 0): words(100)}), sample({(1, 0): words(160)}, at_s=2))
    assert window.interval_s == 2.0
    assert window.delta("kvm", Scope.VCPU, "exits").tolist() == [60.0]
    assert window.rate("kvm", Scope.VCPU, "exits").tolist() == [30.0]


def test_a_histogram_moves_bucket_by_bucket() -> None:
    window = Window(sample({(1, 0): words(hist=(1, 2, 3))}), sample({(1, 0): words(hist=(1, 5, 9))}, at_s=2))
    assert window.delta("kvm", Scope.VCPU, "wait_hist").tolist() == [[0.0, 3.0, 6.0]]
    assert window.rate("kvm", Scope.VCPU, "wait_hist").tolist() == [[0.0, 1.5, 3.0]]


def test_subjects_are_matched_by_identity_not_by_row() -> None:
    before = sample({(1, 0): words(10), (2, 0): words(20), (2, 1): words(30)}, order=[1, 2])
    after = sample({(2, 1): words(33), (2, 0): words(22), (1, 0): words(11)}, order=[2, 1], at_s=1)
    window = Window(before, after)
    assert by_key(window, window.delta("kvm", Scope.VCPU, "exits")) == {(2, 1): 3.0, (2, 0): 2.0, (1, 0): 1.0}
    assert window.delta("kvm", Scope.VM, "flushes").tolist() == [0.0, 0.0]


def test_a_subject_that_came_has_a_value_and_no_rate() -> None:
    window = Window(sample({(1, 0): words(1)}), sample({(1, 0): words(2), (9, 0): words(7)}, at_s=1))
    exits = window.rate("kvm", Scope.VCPU, "exits").tolist()
    assert exits[0] == 1.0
    assert math.isnan(exits[1])
    assert window.value("kvm", Scope.VCPU, "exits").tolist() == [2.0, 7.0]
    assert (window.came(Scope.VM).tolist(), window.came(Scope.VCPU).tolist()) == ([1], [1])


def test_the_same_vcpu_id_in_a_new_vm_is_another_vcpu() -> None:
    window = Window(sample({(1, 0): words(100)}), sample({(2, 0): words(150)}, at_s=1))
    assert np.isnan(window.rate("kvm", Scope.VCPU, "exits")).all()
    assert window.gone(Scope.VM).tolist() == window.gone(Scope.VCPU).tolist() == [0]


def test_a_count_that_went_down_has_no_rate_and_is_listed() -> None:
    before = sample({(1, 0): words(100, (1, 1, 1)), (1, 1): words(100, (1, 1, 1))})
    window = Window(before, sample({(1, 0): words(3, (1, 1, 0)), (1, 1): words(101, (1, 1, 2))}, at_s=1))
    assert np.isnan(window.rate("kvm", Scope.VCPU, "exits")).tolist() == [True, False]
    assert np.isnan(window.delta("kvm", Scope.VCPU, "wait_hist")).all(axis=1).tolist() == [True, False]
    assert window.resets == (
        Reset("kvm", Scope.VCPU, "exits", (0,)),
        Reset("kvm", Scope.VCPU, "wait_hist", (0,)),
    )


def test_a_movement_is_in_whole_numbers_and_tells_a_reset_from_what_is_not_known() -> None:
    before = sample({(1, 0): words(2**63), (1, 1): words(100), (1, 2): None})
    after = {(1, 0): words(2**63 + 2**53 + 1), (1, 1): words(3), (1, 2): words(5), (1, 3): words(5)}
    window = Window(before, sample(after, at_s=1))
    moved = window.movement("kvm", Scope.VCPU, "exits")
    assert moved is not None
    assert moved.words[0] == 2**53 + 1
    assert moved.known.tolist() == [True, False, False, False]
    assert moved.is_reset.tolist() == [False, True, False, False]
    assert window.movement("kvm", Scope.VCPU, "exits") is moved
    assert window.movement("kvm", Scope.VCPU, "nothing") is None


def test_resets_are_told_of_those_who_stay_while_others_come_and_go() -> None:
    before = sample({(1, 0): words(9), (2, 0): words(100, (7, 0, 0)), (2, 1): None, (3, 0): words(50)})
    after = sample({(3, 0): words(50), (2, 0): words(100, (6, 9, 9)), (2, 1): words(1), (4, 0): words(1)}, at_s=1)
    assert Window(before, after).resets == (Reset("kvm", Scope.VCPU, "wait_hist", (1,)),)


def test_nobody_who_stays_and_nobody_at_all_had_a_reset() -> None:
    some, others = {(1, 0): words(9)}, {(2, 0): words(5)}
    assert Window(sample(some), sample(others, at_s=1)).resets == ()
    assert Window(sample({}), sample(others, at_s=1)).resets == ()


def test_an_instant_that_falls_is_no_reset() -> None:
    window = Window(sample({(1, 0): words(depth=9, most=9)}), sample({(1, 0): words(depth=1, most=1)}, at_s=1))
    assert window.resets == ()


def test_an_instant_past_half_the_range_is_negative() -> None:
    window = Window(sample({(1, 0): words()}), sample({(1, 0): words(2**63 + 2**62, depth=2**64 - 3)}, at_s=1))
    assert window.value("kvm", Scope.VCPU, "depth").tolist() == [-3.0]
    assert window.value("kvm", Scope.VCPU, "exits").tolist() == [float(2**63 + 2**62)]


def test_differences_of_huge_counts_are_exact() -> None:
    window = Window(sample({(1, 0): words(2**64 - 8)}), sample({(1, 0): words(2**64 - 1)}, at_s=1))
    assert window.delta("kvm", Scope.VCPU, "exits").tolist() == [7.0]


@pytest.mark.parametrize("name", ["depth", "most", "odd", "running"])
def test_what_is_no_count_has_no_rate(name: str) -> None:
    window = Window(sample({(1, 0): words()}), sample({(1, 0): words()}, at_s=1))
    with pytest.raises(UsageError, match=r"Window\.value"):
        window.rate("kvm", Scope.VCPU, name)
    assert len(window.value("kvm", Scope.VCPU, name)) == 1


def test_a_stat_that_nobody_has_is_not_known() -> None:
    window = Window(sample({(1, 0): words()}), sample({(1, 0): words(), (1, 1): words()}, at_s=1))
    for read in (window.value, window.delta, window.rate):
        assert np.isnan(read("kvm", Scope.VCPU, "nothing")).tolist() == [True, True]
        assert np.isnan(read("other", Scope.VM, "exits")).tolist() == [True]
    assert not window.has("kvm", Scope.VM, "exits")


@pytest.mark.parametrize("missing_in", ["before", "after"])
def test_a_vcpu_that_could_not_be_read_is_not_known(missing_in: str) -> None:
    some, all_ = {(1, 0): words(1), (1, 1): None}, {(1, 0): words(2), (1, 1): words(5)}
    before, after = (some, all_) if missing_in == "before" else (all_, some)
    window = Window(sample(before), sample(after, at_s=1))
    assert np.isnan(window.delta("kvm", Scope.VCPU, "exits")).tolist() == [missing_in == "after", True]
    assert len(window.came(Scope.VCPU)) == 0


def test_a_stat_that_changed_its_meaning_is_not_compared() -> None:
    in_us = replace(VCPU, descriptors=(replace(VCPU["exits"], unit=Unit.SECONDS, exponent=-6),))
    before = sample({(1, 0): StatsOf(in_us, np.zeros(8, dtype=np.uint64))})
    window = Window(before, sample({(1, 0): words(5)}, at_s=1))
    assert np.isnan(window.delta("kvm", Scope.VCPU, "exits")).all()
    assert window.resets == ()


def test_a_stat_may_move_to_another_place() -> None:
    moved = Schema("kvm", Scope.VCPU, (replace(VCPU["exits"], offset=8),), 16)
    before = sample({(1, 0): StatsOf(moved, np.array([99, 4], dtype=np.uint64))})
    assert Window(before, sample({(1, 0): words(5)}, at_s=1)).delta("kvm", Scope.VCPU, "exits").tolist() == [1.0]


def test_publishers_that_disagree_do_not_share_a_column() -> None:
    other = Schema("kvm", Scope.VCPU, (Descriptor("exits", Kind.PEAK, offset=0),), 8)
    both = sample({(1, 0): words(5), (2, 0): StatsOf(other, np.array([7], dtype=np.uint64))})
    column = find_column(both, "kvm", Scope.VCPU, "exits")
    assert column is not None
    assert (column.words.tolist(), column.known.tolist()) == ([5, 0], [True, False])


@pytest.mark.parametrize("at_s", [0.0, -1.0])
def test_a_window_of_no_length_is_refused(at_s: float) -> None:
    with pytest.raises(UsageError, match="must be later"):
        Window(sample({(1, 0): words()}), sample({(1, 0): words()}, at_s=at_s))


def test_samples_of_two_sources_are_refused() -> None:
    one = sample({(1, 0): words()})
    with pytest.raises(UsageError, match="of one source"):
        Window(one, sample({(1, 0): words()}, at_s=1, source="other"))
    with pytest.raises(UsageError, match="simulated"):
        Window(one, replace(sample({(1, 0): words()}, at_s=1), simulated=True))


def test_the_iterator_is_one_source_whoever_loaded_it() -> None:
    before = sample({(1, 0): words(exits=5)}, source="pinned")
    window = Window(before, sample({(1, 0): words(exits=9)}, at_s=1, source="bpf"))
    moved = window.movement("kvm", Scope.VCPU, "exits")
    assert moved is not None
    assert moved.words.tolist() == [4]


def test_an_empty_host_makes_a_window() -> None:
    window = Window(sample({}), sample({}, at_s=1))
    assert len(window.rate("kvm", Scope.VCPU, "exits")) == 0
    assert window.resets == ()
    assert Window(sample({}), sample({(1, 0): words()}, at_s=1)).came(Scope.VCPU).tolist() == [0]
    assert Window(sample({(1, 0): words()}), sample({}, at_s=1)).gone(Scope.VCPU).tolist() == [0]


counts = st.integers(0, 2**64 - 1)
histograms = st.tuples(counts, counts, counts)
hosts = st.dictionaries(
    st.tuples(st.integers(0, 2**64 - 1) | st.integers(0, 3), st.integers(-(2**62), 2**62) | st.integers(0, 3)),
    st.none() | st.tuples(counts, histograms),
    max_size=12,
)


@given(hosts, st.data())
def test_windows_agree_with_dicts(before: dict[Key, tuple[int, tuple[int, ...]] | None], data: st.DataObject) -> None:
    """Subjects removed, added, permuted: each number is that of its own subject or NaN."""
    kept = data.draw(st.sets(st.sampled_from(sorted(before))) if before else st.just(set()))
    after = {**data.draw(hosts), **{key: data.draw(st.none() | st.tuples(counts, histograms)) for key in kept}}
    order = data.draw(st.permutations(sorted({vm for vm, _ in after})))
    after = {key: after[key] for key in data.draw(st.permutations(sorted(after)))}

    window = Window(
        sample({key: v and words(*v) for key, v in before.items()}),
        sample({key: v and words(*v) for key, v in after.items()}, order=order, at_s=0.5),
    )

    exits = by_key(window, window.delta("kvm", Scope.VCPU, "exits"))
    assert exits.keys() == after.keys()
    for key, value in exits.items():
        then, now = before.get(key), after[key]
        expected = math.nan if then is None or now is None or now[0] < then[0] else float(now[0] - then[0])
        np.testing.assert_equal(value, expected)
    if any(after.values()):
        for key, value in by_key(window, window.delta("kvm", Scope.VCPU, "wait_hist")).items():
            then, now = before.get(key), after[key]
            if then is None or now is None or any(b < a for a, b in zip(then[1], now[1], strict=True)):
                assert np.isnan(np.array(value)).all()
            else:
                assert value == [float(b - a) for a, b in zip(then[1], now[1], strict=True)]
    assert len(window.came(Scope.VCPU)) == len(after.keys() - before.keys())
    assert len(window.gone(Scope.VCPU)) == len(before.keys() - after.keys())


def large(vms: int, vcpus: int, *, at_s: float, add: int, shuffled: bool) -> Sample:
    rows = np.arange(vms, dtype=np.uint64)
    ids = np.random.default_rng(1).permutation(rows) if shuffled else rows
    count = vms * vcpus
    values = np.full((count, VCPU.words), 1000 + add, dtype=np.uint64)
    return Sample(
        taken_ns=0,
        monotonic_ns=round(at_s * SECOND),
        source="test",
        simulated=False,
        vms=Vms(ids, np.full(vms, NOT_KNOWN), np.full(vms, NOT_KNOWN), ("",) * vms),
        vcpus=Vcpus(np.repeat(np.arange(vms), vcpus), np.tile(np.arange(vcpus), vms), np.full(count, NOT_KNOWN)),
        blocks=(Block(VCPU, values, np.arange(count)),),
    )


@pytest.mark.parametrize("shuffled", [False, True])
def test_ten_thousand_vcpus_take_no_time(shuffled: bool) -> None:
    """A stat takes about 0.2 ms on a slow core; the bound only tells it from a loop over subjects in Python."""
    before = large(1250, 8, at_s=0, add=0, shuffled=False)
    after = large(1250, 8, at_s=1, add=5, shuffled=shuffled)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        window = Window(before, after)
        rates = [window.rate("kvm", Scope.VCPU, "exits") for _ in range(4)]
        took.append(time.perf_counter() - began)
    assert all((rate == 5.0).all() for rate in rates)
    assert min(took) < 0.05


def test_counts_of_a_thread_are_not_compared_with_those_of_another() -> None:
    def taken(*tids: int, run_ns: int, at_s: float) -> Sample:
        schema = Schema("sched", Scope.VCPU, (Descriptor("run_ns", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9),), 8)
        stats = StatsOf(schema, np.array([run_ns], dtype=np.uint64))
        vcpus = [VcpuStats(number, [stats, words(exits=run_ns)], tid=tid) for number, tid in enumerate(tids)]
        return assemble([VmStats(VmId(1), [], vcpus)], source="test", taken_ns=0, monotonic_ns=round(at_s * SECOND))

    window = Window(taken(11, 12, run_ns=5, at_s=0), taken(11, 22, run_ns=9, at_s=1))
    assert window.delta("sched", Scope.VCPU, "run_ns").tolist()[0] == 4
    assert math.isnan(window.delta("sched", Scope.VCPU, "run_ns")[1])
    assert window.delta("kvm", Scope.VCPU, "exits").tolist() == [4, 4]
    taken_over = Window(taken(11, 12, run_ns=9, at_s=0), taken(11, 22, run_ns=5, at_s=1))
    assert {reset.name: reset.rows for reset in taken_over.resets} == {"run_ns": (0,), "exits": (0, 1)}
    selection = StatSelection(
        "sched", Scope.VCPU, (window.current.blocks_from("sched", Scope.VCPU)[0].schema["run_ns"],)
    )
    moved = words_moved(window, selection)
    assert moved.known is not None
    assert (moved.words[0, 0], moved.known.tolist()) == (4, [[True, False]])


@pytest.mark.parametrize(
    ("tids", "is_known"),
    [((11, 12), True), ((11, 22), False), ((11,), False), ((11, NOT_KNOWN), False), ((11, 12, 13), False)],
    ids=["the same", "another thread", "a vCPU that went", "a thread that ended", "a vCPU that came"],
)
def test_times_of_a_vmms_other_threads_are_known_while_the_same_threads_are_vcpus(
    tids: tuple[int, ...], is_known: bool
) -> None:
    schema = Schema("sched", Scope.VM, (Descriptor("vmm_run_ns", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9),), 8)

    def taken(*tids: int, run_ns: int, at_s: float) -> Sample:
        vms = [
            VmStats(
                VmId(number),
                [StatsOf(schema, np.array([run_ns], dtype=np.uint64))],
                [VcpuStats(vcpu, [], tid=tid) for vcpu, tid in enumerate(each)],
            )
            for number, each in enumerate([(1, 2), tids])
        ]
        return assemble(vms, source="test", taken_ns=0, monotonic_ns=round(at_s * SECOND))

    window = Window(taken(11, 12, run_ns=5, at_s=0), taken(*tids, run_ns=9, at_s=1))
    moved = window.delta("sched", Scope.VM, "vmm_run_ns")
    assert moved[0] == 4
    assert moved[1] == 4 if is_known else math.isnan(moved[1])
