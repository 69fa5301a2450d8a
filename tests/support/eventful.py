"""Scenes of a simulated host on which much happens: for what judges recordings in another way than numpy does.

Findings begin, end and begin again; VMs and vCPUs come and go, or are not read for a while; counts are cleared, of one
provider or all; threads change; a provider is not read for a while, if the seed is odd; scenes are unevenly far apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import numpy as np

from kvmscope.lab.fleet import host_scenes
from kvmscope.lab.fleet_plan import FleetSize, plan_fleet
from kvmscope.sample import Block, I64Array, Sample, Vcpus, Vms
from kvmscope.scene import Scene
from kvmscope.schema import Kind, Scope

_COUNTS = (Kind.CUMULATIVE, Kind.LINEAR_HISTOGRAM, Kind.LOG_HISTOGRAM)
_KINDS = 32
"""Hosts of a fleet that has every trouble."""


def eventful_scenes(seed: int, *, scenes: int = 48, vms: int = 10, vcpus: int = 2) -> Iterator[Scene]:
    """The scenes of one host; the same for the same arguments."""
    size = FleetSize(hosts=_KINDS, vms=vms, vcpus=vcpus, samples=2 * scenes, interval_s=1.0)
    random = Random(seed)
    plain = list(host_scenes(list(plan_fleet(size))[seed % _KINDS], size))
    events = _Events(random, plain[0], scenes, is_mixed=bool(seed % 2))
    at = 0
    for number in range(scenes):
        yield events.at(number, plain, at)
        at += random.choice([1, 1, 1, 2])


class _Events:
    """What happens, drawn before the first scene."""

    def __init__(self, random: Random, scene: Scene, scenes: int, *, is_mixed: bool) -> None:
        """``is_mixed``: scenes have two sets of blocks."""
        self._random = random
        sample, self._scenes = scene.sample, scenes
        vms, vcpus = range(len(sample.vms)), range(len(sample.vcpus))
        self._still = {vm: self._times(0.5) for vm in vms}
        """When a VM does nothing: its words stay what they were."""
        self._away = {vm: self._times(0.1) for vm in vms if random.random() < 0.2}
        self._away_vcpus = {vcpu: self._times(0.05) for vcpu in vcpus if random.random() < 0.1}
        self._unread = {vm: self._times(0.1) for vm in vms if random.random() < 0.2}
        self._cleared = {vm: random.randrange(scenes) for vm in vms if random.random() < 0.2}
        self._threads = {vcpu: random.randrange(scenes) for vcpu in vcpus if random.random() < 0.1}
        providers = sorted({block.schema.provider for block in sample.blocks} - {"kvm"}) or ["kvm"]
        self._dropped = (random.choice(providers), self._times(0.3) if is_mixed else frozenset())
        self._places: dict[int, int] = {}
        self._zero: dict[tuple[int, str, Scope], np.ndarray[tuple[int, int], np.dtype[np.uint64]]] = {}

    def _times(self, share: float) -> frozenset[int]:
        """Stretches of scenes, of about this share of all."""
        found: set[int] = set()
        while len(found) < share * self._scenes:
            begin = self._random.randrange(self._scenes)
            found |= set(range(begin, min(self._scenes, begin + self._random.randrange(1, 8))))
        return frozenset(found)

    def at(self, number: int, plain: list[Scene], at: int) -> Scene:
        """The scene of this number: the plain one at a place, with all that has happened."""
        sample = plain[at].sample
        blocks = tuple(self._block(number, plain, at, place) for place in range(len(sample.blocks)))
        provider, times = self._dropped
        if number in times:
            blocks = tuple(block for block in blocks if block.schema.provider != provider)
        tids = sample.vcpus.tid.copy()
        for vcpu, begin in self._threads.items():
            tids[vcpu] += 1000 * (number >= begin)
        sample = replace_sample(sample, sample.vms, Vcpus(sample.vcpus.vm, sample.vcpus.id, tids), blocks)
        here = [vm for vm in range(len(sample.vms)) if number not in self._away.get(vm, ())]
        gone = [vcpu for vcpu, its in self._away_vcpus.items() if number in its]
        return _only(replace(plain[at], sample=sample), here, gone)

    def _block(self, number: int, plain: list[Scene], at: int, place: int) -> Block:
        block = plain[at].sample.blocks[place]
        owners = self._owners(plain[at].sample, block)
        values = block.values.copy()
        for vm in self._still:
            if number not in self._still[vm] or vm not in self._places:
                self._places[vm] = at
            its = owners == vm
            values[its] = plain[self._places[vm]].sample.blocks[place].values[its]
            if self._cleared.get(vm, self._scenes) <= number:
                self._clear(values, its, vm, block)
        unread = np.isin(owners, [vm for vm, times in self._unread.items() if number in times])
        return Block(block.schema, values[~unread], block.rows[~unread])

    def _clear(self, values: np.ndarray, its: np.ndarray, vm: int, block: Block) -> None:
        """Counts as they are after they were set to 0: of some VMs those of every provider, of others KVM's."""
        if block.schema.provider != "kvm" and vm % 2:
            return
        counts = [
            word
            for stat in block.schema.descriptors
            if stat.kind in _COUNTS
            for word in range(stat.offset // 8, stat.offset // 8 + stat.size)
        ]
        key = (vm, block.schema.provider, block.schema.scope)
        zero = self._zero.setdefault(key, values[its].copy())
        rows = np.flatnonzero(its)
        values[np.ix_(rows, np.array(counts, dtype=np.int64))] -= zero[:, counts]

    @staticmethod
    def _owners(sample: Sample, block: Block) -> I64Array:
        return block.rows if block.schema.scope is Scope.VM else sample.vcpus.vm[block.rows]


def replace_sample(sample: Sample, vms: Vms, vcpus: Vcpus, blocks: tuple[Block, ...]) -> Sample:
    return Sample(
        sample.taken_ns,
        sample.monotonic_ns,
        sample.source,
        sample.simulated,
        vms,
        vcpus,
        blocks,
        sample.gaps,
        sample.origin,
    )


def _only(scene: Scene, vms: list[int], gone: list[int]) -> Scene:
    """The scene with these VMs alone, and without these vCPUs."""
    sample = scene.sample
    vcpus = [row for row, vm in enumerate(sample.vcpus.vm.tolist()) if vm in vms and row not in gone]
    new_vm = {vm: row for row, vm in enumerate(vms)}
    new_row = {Scope.VM: new_vm, Scope.VCPU: {vcpu: row for row, vcpu in enumerate(vcpus)}}
    blocks = []
    for block in sample.blocks:
        new = new_row[block.schema.scope]
        kept = np.array([row in new for row in block.rows.tolist()], dtype=np.bool_)
        rows = np.array([new[row] for row in block.rows[kept].tolist()], dtype=np.int64)
        blocks.append(Block(block.schema, block.values[kept], rows))
    its, of_vcpus = sample.vms, sample.vcpus
    new_vms = Vms(its.id[vms], its.pid[vms], its.created_ns[vms], tuple(its.label[vm] for vm in vms))
    owners = np.array([new_vm[vm] for vm in of_vcpus.vm[vcpus].tolist()], dtype=np.int64)
    new_vcpus = Vcpus(owners, of_vcpus.id[vcpus], of_vcpus.tid[vcpus])
    identities = tuple(scene.identities[vm] for vm in vms)
    return replace(scene, sample=replace_sample(sample, new_vms, new_vcpus, tuple(blocks)), identities=identities)
