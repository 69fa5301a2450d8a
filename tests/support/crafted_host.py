"""A host whose VMs do what a test says, with the stats of a captured kernel (tests/data/statsfile, Linux 6.18, x86)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kvmscope.catalog.stats import load_stats
from kvmscope.codec.statsfile import parse
from kvmscope.sample import NOT_KNOWN, Sample, VmId
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Unit
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

DATA = Path(__file__).parent.parent / "data/statsfile"
NOON_NS = 1_700_000_000_000_000_000
REASONS = ("disabled", "absent", "hyperv", "irqwin", "pit_reinj")


def _schema(scope: Scope) -> Schema:
    return parse((DATA / f"x86-6.18-{scope.value}.bin").read_bytes()).schema("kvm", scope)


def _booleans(scope: Scope, *names: str) -> Schema:
    stats = (Descriptor(name, Kind.INSTANT, Unit.BOOLEAN, offset=8 * at) for at, name in enumerate(names))
    return Schema("apicv", scope, tuple(stats), 8 * len(names))


def _group(provider: str, scope: Scope, names: tuple[str, ...]) -> Schema:
    """Stats of one of kvmscope's groups, as the catalogue describes them."""
    stats, offset = [], 0
    for name in names:
        entry = load_stats().find(provider, scope, name)
        assert entry is not None, name
        shape = entry.shape
        stats.append(Descriptor(name, shape.kind, shape.unit, exponent=shape.exponent, size=shape.size, offset=offset))
        offset += 8 * shape.size
    return Schema(provider, scope, tuple(stats), offset)


KVM = {scope: _schema(scope) for scope in Scope}
APICV = {
    Scope.VM: _booleans(Scope.VM, *(f"apicv_inhibit_{reason}" for reason in REASONS)),
    Scope.VCPU: _booleans(Scope.VCPU, "apicv_active"),
}


@dataclass
class CraftedVm:
    """Words by name; ``hists`` by stat and bucket. ``apicv``: reasons that hold, None if the state is not read."""

    name: str
    vcpus: int
    age_s: float | None = 3600.0
    apicv: frozenset[str] | None = None
    active: bool = False
    vm_stats: dict[str, int] = field(default_factory=dict)
    vcpu_stats: list[dict[str, int]] = field(default_factory=list)
    hists: list[dict[tuple[str, int], int]] = field(default_factory=list)
    is_read: bool = True

    def __post_init__(self) -> None:
        # A guest that runs has had exits.
        self.vcpu_stats = [{"exits": 1000} for _ in range(self.vcpus)]
        self.hists = [{} for _ in range(self.vcpus)]

    def halt(self, row: int, how: str, count: int) -> None:
        """``count`` more halts of a vCPU: ``wait_us:50``, ``success_us:20`` or ``fail_us:80``."""
        what, length_us = how.split(":")
        length_ns = round(float(length_us) * 1000)
        stats, hist = self.vcpu_stats[row], self.hists[row]
        name = {"wait_us": "halt_wait", "success_us": "halt_poll_success", "fail_us": "halt_poll_fail"}[what]
        bucket = f"{name}_hist", length_ns.bit_length()
        hist[bucket] = hist.get(bucket, 0) + count
        if what == "wait_us":
            return
        moved = {f"{name}_ns": length_ns * count, "halt_attempted_poll": count}
        moved |= {"halt_successful_poll": count} if what == "success_us" else {}
        for stat, more in moved.items():
            stats[stat] = stats.get(stat, 0) + more


