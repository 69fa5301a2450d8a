"""Group apicv on this host: what it counts agrees with the kernel's own counters, and off means off."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator

import pytest

from kvmscope.collect import open_host
from kvmscope.errors import UsageError
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf.source import BpfSource

pytestmark = [pytest.mark.needs("kvm", "bpf")]


@pytest.fixture
def counting() -> Iterator[BpfSource]:
    source = BpfSource(groups=("apicv",))
    yield source
    source.close()


def programs() -> int:
    """BPF programs that are loaded on this host."""
    libbpf = ctypes.CDLL("libbpf.so.1")
    number, count = ctypes.c_uint32(0), 0
    while libbpf.bpf_prog_get_next_id(number, ctypes.byref(number)) == 0:
        count += 1
    return count


def of_vm(sample: Sample, pid: int, provider: str, stat: str) -> list[int]:
    block = sample.block(provider, Scope.VCPU)
    assert block is not None
    vms = [row for row in range(len(sample.vms)) if sample.vms.pid[row] == pid]
    mine = [place for place, row in enumerate(block.rows) if sample.vcpus.vm[row] in vms]
    return [int(value) for value in block.column(stat)[mine]]


def test_without_the_group_only_the_iterator_is_loaded() -> None:
    gc.collect()  # sources of other tests keep their programs until they are collected
    before = programs()
    source = BpfSource()
    try:
        assert programs() == before + 1
        assert source.hooks is None
        assert all("apicv_delivered" not in schema for schema in source.schemas)
    finally:
        source.close()


def test_what_cannot_be_hooked_is_a_gap_and_has_no_column(counting: BpfSource) -> None:
    assert counting.hooks is not None
    sample = counting.read()
    missing = {gap.stat for gap in sample.gaps if gap.provider == "apicv"}
    names = {name for schema in counting.schemas for name in schema.names}
    assert not missing & names
    assert all(gap.reason for gap in sample.gaps)
    hooks = counting.hooks
    assert len(hooks.counted) + len(hooks.why_not) + len(hooks.foreign) == 9, "each thing is counted or says why not"


def test_eois_of_a_guest_are_counted_at_its_own_vcpu(counting: BpfSource) -> None:
    with (
        process.start(LabSpec(workload="msi", vcpus=2, count=100, name="busy")) as busy,
        process.start(LabSpec(workload="msi", vcpus=1, count=25, name="calm")) as calm,
    ):
        for guests in (busy, calm):
            guests.go()
            guests.wait_for_done(60)
        sample = counting.read()
        per_interrupt = of_vm(sample, calm.pid, "apicv", "apic_eoi_exits")[0] / 25
        assert per_interrupt in (1, 2), "kvm_pvm writes each EOI through twice"
        assert of_vm(sample, busy.pid, "apicv", "apic_eoi_exits") == [100 * per_interrupt] * 2


def test_counts_begin_when_the_group_is_attached(counting: BpfSource) -> None:
    with process.start(LabSpec(workload="msi", count=50)) as guests:
        guests.go()
        guests.wait_for_done(60)
        late = BpfSource(groups=("apicv",))
        try:
            assert of_vm(counting.read(), guests.pid, "apicv", "apic_eoi_exits")[0] >= 50
            assert of_vm(late.read(), guests.pid, "apicv", "apic_eoi_exits") == [0]
        finally:
            late.close()


def test_a_group_that_there_is_not_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="there are apicv, apic"):
        open_host(groups=("apix",))


def test_the_pinned_source_counts_no_group() -> None:
    with pytest.raises(UsageError, match="bpf"):
        open_host("pinned", groups=("apicv",))
