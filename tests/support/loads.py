"""Scenes of hosts under a load that is known: for commands that compare, dump and report.

``simulated_scenes``: the simulated host, whose loads swing, at any time of its life. ``noisy_scenes``: counts that are
drawn at random around rates that wander, as those of real guests do.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from kvmscope.host.facts import Machine
from kvmscope.lab.simulate_plan import plan
from kvmscope.lab.simulated_kvm import SimulatedKvm, stat_sets
from kvmscope.linux.facts import CpuInfo, Fact, KernelModule
from kvmscope.sample import Block, I64Array, Origin, Sample, U64Array, Vcpus, Vms
from kvmscope.scene import Scene, VmIdentity
from kvmscope.schema import Schema, Scope
from kvmscope.store.writer import RecordingWriter

NOON_NS = 1_700_000_000_000_000_000
HOST = "a" * 32


def machine(release: str = "6.12.9", *, hostname: str = "host-7", **parameters: str) -> Machine:
    """An x86 host with these parameters of module kvm."""
    facts: Mapping[str, Fact[str]] = MappingProxyType({name: Fact(value) for name, value in parameters.items()})
    return Machine(
        hostname=Fact(hostname),
        kernel_release=Fact(release),
        architecture=Fact("x86_64"),
        kvm=Fact(KernelModule("kvm", False, facts)),
        kvm_vendor=Fact(KernelModule("kvm_intel", False, MappingProxyType({}))),
        cpu=Fact(CpuInfo("GenuineIntel", "Some CPU", frozenset({"vmx"}))),
        lockdown=Fact("none"),
    )


@dataclass(frozen=True)
class Load:
    """A host of so many VMs. ``names``: of the VMs, if they are not ``vm-0``, ``vm-1``, …"""

    vms: int = 4
    vcpus: int = 2
    names: Sequence[str] = ()
    first_id: int = 1
    boot: str = "b" * 32
    host: str = HOST
    machine: Machine = field(default_factory=machine)

    def name(self, row: int) -> str:
        return self.names[row] if self.names else f"vm-{row}"

    def scene(self, at_s: float, words: Mapping[Scope, U64Array]) -> Scene:
        """The scene at a second, with the words of all VMs and vCPUs."""
        ids = np.arange(self.first_id, self.first_id + self.vms, dtype=np.uint64)
        everybody: I64Array = np.full(self.vms, -1, dtype=np.int64)
        owners: I64Array = np.repeat(np.arange(self.vms, dtype=np.int64), self.vcpus)
        vcpu_ids: I64Array = np.tile(np.arange(self.vcpus, dtype=np.int64), self.vms)
        names = tuple(map(self.name, range(self.vms)))
        sample = Sample(
            taken_ns=NOON_NS + round(at_s * 1e9),
            monotonic_ns=round((1e6 + at_s) * 1e9),
            source="bpf",
            simulated=False,
            vms=Vms(ids, everybody, everybody, names),
            vcpus=Vcpus(owners, vcpu_ids, np.full(len(owners), -1, dtype=np.int64)),
            blocks=tuple(
                Block(_schema(scope), words[scope], np.arange(len(words[scope]), dtype=np.int64)) for scope in Scope
            ),
            origin=Origin(self.host, self.boot),
        )
        return Scene(sample, tuple(VmIdentity(name, None) for name in names), self.machine, MappingProxyType({}))


def simulated_scenes(
    count: int, *, begin_s: float = 0.0, step_s: float = 1.0, seed: int = 0, load: Load | None = None
) -> list[Scene]:
    """Scenes of a simulated host, one each ``step_s`` seconds from ``begin_s`` of its life on."""
    load = load or Load()
    host = SimulatedKvm(plan(vms=load.vms, vcpus=load.vcpus, seed=seed), seed)
    times = [begin_s + step_s * number for number in range(count)]
    return [load.scene(at_s, {scope: host.words(scope, at_s) for scope in Scope}) for at_s in times]


def noisy_scenes(
    count: int, chance: np.random.Generator, *, load: Load | None = None, factors: Mapping[str, float] | None = None
) -> list[Scene]:
    """Scenes a second apart. ``factors``: by how much the rates of some stats are more than usual."""
    load = load or Load()
    words = {
        scope: _counts(count, chance, subjects, scope, factors or {})
        for scope, subjects in ((Scope.VM, load.vms), (Scope.VCPU, load.vms * load.vcpus))
    }
    return [load.scene(second, {scope: words[scope][second] for scope in Scope}) for second in range(count)]


def without_stats(scene: Scene, *names: str) -> Scene:
    """The scene as of a kernel that does not have these stats."""
    blocks = []
    for block in scene.sample.blocks:
        kept = tuple(stat for stat in block.schema.descriptors if stat.name not in names)
        schema = Schema(block.schema.provider, block.schema.scope, kept, block.schema.data_size)
        blocks.append(replace(block, schema=schema))
    return replace(scene, sample=replace(scene.sample, blocks=tuple(blocks)))


def record(scenes: Sequence[Scene], place: Path) -> str:
    """A recording of the scenes."""
    writer = RecordingWriter(place)
    for scene in scenes:
        writer.append(scene)
    writer.close()
    return str(place)


def record_hosts(hosts: Sequence[Sequence[Scene]], place: Path) -> str:
    """The recordings of several hosts, put together in one directory."""
    for number, scenes in enumerate(hosts):
        one = place.with_name(f"{place.name}-{number}")
        record(scenes, one)
        shutil.copytree(one, place, dirs_exist_ok=True)
    return str(place)


_CORRELATION, _WANDER = 0.7, 0.03
"""Of one second's rate with the next one's, and its spread as a share."""


def _counts(
    count: int, chance: np.random.Generator, subjects: int, scope: Scope, factors: Mapping[str, float]
) -> list[U64Array]:
    """Counts of every stat of all subjects, that go up by Poisson numbers."""
    schema = _schema(scope)
    means = np.full(schema.words, 40.0)
    for stat in schema.descriptors:
        first = stat.offset // 8
        means[first : first + stat.size] = _RATES.get(stat.name, 40.0) * factors.get(stat.name, 1.0)
    level = chance.normal(size=(subjects, schema.words))
    total = chance.integers(0, 10**9, size=(subjects, schema.words)).astype(np.uint64)
    found = []
    for _ in range(count):
        found.append(total.copy())
        shock = chance.normal(size=level.shape)
        level = _CORRELATION * level + np.sqrt(1 - _CORRELATION**2) * shock
        total = total + chance.poisson(means * np.exp(_WANDER * level)).astype(np.uint64)
    return found


_RATES: Mapping[str, float] = {
    "exits": 9000.0,
    "halt_exits": 700.0,
    "halt_poll_success_ns": 40e6,
    "halt_poll_fail_ns": 30e6,
    "halt_wait_ns": 500e6,
}


def _schema(scope: Scope) -> Schema:
    stats = stat_sets()[scope]
    return Schema("kvm", scope, tuple(stats.descriptors), stats.data_size)
