"""Generated formulas have the values of numpy on a real Prometheus, those over buckets and cohorts among them.

The data have VMs that come and go, vCPUs that cannot be read, counts that were cleared, and stats that a host lacks.
``KVMSCOPE_FORMULAS`` is the number of generated formulas of each kind of series.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from random import Random
from typing import Final

import numpy as np
import pytest
from any_formula import FormulaMaker
from loads import machine
from prometheus_server import NO_LOOK_BACK, exported_samples, open_metrics_of, prometheus_over

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.window import Window
from kvmscope.engines.prometheus.client import PrometheusStore, StoreAccess
from kvmscope.engines.prometheus.columns import CountSource
from kvmscope.engines.prometheus.leaves import Leaves
from kvmscope.engines.prometheus.printer import print_promql
from kvmscope.engines.refusal import EngineRefusal
from kvmscope.formula.check import Formula
from kvmscope.formula.tree import HOST, Level
from kvmscope.sample import NOT_KNOWN, VmId
from kvmscope.scene import Scene, VmIdentity
from kvmscope.schema import Base, Descriptor, Kind, Schema, Scope, Unit
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

NOON_S: Final = 1_700_000_000
STEP_S: Final = 16
"""A power of two, so rates are floats without an error: conditions for equality would show its last digit."""
MOMENTS: Final = 6
FORMULAS: Final = int(os.environ.get("KVMSCOPE_FORMULAS", "30"))
LEVELS: Final[dict[Scope, tuple[Level, ...]]] = {
    Scope.VCPU: (Scope.VCPU, Scope.VM, HOST),
    Scope.VM: (Scope.VM, HOST),
}


def placed(provider: str, scope: Scope, *stats: Descriptor) -> Schema:
    found, offset = [], 0
    for stat in stats:
        found.append(replace(stat, offset=offset))
        offset += 8 * stat.size
    return Schema(provider, scope, tuple(found), offset)


SCHEMAS: Final = {
    Scope.VCPU: placed(
        "kvm",
        Scope.VCPU,
        Descriptor("exits", Kind.CUMULATIVE),
        Descriptor("halts", Kind.CUMULATIVE),
        Descriptor("poll_time", Kind.CUMULATIVE, Unit.SECONDS, Base.POW2, exponent=-10),
        Descriptor("depth", Kind.INSTANT),
        Descriptor("longest", Kind.PEAK),
        Descriptor("wait_hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=6),
        Descriptor("step_hist", Kind.LINEAR_HISTOGRAM, size=5, bucket_size=3),
    ),
    Scope.VM: placed(
        "kvm",
        Scope.VM,
        Descriptor("flushes", Kind.CUMULATIVE),
        Descriptor("pages", Kind.INSTANT, Unit.BYTES, Base.POW2, exponent=12),
        Descriptor("widest", Kind.PEAK),
    ),
}


class WanderingHost:
    """Counts that go up by a little, or by nothing; ``is_steady``: nobody comes, goes, is cleared or cannot be read."""

    def __init__(self, name: str, seed: int, *, is_steady: bool = False) -> None:
        self.name = name
        self._random = Random(seed)
        self._is_steady = is_steady
        self._words: dict[tuple[int, int | None], list[int]] = {}

    def scenes(self) -> list[Scene]:
        return [self._scene(number) for number in range(MOMENTS)]

    def _scene(self, number: int) -> Scene:
        for vm in range(4):
            for vcpu in (None, *range(vm)):
                self._move((vm, vcpu))
        vms = [vm for vm in range(4) if not self._happens(0.1)]
        sample = assemble(
            [self._vm(vm) for vm in vms],
            source="test",
            taken_ns=(NOON_S + number * STEP_S) * 10**9,
            monotonic_ns=(1000 + number * STEP_S) * 10**9,
        )
        return Scene(sample, tuple(VmIdentity(f"vm-{vm}", None) for vm in vms), machine(hostname=self.name), {})

    def _vm(self, vm: int) -> VmStats:
        vcpus = [VcpuStats(vcpu, self._stats((vm, vcpu)), NOT_KNOWN) for vcpu in range(vm)]
        return VmStats(VmId(vm + 1), self._stats((vm, None)), vcpus, NOT_KNOWN, NOT_KNOWN, f"vm-{vm}")

    def _stats(self, subject: tuple[int, int | None]) -> list[StatsOf]:
        if self._happens(0.1):
            return []
        schema = SCHEMAS[Scope.VM if subject[1] is None else Scope.VCPU]
        return [StatsOf(schema, np.array(self._words[subject], dtype=np.uint64))]

    def _move(self, subject: tuple[int, int | None]) -> None:
        schema = SCHEMAS[Scope.VM if subject[1] is None else Scope.VCPU]
        words = self._words.setdefault(subject, [self._random.randint(0, 9) for _ in range(schema.words)])
        is_cleared = self._happens(0.1)
        for stat in schema.descriptors:
            grows = self._random.random() < 0.8
            scale = 1024 if stat.name == "poll_time" else 1
            for at in range(stat.offset // 8, stat.offset // 8 + stat.size):
                if is_cleared:
                    words[at] = 0
                elif stat.kind in (Kind.INSTANT, Kind.PEAK):
                    words[at] = self._random.randint(0, 4)
                elif grows:
                    words[at] += self._random.randint(0, 5) * scale

    def _happens(self, share: float) -> bool:
        return not self._is_steady and self._random.random() < share


@pytest.fixture(scope="module")
def hosts() -> dict[str, list[Scene]]:
    return {
        "wild": WanderingHost("wild", 1).scenes(),
        "steady": WanderingHost("steady", 2, is_steady=True).scenes(),
    }


@pytest.fixture(scope="module")
def store(hosts: dict[str, Sequence[Scene]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusStore]:
    samples = chain.from_iterable(exported_samples(name, scenes) for name, scenes in hosts.items())
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus_over(open_metrics_of(samples), folder, NO_LOOK_BACK) as url:
        yield PrometheusStore(StoreAccess(url, timeout_s=120))


Key = tuple[int, int, tuple[str | None, str | None]]
"""Number of the formula, number of the moment, labels ``vm`` and ``vcpu``."""


def answers(store: PrometheusStore, number: int, query: str, instance: str) -> dict[Key, float]:
    """What a query comes to at every moment but the first."""
    found: dict[Key, float] = {}
    begin, end = NOON_S + STEP_S, NOON_S + STEP_S * (MOMENTS - 1)
    for sample in store.query_range(query, begin_s=begin, end_s=end, step_s=STEP_S).samples:
        if sample.labels.get("instance") == instance:
            moment = round((sample.time_s - NOON_S) / STEP_S)
            key = number, moment, (sample.labels.get("vm"), sample.labels.get("vcpu"))
            assert key not in found
            found[key] = sample.value
    return found


def expected(formula: Formula, level: Level, windows: Sequence[Evaluator], number: int) -> dict[Key, float]:
    """What numpy finds in every window."""
    found: dict[Key, float] = {}
    for moment, evaluator in enumerate(windows, 1):
        values = evaluator.of(formula, level).tolist()
        for labels, value in zip(labels_of(evaluator, level), values, strict=True):
            if not math.isnan(value):
                found[number, moment, labels] = value
    return found


def labels_of(evaluator: Evaluator, level: Level) -> list[tuple[str | None, str | None]]:
    """Labels ``vm`` and ``vcpu`` of the subjects of a level."""
    sample = evaluator.window.current
    if level is HOST:
        return [(None, None)]
    if level is Scope.VM:
        return [(name, None) for name in sample.vms.label]
    return [
        (sample.vms.label[vm], str(vcpu))
        for vm, vcpu in zip(sample.vcpus.vm.tolist(), sample.vcpus.id.tolist(), strict=True)
    ]


@pytest.mark.parametrize(("instance", "source"), [("wild", CountSource.VCPUS), ("steady", CountSource.VM_SUMS)])
def test_generated_formulas_have_the_values_of_numpy(
    store: PrometheusStore, hosts: dict[str, list[Scene]], instance: str, source: CountSource
) -> None:
    maker = FormulaMaker(Random(7), SCHEMAS)
    maker.metrics = {f"{scope.value}_m": maker.formula(scope, depth=1) for scope in Scope}
    found: dict[Key, float] = {}
    wanted: dict[Key, float] = {}
    texts: dict[int, str] = {}
    windows = [Evaluator(Window(before, after), maker.metrics) for before, after in pairwise(hosts[instance])]
    for number in range(FORMULAS):
        formula = maker.formula(maker.random.choice(list(Scope)))
        level = maker.random.choice(LEVELS[formula.scope])
        query = print_promql(windows[0].resolve(formula, level), Leaves(f"{STEP_S}s"), source)
        if not isinstance(query, EngineRefusal):
            texts[number] = f"{formula} at {level.value}: {query}"
            found |= answers(store, number, query, instance)
            wanted |= expected(formula, level, windows, number)
    wrong = {key[0] for key in wanted.keys() | found.keys() if not same(wanted.get(key), found.get(key))}
    assert not wrong, f"{len(wrong)} differ, such as {texts[min(wrong)]}"
    assert len(texts) > 0.8 * FORMULAS
    assert len(wanted) > FORMULAS


def same(a: float | None, b: float | None) -> bool:
    """Whether two values, or unknown, are one but for the error of floats."""
    return a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12))
