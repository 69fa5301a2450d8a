"""Published stats beside the kernel's: of the VM whose process publishes them, and of no VM where that is a guess."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from any_scene import assert_same

from kvmscope.collect.joining import join, published_names
from kvmscope.sample import Sample, VmId
from kvmscope.scene import Scene, decode, encode
from kvmscope.schema import Descriptor, Kind, Schema, Scope, StatNote, Tier
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

NOTES = (StatNote("Requests of the disk.", Tier.STABLE),)
OF_VM = Schema("disk", Scope.VM, (Descriptor("requests", Kind.CUMULATIVE),), 8, NOTES)
OF_VCPU = Schema("vmm", Scope.VCPU, (Descriptor("exits", Kind.CUMULATIVE),), 8)


def words(value: int) -> bytes:
    return value.to_bytes(8, "little")


def published(*vms: tuple[int, dict[int, int]], label: str = "theirs") -> Sample:
    """For each process what it publishes: of the VM its pid as a count, of each vCPU the count given."""
    return assemble(
        [
            VmStats(
                VmId(1000 + number),
                [StatsOf(OF_VM, words(pid))],
                [VcpuStats(vcpu, [StatsOf(OF_VCPU, words(count))]) for vcpu, count in vcpus.items()],
                pid=pid,
                label=label,
            )
            for number, (pid, vcpus) in enumerate(vms)
        ],
        source="published",
        taken_ns=1,
        monotonic_ns=1,
    )


def test_one_vm_has_the_blocks_of_both(crafted: Any) -> None:
    """Of the crafted host web-1 is process 4242, db 77, half 78."""
    before = crafted.after
    joined = join(before, published((78, {1: 7, 0: 5}), (4242, {0: 9})))
    assert joined.vms is before.vms
    assert joined.blocks[: len(before.blocks)] == before.blocks
    of_vm, of_vcpu = joined.block("disk", Scope.VM), joined.block("vmm", Scope.VCPU)
    names = before.vms.label
    mine = [block for block in joined.blocks_of(Scope.VM) if block.schema is OF_VM]
    assert [(names[row], int(value)) for row, value in zip(mine[0].rows, mine[0].column("requests"), strict=True)] == [
        ("web-1", 4242),
        ("half", 78),
    ]
    assert of_vm is not None
    assert of_vcpu is not None
    owners = [(names[before.vcpus.vm[row]], int(before.vcpus.id[row])) for row in of_vcpu.rows.tolist()]
    assert dict(zip(owners, of_vcpu.column("exits").tolist(), strict=True)) == {
        ("web-1", 0): 9,
        ("half", 0): 5,
        ("half", 1): 7,
    }
    assert np.all(np.diff(of_vcpu.rows) > 0)
    assert joined.gaps == before.gaps


def test_a_process_with_two_vms_or_two_publications_is_a_gap_and_no_guess(crafted: Any) -> None:
    twins = [crafted.vm("a", [crafted.vcpu(0)], pid=5), crafted.vm("b", [crafted.vcpu(0)], pid=5)]
    sample = crafted.make_sample([*twins, crafted.vm("c", [], pid=6)])
    joined = join(sample, published((5, {0: 1}), (6, {}), (6, {})))
    assert joined.blocks == sample.blocks
    gaps = {str(gap.vm): gap.reason for gap in joined.gaps}
    assert set(gaps) == {str(sample.vms.vm_id(row)) for row in range(3)}
    assert gaps[str(sample.vms.vm_id(0))].startswith("its process has 2 VMs and publishes statistics of 1;")
    assert gaps[str(sample.vms.vm_id(2))].startswith("its process has 1 VMs and publishes statistics of 2;")
    assert published_names(sample, published((5, {}), (6, {}), (6, {}))) == {}


def test_a_vcpu_that_the_source_does_not_see_is_a_gap(crafted: Any) -> None:
    joined = join(crafted.after, published((4242, {0: 1, 9: 2})))
    block = joined.block("vmm", Scope.VCPU)
    assert block is not None
    assert len(block.rows) == 1
    assert [(gap.reason, gap.vm) for gap in joined.gaps[len(crafted.after.gaps) :]] == [
        (
            "its process publishes statistics of vCPU 9, which source test does not see",
            crafted.after.vms.vm_id(crafted.after.vms.pid.tolist().index(4242)),
        )
    ]


def test_a_joined_scene_comes_back_from_bytes_with_what_the_author_says(crafted: Any) -> None:
    scene = Scene(join(crafted.after, published((4242, {0: 1}))), crafted.identities, crafted.machine, {})
    back = decode(encode(scene))
    assert_same(back, scene)
    schema = next(block.schema for block in back.sample.blocks if block.schema == OF_VM)
    assert schema.note("requests") == NOTES[0]


@pytest.mark.parametrize("label", ["", "their name"])
def test_the_name_that_a_vmm_publishes_is_known_by_its_process(crafted: Any, label: str) -> None:
    names = published_names(crafted.after, published((77, {}), label=label))
    assert names == ({77: label} if label else {})
