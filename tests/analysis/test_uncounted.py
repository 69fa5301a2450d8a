"""What a host's kernel does not count is unknown: its 0 is no number, and the rest of the sample stays as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from crafted import MACHINE, VcpuSpec, VmSpec, make_sample

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.uncounted import UncountedStats
from kvmscope.analysis.window import Window
from kvmscope.catalog.metrics import formulas, load_metrics
from kvmscope.linux.facts import Fact, KernelModule
from kvmscope.sample import Gap, Sample
from kvmscope.schema import Scope

PVM = UncountedStats(replace(MACHINE, kvm_vendor=Fact(KernelModule("kvm_pvm", False, {}))))
INTEL = UncountedStats(MACHINE)
UNKNOWN = UncountedStats(replace(MACHINE, kvm_vendor=Fact.unknown("nobody looked")))


def sample(second: int = 0, *, simulated: bool = False) -> Sample:
    stats = {"exits": 1000 * second, "mmio_exits": 10 * second, "fpu_reload": 500 * second}
    return make_sample([VmSpec("web", [VcpuSpec(0, stats)])], at_s=second, simulated=simulated)


def test_the_stat_is_gone_with_a_gap_that_says_why() -> None:
    found = PVM.taken_out(sample(1))
    block = found.block("kvm", Scope.VCPU)
    assert block is not None
    assert "io_exits" not in block.schema
    reason = "KVM does not count io_exits on this host (caveat pvm-io-exits)"
    assert Gap(reason, provider="kvm", stat="io_exits") in found.gaps


def test_every_other_stat_keeps_its_words() -> None:
    whole, found = sample(1), PVM.taken_out(sample(1))
    before, after = whole.block("kvm", Scope.VCPU), found.block("kvm", Scope.VCPU)
    assert before is not None
    assert after is not None
    assert set(before.schema.names) - set(after.schema.names) == {"io_exits"}
    for name in after.schema.names:
        np.testing.assert_array_equal(before.column(name), after.column(name))


@pytest.mark.parametrize(
    ("stats", "given"), [(INTEL, sample(1)), (UNKNOWN, sample(1)), (PVM, sample(1, simulated=True))]
)
def test_where_it_counts_or_nobody_knows_the_sample_is_as_it_was(stats: UncountedStats, given: Sample) -> None:
    assert stats.taken_out(given) is given


def test_what_is_made_of_it_is_unknown_and_what_can_do_without_is_known() -> None:
    window = Window(PVM.taken_out(sample(1)), PVM.taken_out(sample(2)))
    evaluator = Evaluator(window, formulas(load_metrics()))
    for name in ("io_exits_per_s", "port_exits_per_s", "exits_io_share"):
        assert np.isnan(evaluator.of(name, Scope.VM)).all(), name
    assert evaluator.of("mmio_exits_per_s", Scope.VM).tolist() == [10]


def test_where_it_counts_a_0_stays_a_number() -> None:
    window = Window(INTEL.taken_out(sample(1)), INTEL.taken_out(sample(2)))
    evaluator = Evaluator(window, formulas(load_metrics()))
    assert evaluator.of("port_exits_per_s", Scope.VM).tolist() == [0]
    assert evaluator.of("io_exits_per_s", Scope.VM).tolist() == [10]
