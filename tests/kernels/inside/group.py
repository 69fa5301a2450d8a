"""Runs inside an emulated x86 kernel: interrupts by known numbers and ways, and what group ``apicv`` counted.

Two VMs of this process: ``provisional`` has a PIT that reinjects, ``active`` has none. No vCPU of theirs ever runs:
what is counted is what KVM does when an interrupt is sent. A third VM is in a process of its own and takes interrupts
for real, with AVIC inhibited. The output is one JSON object; what it should be is said in tests/kernels/test_group.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from typing import Any

from kvmscope.lab import process
from kvmscope.lab.kvm import Kvm, LabVm
from kvmscope.lab.spec import LabSpec
from kvmscope.lab.workloads import GuestPit
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf.source import BpfSource

_GET_LAPIC, _SET_LAPIC = 0x8400_AE8E, 0x4400_AE8F
_SET_GSI_ROUTING, _IRQFD = 0x4008_AE6A, 0x4020_AE76
_SPIV = 0xF0
_GSI, _VECTOR = 30, 0x41


def enable_apic(vcpu_fd: int) -> None:
    """Set the software-enable bit, as a guest would, so that the APIC takes interrupts."""
    registers = bytearray(0x400)
    fcntl.ioctl(vcpu_fd, _GET_LAPIC, registers)
    struct.pack_into("<I", registers, _SPIV, 0x1FF)
    fcntl.ioctl(vcpu_fd, _SET_LAPIC, registers)


def make_vm(kvm: Kvm, *, inhibited: bool) -> LabVm:
    vm = kvm.create_vm()
    vm.create_irqchip()
    if inhibited:
        vm.create_pit()
        vm.set_pit_reinjection(True)
    for vcpu_id in (0, 1):
        enable_apic(vm.create_vcpu(vcpu_id).fd)
    return vm


def connect_irqfd(vm: LabVm) -> int:
    """An eventfd each of whose signals is a message to vCPU 0; KVM sends it from whoever signals."""
    entry = struct.pack("<IIIIIIII16x", _GSI, 2, 0, 0, 0xFEE0_0000, 0, _VECTOR, 0)
    fcntl.ioctl(vm.fd, _SET_GSI_ROUTING, struct.pack("<II", 1, 0) + entry)
    fd = os.eventfd(0)
    fcntl.ioctl(vm.fd, _IRQFD, struct.pack("<IIII16x", fd, _GSI, 0, 0))
    return fd


def signal_from_another_process(fd: int, times: int) -> None:
    child = os.fork()
    if child == 0:
        for _ in range(times):
            os.eventfd_write(fd, 1)
        os._exit(0)
    os.waitpid(child, 0)


def counts(sample: Sample, vm_row: int) -> dict[str, Any]:
    """Every stat of provider apicv of one VM: its own, and a list over its vCPUs."""
    found: dict[str, Any] = {}
    for scope, rows in ((Scope.VM, [vm_row]), (Scope.VCPU, list(range(*sample.vcpus_of_vm[vm_row].indices(9999))))):
        block = sample.block("apicv", scope)
        assert block is not None
        mine = [place for place, row in enumerate(block.rows) if row in rows]
        for name in block.schema.names:
            values = [int(value) for value in block.column(name)[mine]]
            found[name] = values if scope is Scope.VCPU else values[0]
    return found


def row_of(sample: Sample, pid: int, index: int = 0) -> int:
    return [row for row in range(len(sample.vms)) if sample.vms.pid[row] == pid][index]


def main() -> None:
    kvm, source = Kvm(), BpfSource(groups=("apicv",))
    assert source.hooks is not None
    provisional, active = make_vm(kvm, inhibited=True), make_vm(kvm, inhibited=False)
    for _ in range(57):
        provisional.signal_msi(apic_id=0, vector=_VECTOR)
    for _ in range(31):
        active.signal_msi(apic_id=1, vector=_VECTOR)
    signal_from_another_process(connect_irqfd(active), 13)
    first = source.read()
    answer: dict[str, Any] = {
        "hooks": [str(hook) for hook in source.hooks.chosen],
        "not_counted": {what.name: why for what, why in source.hooks.why_not.items()},
        "provisional": counts(first, row_of(first, os.getpid(), 0)),
        "active": counts(first, row_of(first, os.getpid(), 1)),
    }

    active.close()
    successor = make_vm(kvm, inhibited=False)
    answer["successor"] = counts(later := source.read(), row_of(later, os.getpid(), 1))
    successor.close()

    spec = LabSpec(workload="msi", count=200, pit=GuestPit.REINJECT)
    with process.start(spec) as guests:
        guests.go()
        BpfSource(groups=("apicv",)).close()  # comes and goes meanwhile, and takes no count with it
        answer["guest_did"] = guests.wait_for_done(120).vms[0].vcpus[0].interrupts
        last = source.read()
        row = row_of(last, guests.pid)
        answer["guest"] = counts(last, row)
        kvm_stats = last.block("kvm", Scope.VCPU)
        assert kvm_stats is not None
        answer["irq_injections"] = int(kvm_stats.column("irq_injections")[last.vcpus_of_vm[row]][0])
    source.close()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
