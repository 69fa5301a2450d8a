"""What judging a window of a large host costs: 1,280 VMs with 8 vCPUs each, by every rule and metric of the catalogue.

CPU time of the process from two samples to the findings, all that `doctor` does in a window besides reading and looking
up processes: aligning the samples, the facts that no statistic tells, each rule for each VM, the evidence. The values
are invented (lab.behaviours) and differ from window to window; they stand in records as the iterator leaves them, of
this kernel's schemas. One VM in eight has something wrong with it, most of those several things; in the last row every
VM has.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, pairwise
from statistics import median
from typing import Final

import numpy as np

from bench.result import Row
from bench.timing import duration
from kvmscope.analysis.window import BoolArray, Window
from kvmscope.codec.records import VcpuRecords, VmRecords
from kvmscope.codec.snapshot import (
    HAS_APIC,
    HAS_CREATED,
    VCPU_HEAD_SIZE,
    VM_HEAD_SIZE,
    Feature,
    SnapshotFlag,
    SnapshotHeader,
)
from kvmscope.formula.tree import HOST, Level
from kvmscope.host.machine import read_machine
from kvmscope.host.process import VmmProcess
from kvmscope.lab.simulate_plan import VmPlan, plan
from kvmscope.lab.simulated_kvm import SimulatedKvm
from kvmscope.sample import Sample, U64Array
from kvmscope.scene import Scene, VmIdentity
from kvmscope.schema import Schema, Scope
from kvmscope.sources.bpf.arena import Run
from kvmscope.sources.bpf.samples import Samples
from kvmscope.sources.bpf.source import read_reasons
from kvmscope.sources.kvm_schema import read_kvm_schemas
from kvmscope.view.judging import Examiner, judge_scene

VMS, VCPUS_EACH = 1_280, 8
WINDOWS, WARM_UP = 15, 3
ONE_IN = 8
_LIMIT_NS: Final = 50e6
_VERDICT_NS: Final = 15e6
_STARTED_NS: Final = 1_700_000_000_000_000_000
_HEALTHY: Final = ("web", "idle", "spin")

Judge = Callable[[Examiner, Scene, Sample], int]
"""Given the sample before that of the scene, it judges the window and returns how many findings there are."""


def bench() -> Sequence[Row]:
    examiner = Examiner()
    rules, metrics = f"{len(examiner.rules)} rules", f"{len(examiner.metrics)} metrics"
    usual = LargeHost(ONE_IN)
    return [
        _row(f"a window by {rules} (`doctor`)", usual, _by_rules),
        _row(f"the same with {metrics}, each of all its subjects", usual, _by_metrics_too),
        _row("the same with those of vCPUs also summed for each VM and for the host", usual, _summed, has_limit=False),
        _verdict_row(usual),
        _row(f"a window by {rules} if every VM is in trouble", LargeHost(1), _by_rules, has_limit=False),
    ]


def _verdict_row(host: LargeHost) -> Row:
    """Alone, this includes copying columns out of the records, which in a whole look the rules have done before."""
    taken = []
    for previous, current in pairwise(host.samples(WARM_UP + WINDOWS + 1)):
        scene, window = Scene(current, host.identities, read_machine(), {}), Window(previous, current)
        gc.collect()
        began = time.process_time_ns()
        judge_scene(scene, window)
        taken.append(time.process_time_ns() - began)
    ns = median(taken[WARM_UP:])
    measured = f"{duration(ns)} of CPU time (fastest {duration(min(taken))})"
    return Row("the verdicts alone (`apicv`)", measured, f"≤ {duration(_VERDICT_NS)}", ns <= _VERDICT_NS)


def _row(what: str, host: LargeHost, judge: Judge, *, has_limit: bool = True) -> Row:
    examiner, taken, findings = Examiner(), [], 0
    for previous, current in pairwise(host.samples(WARM_UP + WINDOWS + 1)):
        scene = Scene(current, host.identities, read_machine(), {})
        gc.collect()
        began = time.process_time_ns()
        findings = judge(examiner, scene, previous)
        taken.append(time.process_time_ns() - began)
    ns, fastest = median(taken[WARM_UP:]), min(taken)
    measured = f"{duration(ns)} of CPU time (fastest {duration(fastest)}); {findings:,} findings"
    return Row(what, measured, f"≤ {duration(_LIMIT_NS)}", ns <= _LIMIT_NS) if has_limit else Row(what, measured)


def _by_rules(examiner: Examiner, scene: Scene, previous: Sample) -> int:
    return len(examiner.update(scene, Window(previous, scene.sample)).findings)


def _by_metrics_too(examiner: Examiner, scene: Scene, previous: Sample, *, is_summed: bool = False) -> int:
    window = Window(previous, scene.sample)
    evaluator = examiner.evaluator(scene, window)
    for name, metric in examiner.metrics.items():
        levels: tuple[Level, ...] = (metric.scope, Scope.VM, HOST) if is_summed else (metric.scope,)
        for level in dict.fromkeys(levels):
            evaluator.of(name, level)
    return len(examiner.update(scene, window, evaluator).findings)


_FEATURES = Feature.APICV | Feature.SYNIC | Feature.SEV | Feature.HLT_EXITS | Feature.HALT_POLL_CAP_SET

_summed = partial(_by_metrics_too, is_summed=True)


class LargeHost:
    """Samples of a host of which one VM in so many is in trouble, as source bpf would make them."""

    def __init__(self, one_in: int, *, vms: int = VMS, vcpus_each: int = VCPUS_EACH) -> None:
        self._counts = vms, vms * vcpus_each
        is_troubled = np.arange(vms) % one_in == 0
        plans = _population(one_in, vms, vcpus_each)
        self._values = SimulatedKvm(plans, 0)
        self._kvm = read_kvm_schemas()
        self._samples = Samples("bpf", self._kvm, read_reasons(), _FEATURES)
        self._vm_heads = _vm_heads(plans, self._schema(Scope.VM), is_troubled)
        self._vcpu_heads = _vcpu_heads(plans, self._schema(Scope.VCPU), is_troubled)
        self.identities = tuple(_identity(row, vm) for row, vm in enumerate(plans))

    def samples(self, count: int) -> Iterator[Sample]:
        """One each second."""
        for second in range(count):
            after_ns = second * 1_000_000_000
            header = SnapshotHeader(SnapshotFlag(0), second, after_ns, 0, *self._counts, 0, Feature.APICV, 0)
            vms = self._records(self._vm_heads, Scope.VM, second)
            vcpus = self._records(self._vcpu_heads, Scope.VCPU, second)
            run = Run(
                header,
                VmRecords(vms, stat_size=self._kvm.vm.data_size),
                VcpuRecords(vcpus, stat_size=self._kvm.vcpu.data_size),
            )
            yield self._samples.make(_STARTED_NS + after_ns, run)

    def _schema(self, scope: Scope) -> Schema:
        return next(each for each in self._samples.schemas if (each.provider, each.scope) == ("apicv", scope))

    def _records(self, heads: U64Array, scope: Scope, second: int) -> U64Array:
        """Heads, and behind them the values of the stats that this kernel has."""
        schema = self._kvm.vm if scope is Scope.VM else self._kvm.vcpu
        values = self._values.words(scope, float(second))
        places = {stat.name: stat.offset // 8 for stat in self._values.stat_sets[scope].descriptors}
        stats = np.zeros((len(heads), schema.words), np.uint64)
        for stat in schema.descriptors:
            if (first := places.get(stat.name)) is not None:
                at = stat.offset // 8
                stats[:, at : at + stat.size] = values[:, first : first + stat.size]
        return np.concatenate([heads, stats], axis=1)


def _population(one_in: int, count: int, vcpus_each: int) -> list[VmPlan]:
    """VMs of every behaviour, and between them others with which nothing is wrong."""
    troubled = plan(vms=count, vcpus=vcpus_each, seed=0)
    healthy = cycle(vm for vm in plan(vms=count, vcpus=vcpus_each, seed=1) if vm.behaviour.name in _HEALTHY)
    return [troubled[row // one_in] if row % one_in == 0 else next(healthy) for row in range(count)]


def _vm_heads(vms: Sequence[VmPlan], schema: Schema, is_troubled: BoolArray) -> U64Array:
    """The start of ``struct vm_record``. APICv is off, but for VMs in trouble: half of those have it inhibited."""
    words = np.zeros((len(vms), VM_HEAD_SIZE // 8), np.uint64)
    identity, state = words[:, : -schema.words], words[:, -schema.words :]
    identity[:, 0] = np.random.default_rng(0).permutation(len(vms)) + 2**40
    identity[:, 1] = [_STARTED_NS - int(vm.age_s * 1e9) for vm in vms]
    identity[:, 2] = 10_000 + np.arange(len(vms))
    identity[:, 3] = vms[0].vcpus | HAS_CREATED << 32
    state[:, schema["irqchip_kernel"].offset // 8] = 1
    state[:, schema["apicv_inhibit_disabled"].offset // 8] = ~is_troubled
    state[:, schema["apicv_inhibit_pit_reinj"].offset // 8] = is_troubled & _is_inhibited(len(vms))
    return words


def _vcpu_heads(vms: Sequence[VmPlan], schema: Schema, is_troubled: BoolArray) -> U64Array:
    """The start of ``struct vcpu_record``."""
    vm, number = np.divmod(np.arange(len(vms) * vms[0].vcpus), vms[0].vcpus)
    words = np.zeros((len(vm), VCPU_HEAD_SIZE // 8), np.uint64)
    identity, state = words[:, : -schema.words], words[:, -schema.words :]
    identity[:, 0] = vm | number << 32
    identity[:, 1] = 100_000 + vm * vms[0].vcpus + number | HAS_APIC << 32
    state[:, schema["apic_enabled"].offset // 8] = 1
    state[:, schema["apicv_active"].offset // 8] = (is_troubled & ~_is_inhibited(len(vms)))[vm]
    return words


def _is_inhibited(count: int) -> BoolArray:
    return np.asarray(np.arange(count) // ONE_IN % 2 == 0)


def _identity(row: int, vm: VmPlan) -> VmIdentity:
    """A VM of QEMU; what its command line says is asked in each window."""
    argv = ("qemu-system-x86_64", "-name", f"guest={vm.name}", "-smp", str(vm.vcpus), "-overcommit", "mem-lock=off")
    return VmIdentity(vm.name, VmmProcess(10_000 + row, "qemu", vm.name, None, None, argv[0], argv, start_ticks=row))
