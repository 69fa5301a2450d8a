"""What is compared with what: the same VMs, in the intervals in which all of them are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from loads import Load, noisy_scenes, simulated_scenes

from kvmscope.analysis.difference_sides import (
    VmPair,
    estimate_by_vm,
    estimate_together,
    lasting_vms,
    only_vms,
    pair_vms,
    read_span,
)
from kvmscope.catalog.metrics import load_metrics
from kvmscope.host.process import VmmProcess
from kvmscope.scene import Scene, VmIdentity
from kvmscope.schema import Scope

METRICS = load_metrics()
EXITS = next(metric for metric in METRICS if metric.name == "exits_per_s")


def with_uuids(scene: Scene, uuids: list[str | None]) -> Scene:
    return replace(
        scene,
        identities=tuple(
            VmIdentity(identity.name, VmmProcess(1, "qemu", identity.name, uuid, None, "qemu", (), 1))
            for identity, uuid in zip(scene.identities, uuids, strict=True)
        ),
    )


def test_vms_of_one_boot_are_paired_by_id() -> None:
    [a] = simulated_scenes(1, load=Load(vms=2))
    [b] = simulated_scenes(1, load=Load(vms=2, names=("renamed", "vm-0"), first_id=2))
    assert pair_vms(a, b) == (VmPair(0, 1), VmPair(1, 0))  # the first by name, since its id is not there


def test_vms_of_two_boots_are_paired_by_uuid_then_name() -> None:
    [a] = simulated_scenes(1, load=Load(vms=3, names=("x", "y", "z")))
    [b] = simulated_scenes(1, load=Load(vms=3, names=("z", "x", "other"), boot="c" * 32))
    a, b = with_uuids(a, ["AA", None, "bb"]), with_uuids(b, ["aa", None, None])
    assert pair_vms(a, b) == (VmPair(0, 0),)
    assert pair_vms(with_uuids(a, [None] * 3), with_uuids(b, [None] * 3)) == (VmPair(0, 1), VmPair(2, 0))


def test_a_sample_with_some_vms_alone_has_their_words() -> None:
    [scene] = simulated_scenes(1, load=Load(vms=3, vcpus=2))
    part = only_vms(scene.sample, [2, 0])
    assert part.vms.id.tolist() == [3, 1]
    assert part.vcpus.vm.tolist() == [0, 0, 1, 1]
    for scope, rows in ((Scope.VM, [2, 0]), (Scope.VCPU, [4, 5, 0, 1])):
        whole, kept = scene.sample.block("kvm", scope), part.block("kvm", scope)
        assert whole is not None
        assert kept is not None
        assert kept.rows.tolist() == list(range(len(rows)))
        np.testing.assert_array_equal(kept.values, whole.values[rows])


def test_vms_together_are_their_sum_and_the_mean_of_each_is_its_own() -> None:
    scenes = simulated_scenes(13, load=Load(vms=3))
    values = read_span(scenes, [1, 3], METRICS)
    estimate = estimate_together(values, EXITS)
    assert estimate is not None
    assert estimate.values == 12
    assert values.of_vms["exits_per_s"].sum() == pytest.approx(estimate.mean)
    assert len(values.of_vms["exits_per_s"]) == 2


def test_an_interval_in_which_a_vm_is_missing_is_left_out() -> None:
    scenes = noisy_scenes(13, np.random.default_rng(1), load=Load(vms=2))
    scenes[5] = replace(scenes[5], sample=only_vms(scenes[5].sample, [0]), identities=scenes[5].identities[:1])
    assert len(read_span(scenes, [1, 2], METRICS).lengths_s) == 10
    assert len(read_span(scenes, [1], METRICS).lengths_s) == 12


def test_an_interval_with_a_reset_of_one_vcpu_is_left_out_of_the_metrics_that_it_concerns() -> None:
    scenes = noisy_scenes(13, np.random.default_rng(1), load=Load(vms=2))
    block = scenes[6].sample.block("kvm", Scope.VCPU)
    assert block is not None
    block.values[0, block.schema["exits"].offset // 8] = 0
    values = read_span(scenes, [1, 2], METRICS)
    assert np.isnan(values.together["exits_per_s"]).tolist() == [number == 5 for number in range(12)]
    assert not np.isnan(values.together["page_faults_per_s"]).any()


def test_between_vms_a_rate_is_that_of_a_vcpu() -> None:
    small, large = (
        read_span(noisy_scenes(13, np.random.default_rng(vcpus), load=Load(vms=3, vcpus=vcpus)), [1, 2, 3], METRICS)
        for vcpus in (1, 8)
    )
    of_small, of_large = estimate_by_vm([small], EXITS), estimate_by_vm([large], EXITS)
    both = estimate_by_vm([small, large], EXITS)
    assert of_small is not None
    assert of_large is not None
    assert both is not None
    assert of_small.mean == pytest.approx(of_large.mean, rel=0.1)
    assert both.values == 6


def test_vms_that_came_did_not_last() -> None:
    first, last = (simulated_scenes(1, load=Load(vms=2, first_id=first))[0] for first in (1, 2))
    assert lasting_vms(first, last) == [0]