@dataclass
class CraftedHost:
    """Time passes by ``run``; ``sample`` is what a source then reads."""

    vms: list[CraftedVm] = field(default_factory=list)
    now_s: float = 0.0
    lacks: frozenset[str] = frozenset()
    groups: list[Schema] = field(default_factory=list)

    def count(self, *names: str) -> None:
        """Have groups count these stats, ``provider.name``."""
        for provider in dict.fromkeys(name.partition(".")[0] for name in names):
            of_group = tuple(name.partition(".")[2] for name in names if name.startswith(f"{provider}."))
            for scope in Scope:
                here = tuple(name for name in of_group if load_stats().find(provider, scope, name))
                if here:
                    self.groups.append(_group(provider, scope, here))

    def add(self, name: str = "vm", vcpus: int = 2, **rest: object) -> CraftedVm:
        vm = CraftedVm(name, vcpus, **rest)  # type: ignore[arg-type]
        self.vms.append(vm)
        return vm

    def run(self, seconds: float, rates: Mapping[str, float] = {}, *, vm: str = "vm", vcpu: int | None = None) -> None:
        """Let ``rates`` happen in a VM, those of vCPUs on each or on one.

        ``wait_us:50`` is so many waits of 50 µs; ``success_us:20`` and ``fail_us:80`` polls, with all that KVM counts
        of them.
        """
        found = next(each for each in self.vms if each.name == vm)
        for name, rate in rates.items():
            moved = round(rate * seconds)
            if name in KVM[Scope.VM] or any(
                g.scope is Scope.VM and name == f"{g.provider}.{n}" for g in self.groups for n in g.names
            ):
                found.vm_stats[name] = found.vm_stats.get(name, 0) + moved
                continue
            for row in range(found.vcpus) if vcpu is None else (vcpu,):
                if ":" in name:
                    found.halt(row, name, moved)
                else:
                    found.vcpu_stats[row][name] = found.vcpu_stats[row].get(name, 0) + moved
        self.now_s += seconds

    def sample(self) -> Sample:
        return assemble(
            [self._vm(vm) for vm in self.vms],
            source="test",
            taken_ns=NOON_NS + round(self.now_s * 1e9),
            monotonic_ns=round((1000 + self.now_s) * 1e9),
        )

    def _vm(self, vm: CraftedVm) -> VmStats:
        created_ns = NOT_KNOWN if vm.age_s is None else NOON_NS - round(vm.age_s * 1e9)
        stats = [self._words(Scope.VM, vm.vm_stats)]
        if vm.apicv is not None:
            bits = [int(reason in vm.apicv) for reason in REASONS]
            stats.append(StatsOf(APICV[Scope.VM], np.array(bits, dtype=np.uint64)))
        stats += [_of_group(group, vm.vm_stats) for group in self.groups if group.scope is Scope.VM]
        vcpus = [VcpuStats(row, self._vcpu(vm, row), NOT_KNOWN) for row in range(vm.vcpus)]
        return VmStats(vm_id(vm.name), stats, vcpus, NOT_KNOWN, created_ns, vm.name)

    def _vcpu(self, vm: CraftedVm, row: int) -> list[StatsOf]:
        if not vm.is_read:
            return []
        stats = [self._words(Scope.VCPU, vm.vcpu_stats[row], vm.hists[row])]
        if vm.apicv is not None:
            stats.append(StatsOf(APICV[Scope.VCPU], np.array([vm.active], dtype=np.uint64)))
        stats += [_of_group(group, vm.vcpu_stats[row]) for group in self.groups if group.scope is Scope.VCPU]
        return stats

    def _words(self, scope: Scope, values: Mapping[str, int], hists: Mapping[tuple[str, int], int] = {}) -> StatsOf:
        schema = KVM[scope]
        words = np.zeros(schema.words, dtype=np.uint64)
        for name, value in values.items():
            if name in schema:
                words[schema[name].offset // 8] = value
        for (name, bucket), count in hists.items():
            words[schema[name].offset // 8 + bucket] = count
        left = tuple(stat for stat in schema.descriptors if stat.name not in self.lacks)
        return StatsOf(Schema("kvm", scope, left, schema.data_size) if self.lacks else schema, words)


def _of_group(group: Schema, values: Mapping[str, int]) -> StatsOf:
    """Of a histogram all values are about 4 ms."""
    words = np.zeros(group.words, dtype=np.uint64)
    for stat in group.descriptors:
        place = stat.offset // 8 + (22 if stat.is_histogram else 0)
        words[place] = values.get(f"{group.provider}.{stat.name}", 0)
    return StatsOf(group, words)


def vm_id(name: str) -> VmId:
    return VmId(int.from_bytes(name.encode()[:8].ljust(8, b"\x11"), "big"))
