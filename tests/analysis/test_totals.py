"""Sums of vCPUs for VMs, as vCPUs and VMs come and go."""

from __future__ import annotations

from crafted import Crafted

from kvmscope.analysis.totals import VmTotals
from kvmscope.sample import Sample


def exits_by_vm(totals: VmTotals, sample: Sample) -> dict[str, int]:
    (total,) = totals.update(sample)
    return {
        sample.vms.label[row]: int(exits)
        for row, exits in zip(total.block.rows.tolist(), total.block.column("exits").tolist(), strict=True)
    }


def test_the_counts_of_the_vcpus_of_a_vm_are_added(crafted: Crafted) -> None:
    totals = VmTotals()
    assert exits_by_vm(totals, crafted.before) == {"web-1": 1500, "db\x1b[31m-2": 10**12, "half": 7, "gone": 0}


def test_histograms_are_added_bucket_by_bucket(crafted: Crafted) -> None:
    (total,) = VmTotals().update(crafted.before)
    hist = total.block.column("halt_wait_hist")[total.block.rows.tolist().index(0)]
    assert (int(hist[20]), int(hist[21]), int(hist.sum())) == (4, 7, 11)


def test_only_counts_are_summed(crafted: Crafted) -> None:
    (total,) = VmTotals().update(crafted.before)
    assert "blocking" not in {stat.name for stat in total.stats}


def of_vcpus(crafted: Crafted, second: int, *exits: int | None) -> Sample:
    """A VM whose vCPUs have these counts; None for one that is there and cannot be read."""
    vcpus = [
        crafted.vcpu(number, {"exits": count or 0}, readable=count is not None)
        for number, count in enumerate(exits)
        if count != -1
    ]
    return crafted.make_sample([crafted.vm("vm", vcpus), crafted.vm("other", [crafted.vcpu(0)])], at_s=second)


def test_a_sum_keeps_the_counts_of_a_vcpu_that_is_unplugged(crafted: Crafted) -> None:
    totals = VmTotals()
    seen = [
        exits_by_vm(totals, of_vcpus(crafted, second, *exits))["vm"]
        for second, exits in enumerate([(10, 5), (11, -1), (12, -1), (13, 0), (14, 2)])
    ]
    assert seen == [15, 16, 17, 18, 21]


def test_a_vcpu_that_cannot_be_read_for_a_while_stays_in_the_sum(crafted: Crafted) -> None:
    totals = VmTotals()
    seen = [
        exits_by_vm(totals, of_vcpus(crafted, second, *exits))["vm"]
        for second, exits in enumerate([(10, 5), (11, None), (12, 9)])
    ]
    assert seen == [15, 16, 21]


def test_a_count_that_was_cleared_is_a_fall(crafted: Crafted) -> None:
    totals = VmTotals()
    seen = [exits_by_vm(totals, of_vcpus(crafted, second, count))["vm"] for second, count in enumerate([10, 3])]
    assert seen == [10, 3]


def test_a_vm_that_has_ended_is_forgotten_and_its_name_begins_again(crafted: Crafted) -> None:
    totals = VmTotals()
    totals.update(of_vcpus(crafted, 0, 10, 5))
    without = crafted.make_sample([crafted.vm("other", [crafted.vcpu(0)])], at_s=1)
    assert exits_by_vm(totals, without) == {"other": 0}
    assert exits_by_vm(totals, of_vcpus(crafted, 2, 1))["vm"] == 1
    assert exits_by_vm(totals, crafted.make_sample([crafted.vm("x", [crafted.vcpu(0)])], at_s=3)) == {"x": 0}


def test_a_vm_whose_vcpus_cannot_be_read_has_no_sum(crafted: Crafted) -> None:
    assert "vm" not in exits_by_vm(VmTotals(), of_vcpus(crafted, 0, None))


def test_a_host_without_vms_has_no_sums(crafted: Crafted) -> None:
    totals = VmTotals()
    totals.update(crafted.before)
    assert totals.update(crafted.make_sample([], at_s=1)) == ()
