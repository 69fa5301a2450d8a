"""Samples of records as the iterator leaves them: columns are shared while the subjects are the same, and only then.

That they hold what KVM has is shown on real guests in tests/live/test_bpf.py.
"""

from __future__ import annotations

import struct

import numpy as np
import pytest

from kvmscope.codec.records import VcpuRecords, VmRecords
from kvmscope.codec.snapshot import (
    HAS_APIC,
    HAS_CREATED,
    HAS_SCHED,
    VCPU_HEAD_SIZE,
    VM_HEAD_SIZE,
    Feature,
    SnapshotFlag,
    SnapshotHeader,
)
from kvmscope.sample import NOT_KNOWN, Sample, U64Array
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Unit
from kvmscope.sources.bpf.arena import Run
from kvmscope.sources.bpf.samples import Samples
from kvmscope.sources.kvm_schema import KvmSchemas

VM_IDENTITY = struct.Struct("=QQiIII")
VCPU_IDENTITY = struct.Struct("=IIiI")


def schema(scope: Scope) -> Schema:
    return Schema("kvm", scope, (Descriptor("exits", Kind.CUMULATIVE, Unit.NONE, offset=0),), 8)


SCHEMAS = KvmSchemas(schema(Scope.VM), schema(Scope.VCPU), (b"", b""))
A_VM = (7, 1_700_000_000_000_000_000, 4711, 0, 2, HAS_CREATED)
VCPUS = ((0, 0, 4712, HAS_APIC), (0, 1, 0, HAS_APIC))


def records(head: int, identities: list[bytes], stats: int) -> U64Array:
    return np.stack(
        [np.frombuffer(each.ljust(head, b"\0") + struct.pack("=Q", stats), np.uint64) for each in identities]
    )


def run(
    *, vm: tuple[int, ...] = A_VM, vcpus: tuple[tuple[int, ...], ...] = VCPUS, stats: int = 5, flags: int = 0
) -> Run:
    return Run(
        SnapshotHeader(SnapshotFlag(flags), 1, 99, 0, 1, len(vcpus), 0, Feature.APICV, 0),
        VmRecords(records(VM_HEAD_SIZE, [VM_IDENTITY.pack(*vm)], stats), stat_size=8),
        VcpuRecords(records(VCPU_HEAD_SIZE, [VCPU_IDENTITY.pack(*each) for each in vcpus], stats), stat_size=8),
    )


def samples() -> Samples:
    return Samples("bpf", SCHEMAS, {0: "disabled"}, Feature.APICV)


def subjects(sample: Sample) -> list[list[int]]:
    vms, vcpus = sample.vms, sample.vcpus
    return [list(map(int, column)) for column in (vms.id, vms.pid, vms.created_ns, vcpus.vm, vcpus.id, vcpus.tid)]


def exits(sample: Sample) -> list[int]:
    block = sample.block("kvm", Scope.VCPU)
    assert block is not None
    return [int(value) for value in block.column("exits")]


def test_subjects_are_those_of_the_records() -> None:
    made = samples().make(1, run())
    assert subjects(made) == [[7], [4711], [1_700_000_000_000_000_000], [0, 0], [0, 1], [4712, NOT_KNOWN]]
    assert (made.taken_ns, made.monotonic_ns, exits(made), made.gaps) == (1, 99, [5, 5], ())


def test_samples_of_the_same_subjects_share_columns_but_not_values() -> None:
    maker = samples()
    first, second = maker.make(1, run(stats=5)), maker.make(2, run(stats=6))
    assert first.vms is second.vms
    assert first.vcpus is second.vcpus
    assert (exits(first), exits(second)) == ([5, 5], [6, 6])


@pytest.mark.parametrize(
    "changed",
    [
        run(vm=(8, *A_VM[1:])),
        run(vm=(7, 1_700_000_000_000_000_001, *A_VM[2:])),
        run(vm=(*A_VM[:2], 4713, *A_VM[3:])),
        run(vm=(*A_VM[:5], 0)),
        run(vcpus=(VCPUS[0], (0, 1, 4799, HAS_APIC))),
        run(vcpus=(VCPUS[0], (0, 2, 0, HAS_APIC))),
        run(vcpus=(VCPUS[0], (0, 1, 0, 0))),
        run(vcpus=VCPUS[:1]),
    ],
    ids=["id", "created", "pid", "not created", "thread", "vcpu id", "no APIC", "fewer vCPUs"],
)
def test_any_change_of_a_subject_is_in_the_next_sample(changed: Run) -> None:
    maker = samples()
    before = maker.make(1, run())
    untouched = subjects(before)
    after = maker.make(2, changed)
    fresh = samples().make(2, changed)
    assert subjects(after) == subjects(fresh)
    assert [block.rows.tolist() for block in after.blocks] == [block.rows.tolist() for block in fresh.blocks]
    assert subjects(before) == untouched


def test_nobody_can_write_to_columns_that_samples_share() -> None:
    made = samples().make(1, run())
    for column in (made.vms.id, made.vms.pid, made.vms.created_ns, made.vcpus.vm, made.vcpus.id, made.vcpus.tid):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


def test_a_process_outside_the_namespace_is_a_gap_in_each_sample_and_a_walk_cut_short_in_its_own() -> None:
    maker = samples()
    outside = run(vm=(*A_VM[:2], 0, *A_VM[3:]))
    assert [gap.reason[:9] for gap in maker.make(1, outside).gaps] == ["1 VM runs"]
    assert maker.make(2, outside).gaps[0].reason.startswith("1 VM runs")
    cut = maker.make(3, run(flags=SnapshotFlag.UNFINISHED))
    assert [gap.reason for gap in cut.gaps] == ["the walk over processes was cut short: VMs are missing"]
    assert maker.make(4, run()).gaps == ()


def test_a_vcpu_has_times_of_its_thread_from_when_that_can_be_read() -> None:
    maker = Samples("bpf", SCHEMAS, {}, Feature.SCHED_INFO)
    rows = []
    for flags in (0, HAS_SCHED):
        block = maker.make(1, run(vcpus=((0, 0, 4712, HAS_SCHED), (0, 1, 0, flags)))).block("sched", Scope.VCPU)
        assert block is not None
        rows.append(block.rows.tolist())
    assert rows == [[0], [0, 1]]


def test_vms_that_share_a_process_are_a_gap_and_have_no_times_of_threads() -> None:
    maker = Samples("bpf", SCHEMAS, {}, Feature.SCHED_INFO)
    alone = maker.make(1, run(vm=(*A_VM[:5], HAS_CREATED | HAS_SCHED)))
    shared = maker.make(2, run())
    rows = [made.block("sched", Scope.VM) for made in (alone, shared)]
    assert [block.rows.tolist() if block else None for block in rows] == [[0], []]
    assert alone.gaps == ()
    assert [(gap.provider, gap.reason[:22]) for gap in shared.gaps] == [("sched", "1 VM shares its proces")]
