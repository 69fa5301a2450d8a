"""Group dirty on this host: what it counts is, to the page, what VMMs fetch from KVM's dirty bitmaps and rings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from kvmscope.lab import process
from kvmscope.lab.kvm import Kvm, LabVm
from kvmscope.lab.spec import LabSpec
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf.source import BpfSource

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "root")]

UNTOUCHED_PAGES = (8 << 30) // 4096


@pytest.fixture
def source() -> Iterator[BpfSource]:
    with contextlib.closing(BpfSource(groups=("dirty",))) as opened:
        yield opened


def stats_of(sample: Sample, vm: int) -> dict[str, int] | None:
    """The group's stats of the VM with this id; None if they are not known."""
    block = sample.block("dirty", Scope.VM)
    assert block is not None
    places = [place for place, row in enumerate(block.rows) if sample.vms.id[row] == vm]
    return {name: int(block.column(name)[places[0]]) for name in block.schema.names} if places else None


def new_vm(source: BpfSource, before: Sample) -> int:
    """The id of the one VM that was not there before."""
    (found,) = set(source.read().vms.id.tolist()) - set(before.vms.id.tolist())
    return int(found)


def pages_of_bitmaps(stats: dict[str, int]) -> int:
    """As they became dirty, or, where no function can be hooked, as they were fetched."""
    return stats["dirty_pages"] if "dirty_pages" in stats else stats["dirty_fetched_pages"]


@pytest.mark.parametrize("vcpus", [1, 2])
@pytest.mark.parametrize("workload", ["dirty", "ring"])
def test_pages_counted_are_those_that_the_vmm_fetched(workload: str, vcpus: int, source: BpfSource) -> None:
    with process.start(LabSpec(workload=workload, vcpus=vcpus, count=20_000)) as guests:
        guests.go()
        (vm,) = guests.wait_for_done(60).vms
        sample = source.read()
        (row,) = [row for row in range(len(sample.vms)) if sample.vms.pid[row] == vm.pid]
        stats = stats_of(sample, int(sample.vms.id[row]))
    assert stats is not None
    assert vm.dirty_pages is not None
    assert vm.dirty_pages > 20_000 * vcpus
    if workload == "ring":
        assert stats["dirty_ring_pages"] == stats.get("dirty_pages", vm.dirty_pages) == vm.dirty_pages
    else:
        assert pages_of_bitmaps(stats) == vm.dirty_pages
        assert stats["dirty_ring_pages"] == 0


def test_pages_are_unknown_until_the_memory_is_logged_and_after(source: BpfSource) -> None:
    before = source.read()
    with Kvm() as kvm, kvm.create_vm() as vm:
        vm.set_memory(1 << 20)
        vm.add_untouched_memory()
        vm_id = new_vm(source, before)
        assert stats_of(source.read(), vm_id) is None
        assert any("does not log the memory" in gap.reason for gap in source.read().gaps)
        vm.restart_dirty_log()
        known = stats_of(source.read(), vm_id)
        assert known is not None
        # All of it was in the log as this began, and the VMM cleared it; none became dirty.
        assert known.get("dirty_pages", 0) == 0
        assert known.get("dirty_fetched_pages", UNTOUCHED_PAGES) == UNTOUCHED_PAGES
        vm.end_dirty_log()
        assert stats_of(source.read(), vm_id) is None


def test_a_log_of_a_small_part_of_the_memory_is_not_that_of_a_vm(source: BpfSource) -> None:
    """QEMU logs the video memory of each VM that has a screen."""
    before = source.read()
    with Kvm() as kvm, kvm.create_vm() as vm:
        vm.set_memory(16 << 20, log_dirty=True)
        vm_id = new_vm(source, before)
        assert stats_of(source.read(), vm_id) is not None
        vm.add_untouched_memory()
        vm.restart_dirty_log()
        vm.end_dirty_log()
        sample = source.read()
        assert settings_of(sample, vm_id) == {"memory_pages": UNTOUCHED_PAGES + 4096, "dirty_logged_pages": 4096}
        assert stats_of(sample, vm_id) is None


def settings_of(sample: Sample, vm: int) -> dict[str, int]:
    block = sample.block("settings", Scope.VM)
    assert block is not None
    (place,) = [place for place, row in enumerate(block.rows) if sample.vms.id[row] == vm]
    return {name: int(block.column(name)[place]) for name in ("memory_pages", "dirty_logged_pages")}


def test_what_a_vmm_looks_at_and_leaves_in_the_log_is_not_fetched(source: BpfSource) -> None:
    before = source.read()
    with Kvm() as kvm, kvm.create_vm() as vm:
        vm.add_untouched_memory()
        memory = vm.set_memory(16 << 20, log_dirty=True)
        vm_id = new_vm(source, before)
        assert dirty_bits(vm) == len(memory) // 4096, "a log that begins with every page"
        known = stats_of(source.read(), vm_id)
        assert known is not None
        assert pages_of_bitmaps(known) == 0


def dirty_bits(vm: LabVm) -> int:
    return int.from_bytes(vm.fetch_dirty_log(), "little").bit_count()
