"""What the VMM has told KVM about a VM's halts, read back from KVM's own structures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvmscope.lab.kvm import Kvm
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf.source import BpfSource

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf")]

KVM_CAP_X86_DISABLE_EXITS = 143
DISABLE_HLT = 2


@pytest.fixture
def source() -> Iterator[BpfSource]:
    opened = BpfSource()
    yield opened
    opened.close()


def _settings(sample: Sample, row: int) -> dict[str, int]:
    block = sample.block("settings", Scope.VM)
    assert block is not None
    return {name: int(block.column(name)[row]) for name in block.schema.names}


def _new_row(source: BpfSource, before: Sample) -> tuple[Sample, int]:
    """The one VM that was not there before."""
    sample = source.read()
    known = set(before.vms.id.tolist())
    [row] = [row for row, each in enumerate(sample.vms.id.tolist()) if each not in known]
    return sample, row


def test_a_limit_of_polling_is_seen_from_when_the_vmm_sets_it(source: BpfSource) -> None:
    before = source.read()
    with Kvm() as kvm, kvm.create_vm() as vm:
        told = _settings(*_new_row(source, before))
        if "halt_poll_cap_set" not in told:
            pytest.skip("this kernel does not keep apart a limit of the VM and the host's")
        assert told["halt_poll_cap_set"] == 0
        for limit_ns in (50_000, 0):
            vm.limit_halt_poll(limit_ns)
            told = _settings(*_new_row(source, before))
            assert (told["halt_poll_cap_set"], told["halt_poll_cap_ns"]) == (1, limit_ns)


def test_a_vm_that_may_halt_without_an_exit_is_told_from_one_that_may_not(source: BpfSource) -> None:
    before = source.read()
    with Kvm() as kvm, kvm.create_vm() as vm:
        told = _settings(*_new_row(source, before))
        assert told["hlt_exits_disabled"] == 0
        vm.enable(KVM_CAP_X86_DISABLE_EXITS, DISABLE_HLT)
        assert _settings(*_new_row(source, before))["hlt_exits_disabled"] == 1
