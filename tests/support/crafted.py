"""Samples made by hand for the commands, a host that yields them, and byte-exact expected outputs.

The outputs are in tests/data/cli; ``KVMSCOPE_UPDATE=1 pytest tests/cli`` writes them anew, to be read before a commit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from json_schemas import check_json, closed

from kvmscope.cli import main
from kvmscope.collect import Host
from kvmscope.errors import SourceError, Unavailable
from kvmscope.host.facts import Machine
from kvmscope.host.process import VmmProcess
from kvmscope.linux.facts import CpuInfo, Fact, KernelModule
from kvmscope.sample import NOT_KNOWN, Gap, Sample, VmId
from kvmscope.scene import VmIdentity
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Unit
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

DATA = Path(__file__).parent.parent / "data" / "cli"
NOON_NS = 1_700_000_000_123_000_000


def _schema(provider: str, scope: Scope, *stats: Descriptor) -> Schema:
    placed = []
    offset = 0
    for stat in stats:
        placed.append(replace(stat, offset=offset))
        offset += 8 * stat.size
    return Schema(provider, scope, tuple(placed), offset)


def _count(name: str) -> Descriptor:
    return Descriptor(name, Kind.CUMULATIVE)


def _ns(name: str) -> Descriptor:
    return Descriptor(name, Kind.CUMULATIVE, Unit.SECONDS, exponent=-9)


KVM_VM = _schema("kvm", Scope.VM, _count("remote_tlb_flush"), Descriptor("mmu_unsync", Kind.INSTANT))
KVM_VCPU = _schema(
    "kvm",
    Scope.VCPU,
    _count("exits"),
    _count("pf_taken"),
    _count("io_exits"),
    _count("mmio_exits"),
    _count("fpu_reload"),
    _count("halt_exits"),
    _ns("halt_poll_success_ns"),
    _ns("halt_poll_fail_ns"),
    _count("irq_injections"),
    Descriptor("halt_wait_hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32),
    Descriptor("blocking", Kind.INSTANT, Unit.BOOLEAN),
)
DISK = _schema(
    "disk",
    Scope.VM,
    Descriptor("read_size", Kind.LINEAR_HISTOGRAM, Unit.BYTES, size=4, bucket_size=4096),
    Descriptor("written", Kind.CUMULATIVE, Unit.BYTES, exponent=3),
    _count("exits"),
)


@dataclass(frozen=True)
class VcpuSpec:
    """Words of a vCPU by name, 0 for the rest; ``readable`` is false for one whose stats could not be read."""

    id: int
    stats: Mapping[str, int] = field(default_factory=dict)
    hist: Mapping[int, int] = field(default_factory=dict)
    tid: int = NOT_KNOWN
    readable: bool = True


@dataclass(frozen=True)
class VmSpec:
    name: str
    vcpus: Sequence[VcpuSpec]
    flushes: int = 0
    unsync: int = 0
    pid: int = NOT_KNOWN
    vmm: str | None = None
    created_ns: int = NOT_KNOWN
    disk: Sequence[int] | None = None


def make_sample(
    vms: Sequence[VmSpec], *, at_s: float = 0.0, gaps: Sequence[Gap] = (), simulated: bool = False
) -> Sample:
    """A sample ``at_s`` seconds after noon. A VM's id is made from its name."""
    return assemble(
        [_vm(vm) for vm in vms],
        source="test",
        taken_ns=NOON_NS + round(at_s * 1e9),
        monotonic_ns=round((1000 + at_s) * 1e9),
        simulated=simulated,
        gaps=gaps,
    )


def vm_id(name: str) -> VmId:
    return VmId(int.from_bytes(name.encode("utf-8", "surrogateescape")[:8].ljust(8, b"\x11"), "big"))


def _vm(vm: VmSpec) -> VmStats:
    stats = [StatsOf(KVM_VM, np.array([vm.flushes, vm.unsync % 2**64], dtype=np.uint64))]
    if vm.disk is not None:
        stats.append(StatsOf(DISK, np.array(vm.disk, dtype=np.uint64)))
    return VmStats(vm_id(vm.name), stats, [_vcpu(vcpu) for vcpu in vm.vcpus], vm.pid, vm.created_ns, vm.name)


