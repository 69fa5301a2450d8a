"""The simulated host: exact, plausible, marked as simulated, and gone with whoever started it."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from kvmscope.codec import statsfile
from kvmscope.errors import UsageError
from kvmscope.lab import simulate
from kvmscope.lab.behaviours import BEHAVIOURS, EVENTS, sums_of_events
from kvmscope.lab.simulate import SimulatedHost
from kvmscope.lab.simulate_plan import plan
from kvmscope.lab.simulated_kvm import SimulatedKvm, stat_sets
from kvmscope.sample import Sample, U64Array
from kvmscope.schema import Kind, Scope
from kvmscope.sources.published import PublishedSource

pytestmark = pytest.mark.whole_host

CAPTURED = Path(__file__).parents[1] / "data" / "statsfile"
ALL = len(BEHAVIOURS)
TIMES = (0.0, 0.1, 0.35, 1.0, 7.0, 60.0, 61.0, 3600.0)


@pytest.fixture(scope="module")
def kvm() -> SimulatedKvm:
    return SimulatedKvm(plan(vms=2 * ALL, vcpus=3, seed=5), seed=5)


def stat(words: U64Array, scope: Scope, name: str) -> U64Array:
    descriptor = stat_sets()[scope].descriptors[[d.name for d in stat_sets()[scope].descriptors].index(name)]
    first = descriptor.offset // 8
    column: U64Array = words[:, first] if descriptor.size == 1 else words[:, first : first + descriptor.size]
    return column


def vcpu_stat(kvm: SimulatedKvm, elapsed_s: float, name: str) -> U64Array:
    return stat(kvm.words(Scope.VCPU, elapsed_s), Scope.VCPU, name)


def read_own(source: PublishedSource, pid: int) -> Sample:
    sample = source.read()
    assert pid in sample.vms.pid
    return sample


# The stats


@pytest.mark.parametrize("scope", Scope)
def test_the_stats_are_those_of_a_captured_kernel(scope: Scope) -> None:
    captured = statsfile.parse((CAPTURED / f"x86-6.18-{scope.value}.bin").read_bytes()).description.descriptors
    simulated = stat_sets()[scope].descriptors
    # mmu_shadow_pages came with 7.2 and moved what stands behind it.
    newer = {"mmu_shadow_pages"} if scope is Scope.VM else set()
    assert {d.name for d in simulated} - {d.name for d in captured} == newer
    for old, new in zip(captured, [d for d in simulated if d.name not in newer], strict=True):
        moved = 8 if newer and old.offset > 64 else 0
        assert (new.name, new.kind, new.unit, new.exponent, new.size) == (
            old.name,
            old.kind,
            old.unit,
            old.exponent,
            old.size,
        )
        assert new.offset == old.offset + moved


@pytest.mark.parametrize("scope", Scope)
def test_the_published_files_keep_the_promises_of_the_interface(scope: Scope) -> None:
    description = statsfile.parse_description(stat_sets()[scope].encoded)
    assert statsfile.violations(description) == ["id '' does not start with 'kvm'"]


# The numbers


def test_values_are_a_pure_function_of_plan_seed_and_time(kvm: SimulatedKvm) -> None:
    again = SimulatedKvm(plan(vms=2 * ALL, vcpus=3, seed=5), seed=5)
    for elapsed_s in reversed(TIMES):
        for scope in Scope:
            assert np.array_equal(kvm.words(scope, elapsed_s), again.words(scope, elapsed_s))


def test_another_seed_gives_another_host() -> None:
    one, other = (SimulatedKvm(plan(vms=ALL, vcpus=1, seed=seed), seed) for seed in (1, 2))
    assert not np.array_equal(one.words(Scope.VCPU, 1.0), other.words(Scope.VCPU, 1.0))


@pytest.mark.parametrize("scope", Scope)
def test_what_is_cumulative_or_a_peak_never_goes_down(kvm: SimulatedKvm, scope: Scope) -> None:
    steps = [kvm.words(scope, t) for t in sorted([*TIMES, *np.arange(0, 3, 0.01)])]
    for descriptor in stat_sets()[scope].descriptors:
        if descriptor.kind is not Kind.INSTANT:
            columns = [stat(words, scope, descriptor.name) for words in steps]
            assert all((after >= before).all() for before, after in pairwise(columns))


@pytest.mark.parametrize("elapsed_s", TIMES)
def test_histograms_hold_as_many_values_as_their_counters_say(kvm: SimulatedKvm, elapsed_s: float) -> None:
    def total(name: str) -> U64Array:
        counts: U64Array = vcpu_stat(kvm, elapsed_s, name).sum(axis=1)
        return counts

    polled, attempted = (vcpu_stat(kvm, elapsed_s, f"halt_{what}_poll") for what in ("successful", "attempted"))
    assert np.array_equal(total("halt_poll_success_hist"), polled)
    assert np.array_equal(total("halt_poll_fail_hist"), attempted - polled)
    assert np.array_equal(total("halt_wait_hist"), vcpu_stat(kvm, elapsed_s, "halt_wakeup"))
    assert np.array_equal(total("halt_wait_hist") + polled, vcpu_stat(kvm, elapsed_s, "halt_exits"))


@pytest.mark.parametrize("name", ["halt_poll_success", "halt_poll_fail", "halt_wait"])
def test_times_lie_within_the_buckets_that_counted_them(kvm: SimulatedKvm, name: str) -> None:
    histogram = vcpu_stat(kvm, 60.0, f"{name}_hist").astype(object)
    total_ns = vcpu_stat(kvm, 60.0, f"{name}_ns")
    lowest = [0] + [2 ** (i - 1) for i in range(1, 32)]
    highest = [0] + [2**i - 1 for i in range(1, 32)]
    assert not histogram[:, 31].any(), "the last bucket has no bound to check"
    assert (histogram @ lowest <= total_ns).all()
    assert (total_ns <= histogram @ highest).all()


def test_exits_and_faults_are_at_least_what_they_are_made_of(kvm: SimulatedKvm) -> None:
    def value(name: str) -> U64Array:
        return vcpu_stat(kvm, 60.0, name)

    causes = ["halt_exits", "io_exits", "mmio_exits", "irq_exits", "irq_window_exits", "signal_exits"]
    assert (np.sum([value(name) for name in causes], axis=0) <= value("exits")).all()
    made_of = ["pf_fixed", "pf_emulate", "pf_spurious", "pf_mmio_spte_created"]
    assert np.array_equal(np.sum([value(name) for name in made_of], axis=0), value("pf_taken"))
    assert (value("pf_fast") <= value("pf_fixed") + value("pf_spurious")).all()
    assert (value("directed_yield_successful") <= value("directed_yield_attempted")).all()
    assert (value("insn_emulation_fail") <= value("insn_emulation")).all()


def test_tlb_flushes_are_at_most_what_was_requested(kvm: SimulatedKvm) -> None:
    words = kvm.words(Scope.VM, 60.0)
    done, requested = (stat(words, Scope.VM, f"remote_tlb_flush{end}") for end in ("", "_requests"))
    assert (done <= requested).all()


def test_a_vcpu_is_never_halted_for_longer_than_it_lives(kvm: SimulatedKvm) -> None:
    names = ("halt_wait_ns", "halt_poll_success_ns", "halt_poll_fail_ns")
    for start_s in (0.0, 30.0, 5000.0):
        before, after = (
            np.sum([vcpu_stat(kvm, t, name).astype(np.int64) for name in names], axis=0)
            for t in (start_s, start_s + 120.0)
        )
        assert ((after - before) / 120e9 <= 1.0).all()


def test_behaviours_can_be_told_apart_by_their_stats(kvm: SimulatedKvm) -> None:
    vms = plan(vms=2 * ALL, vcpus=3, seed=5)
    owners = [vm.behaviour.name for vm in vms for _ in range(vm.vcpus)]

    def rates(name: str) -> dict[str, float]:
        gained = vcpu_stat(kvm, 70.0, name).astype(np.int64) - vcpu_stat(kvm, 10.0, name).astype(np.int64)
        return {
            b.name: float(np.mean([g for g, o in zip(gained, owners, strict=True) if o == b.name])) / 60
            for b in BEHAVIOURS
        }

    def highest(name: str) -> str:
        of = rates(name)
        return max(of, key=of.__getitem__)

    assert highest("halt_wait_ns") == "idle"
    assert highest("halt_successful_poll") in ("web", "router")
    assert highest("io_exits") == "boot"
    assert highest("nested_run") == "nested"
    assert highest("pf_fixed") == "build"
    assert highest("irq_injections") == "router"
    assert highest("hypercalls") == "windows"
    assert rates("halt_exits")["spin"] == 0
    assert rates("exits")["idle"] < 60


def test_states_take_both_values_as_often_as_the_behaviour_says(kvm: SimulatedKvm) -> None:
    owners = [vm.behaviour for vm in plan(vms=2 * ALL, vcpus=3, seed=5) for _ in range(vm.vcpus)]
    seen = np.mean([vcpu_stat(kvm, t, "guest_mode") for t in np.arange(0, 100, 0.05)], axis=0)
    assert np.allclose(seen, [behaviour.in_guest_mode for behaviour in owners], atol=0.02)
    blocked = np.mean([vcpu_stat(kvm, t, "blocking") for t in np.arange(0, 100, 0.05)], axis=0)
    assert np.allclose(blocked, [behaviour.usually_halted for behaviour in owners], atol=0.02)


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda b: b.name)
def test_shares_of_causes_are_kept(behaviour: object) -> None:
    of = next(b for b in BEHAVIOURS if b is behaviour)
    sums = sums_of_events(of, stat_sets()[Scope.VCPU].descriptors, seed=1)
    assert stat(sums, Scope.VCPU, "exits").tolist() == list(range(EVENTS + 1))
    halts = sum(share for cause, share in of.causes.items() if cause.startswith("halt_")) / sum(of.causes.values())
    assert abs(int(stat(sums, Scope.VCPU, "halt_exits")[-1]) / EVENTS - halts) < 4 / EVENTS


# The host


def test_what_is_read_is_what_was_computed_and_is_marked_as_simulated(own_proc: Path) -> None:
    with (
        SimulatedHost(vms=ALL, vcpus=2, seed=3) as host,
        PublishedSource(proc=own_proc, walk_share=math.inf) as source,
    ):
        for elapsed_s in (None, 1.5, 2.5):
            if elapsed_s is not None:
                host.advance(elapsed_s)
            sample = read_own(source, os.getpid())
            assert sample.simulated
            for scope in Scope:
                block = sample.block("kvm", scope)
                assert block is not None
                rows = block.rows if scope is Scope.VM else sample.vcpus.vm[block.rows]
                own = block.values[sample.vms.pid[rows] == os.getpid()]
                expected = host.providers[0].words(scope, elapsed_s or 0.0)
                # The sample is in order of age.
                order = sorted(range(ALL), key=lambda n: -host.vms[n].age_s)
                if scope is Scope.VCPU:
                    order = [2 * n + vcpu for n in order for vcpu in range(2)]
                assert np.array_equal(own, expected[order])


def test_names_tell_behaviour_and_number() -> None:
    assert [vm.name for vm in plan(vms=3, vcpus=1, seed=0)] == ["web-1", "db-2", "idle-3"]


@pytest.mark.parametrize(("vms", "vcpus"), [(0, 1), (1, 0), (-1, 1)])
def test_a_host_of_nothing_is_refused(vms: int, vcpus: int) -> None:
    for start in (SimulatedHost, simulate.start):
        with pytest.raises(UsageError, match="at least one"):
            start(vms=vms, vcpus=vcpus)


def test_a_closed_host_leaves_no_file() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with SimulatedHost(vms=3, vcpus=3):
        assert len(list(Path("/proc/self/fd").iterdir())) == before + 3 * 3 + 9 * 2
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# The process


@pytest.fixture
def source() -> Iterator[PublishedSource]:
    with PublishedSource(simulated=True, walk_share=math.inf) as source:
        yield source


def test_a_process_of_its_own_moves_by_itself_and_ends_when_closed(source: PublishedSource) -> None:
    with simulate.start(vms=2, vcpus=2) as process:
        assert process.about == simulate.Simulated(process.pid, ("web-1", "db-2"), 4)

        def exits() -> int:
            sample = read_own(source, process.pid)
            block = sample.block("kvm", Scope.VCPU)
            assert block is not None
            own = sample.vms.pid[sample.vcpus.vm[block.rows]] == process.pid
            return int(block.column("exits")[own].sum())

        first, deadline = exits(), time.monotonic() + 10
        while exits() == first:
            assert time.monotonic() < deadline, "the values do not move"
    assert process.pid not in source.read().vms.pid


def test_a_killed_host_is_gone_at_the_next_read(source: PublishedSource) -> None:
    with simulate.start(vms=2) as process:
        read_own(source, process.pid)
        process.kill()
        assert process.pid not in source.read().vms.pid


def test_the_host_ends_with_a_killed_parent() -> None:
    code = "from kvmscope.lab import simulate; p = simulate.start(vms=1); print(p.pid, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    try:
        assert select.select([child], [], [], 10)[0], "the host outlives its parent"
    finally:
        os.close(child)


# The command


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_what_runs_and_ends_at_a_signal(end: signal.Signals, source: PublishedSource) -> None:
    code = "from kvmscope.cli.lab_simulate import simulate; simulate()"
    command = [sys.executable, "-c", code, "--vms", "2", "--vcpus", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said == {
            **{"format": "kvmscope/1", "simulated": True, "pid": process.pid},
            **{"vms": ["web-1", "db-2"], "vcpus": 2},
        }
        read_own(source, process.pid)
        process.send_signal(end)
    assert process.returncode == 0


def test_the_command_ends_by_itself_after_its_time() -> None:
    code = "from kvmscope.cli.lab_simulate import simulate; simulate()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--vms", "1", "--for", "200ms"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.startswith("simulated: web-1; 2 vCPUs, process ")
    assert "kvmscope status" in done.stderr