def _vcpu(vcpu: VcpuSpec) -> VcpuStats:
    words = np.zeros(KVM_VCPU.words, dtype=np.uint64)
    for name, value in vcpu.stats.items():
        words[KVM_VCPU[name].offset // 8] = value
    first = KVM_VCPU["halt_wait_hist"].offset // 8
    for bucket, count in vcpu.hist.items():
        words[first + bucket] = count
    return VcpuStats(vcpu.id, [StatsOf(KVM_VCPU, words)] if vcpu.readable else [], vcpu.tid)


def identities(vms: Sequence[VmSpec]) -> tuple[VmIdentity, ...]:
    """Who the VMs are, in the order of a sample of them."""
    ordered = sorted(vms, key=lambda vm: vm.created_ns)
    return tuple(VmIdentity(vm.name, None if vm.vmm is None else _process(vm)) for vm in ordered)


def _process(vm: VmSpec) -> VmmProcess:
    assert vm.vmm is not None
    uuid = "12345678-1234-1234-1234-123456789abc"
    return VmmProcess(vm.pid, vm.vmm, vm.name, uuid, "libvirt", "qemu-system-x86", (), 1)


MACHINE = Machine(
    hostname=Fact("host-7"),
    kernel_release=Fact("6.12.9"),
    architecture=Fact("x86_64"),
    kvm=Fact(KernelModule("kvm", False, MappingProxyType({}))),
    kvm_vendor=Fact(KernelModule("kvm_intel", False, MappingProxyType({}))),
    cpu=Fact(CpuInfo("GenuineIntel", "Some CPU", frozenset())),
    lockdown=Fact.unknown("no such file"),
)


class ListSource:
    """Yields samples that it was given, the last one repeatedly; closes on request."""

    name = "test"

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = iter(samples)
        self._last = samples[-1]
        self.is_closed = False

    @property
    def schemas(self) -> tuple[Schema, ...]:
        return tuple(block.schema for block in self._last.blocks)

    def read(self) -> Sample:
        return next(self._samples, self._last)

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Kvmscope:
    """Runs commands on given samples, in this process."""

    sources: list[ListSource] = field(default_factory=list)

    def run(self, *arguments: str, on: Sequence[Sample] = (), error: SourceError | None = None) -> Result:
        def opener(_name: str) -> Host:
            if error is not None:
                raise error
            self.sources.append(ListSource(on))
            return Host(self.sources[-1], {"bpf": Unavailable("no BPF here")})

        result = CliRunner().invoke(main, arguments, obj=opener, prog_name="kvmscope")
        if "--json" in arguments and result.exit_code in (0, 1):
            check_json(arguments, result.stdout)
        return result


@pytest.fixture
def kvmscope() -> Iterator[Kvmscope]:
    runner = Kvmscope()
    yield runner
    assert all(source.is_closed for source in runner.sources)


Expect = Callable[[str, str], None]


@pytest.fixture
def expect() -> Expect:
    """Compares a text with a file of tests/data/cli."""

    def compare(name: str, text: str) -> None:
        path = DATA / name
        if os.environ.get("KVMSCOPE_UPDATE"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        assert text + "\n" == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture
def schema_errors() -> Callable[[Any, Any], list[str]]:
    """What is wrong with a JSON value by a schema under which no key may be undocumented."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: make setup")

    def errors(schema: Any, value: Any) -> list[str]:
        jsonschema.Draft202012Validator.check_schema(schema)
        return [error.message for error in jsonschema.Draft202012Validator(closed(schema)).iter_errors(value)]

    return errors


BEFORE = (
    VmSpec(
        "web-1",
        [
            VcpuSpec(0, {"exits": 1000, "halt_exits": 10}, {20: 3, 21: 7}, tid=4243),
            VcpuSpec(1, {"exits": 500}, {20: 1}, tid=4244),
        ],
        flushes=5,
        pid=4242,
        vmm="qemu",
        created_ns=NOON_NS - 90_000_000_000,
    ),
    VmSpec("db\x1b[31m-2", [VcpuSpec(0, {"exits": 10**12})], pid=77, vmm="firecracker", created_ns=NOON_NS - 10**9),
    VmSpec("half", [VcpuSpec(0, {"exits": 7}), VcpuSpec(1, readable=False)], pid=78, vmm="other", created_ns=NOON_NS),
    VmSpec("gone", [VcpuSpec(0)], created_ns=NOON_NS + 1),
)
AFTER = (
    VmSpec(
        "web-1",
        [
            VcpuSpec(
                0,
                {
                    "exits": 41_000,
                    "halt_exits": 2_510,
                    "pf_taken": 12,
                    "io_exits": 900,
                    "mmio_exits": 100,
                    "fpu_reload": 1_800,
                    "halt_poll_success_ns": 150_000_000,
                    "halt_poll_fail_ns": 50_000_000,
                    "irq_injections": 2_000,
                    "blocking": 1,
                },
                {20: 1503, 21: 907, 24: 92},
                tid=4243,
            ),
            VcpuSpec(1, {"exits": 700}, {20: 1}, tid=4244),
        ],
        flushes=9,
        unsync=-2,
        pid=4242,
        vmm="qemu",
        created_ns=NOON_NS - 90_000_000_000,
        disk=(3, 0, 0, 9, 1234, 42),
    ),
    VmSpec("db\x1b[31m-2", [VcpuSpec(0, {"exits": 5})], pid=77, vmm="firecracker", created_ns=NOON_NS - 10**9),
    VmSpec("half", [VcpuSpec(0, {"exits": 507}), VcpuSpec(1, readable=False)], pid=78, vmm="other", created_ns=NOON_NS),
    VmSpec("数据库-with-a-name-that-goes-on-and-on", [VcpuSpec(0, {"blocking": 1})], created_ns=NOON_NS + 2),
)
GAPS = (
    Gap("its stats fd is not open", vm=vm_id("half"), vcpu=1, provider="kvm"),
    Gap("2 processes may not be looked into"),
)


@dataclass(frozen=True)
class Crafted:
    """Two samples two seconds apart, of VMs that show every case: busy, cleared, partly unknown, gone, new.

    ``middle``: one between them, until which nothing happened.
    """

    before: Sample
    middle: Sample
    after: Sample
    identities: tuple[VmIdentity, ...]
    machine: Machine
    make_sample: Callable[..., Sample]
    process: Callable[[str, str], VmmProcess]
    with_gaps: Callable[[Sample, Sequence[Gap]], Sample]
    vm: type[VmSpec]
    vcpu: type[VcpuSpec]


@pytest.fixture
def crafted() -> Crafted:
    return Crafted(
        before=make_sample(BEFORE),
        middle=make_sample(BEFORE, at_s=1),
        after=make_sample(AFTER, at_s=2, gaps=GAPS),
        identities=identities(AFTER),
        machine=MACHINE,
        make_sample=make_sample,
        with_gaps=lambda sample, gaps: replace(sample, gaps=tuple(gaps)),
        process=lambda name, uuid: VmmProcess(1, "qemu", name, uuid, None, "qemu-system-x86", (), 1),
        vm=VmSpec,
        vcpu=VcpuSpec,
    )


@pytest.fixture
def grown() -> Callable[..., list[Sample]]:
    """Samples a second apart of two VMs: by one the counts that are given for each second, by the other little."""

    def make(*of_old_nic: Mapping[str, int]) -> list[Sample]:
        old = dict.fromkeys(_QUIET, 0) | {"exits": 10}
        samples = []
        for second, moved in enumerate(({}, *of_old_nic)):
            old = {name: count + moved.get(name, 0) for name, count in old.items()}
            quiet = {name: second * count for name, count in _QUIET.items()}
            vms = [
                VmSpec("old-nic", [VcpuSpec(0, {**old, "exits": old["exits"] + 9}), VcpuSpec(1, {"exits": 9})]),
                VmSpec("\x1b[31mdb", [VcpuSpec(0, {**quiet, "exits": quiet["exits"] + 19})]),
            ]
            samples.append(make_sample(vms, at_s=second))
        return samples

    return make


_QUIET = {"exits": 300, "mmio_exits": 3, "fpu_reload": 3, "halt_exits": 10}
