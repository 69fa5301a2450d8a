"""Every metric and rule of the catalogue has the values of numpy, by one query for hosts of many kernels at once.

Each host has the stats of one known kernel, some with the opt-in counters of a vendor; all are in one store, a
Prometheus or a VictoriaMetrics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from random import Random
from typing import Final

import numpy as np
import pytest
from loads import machine
from prometheus_server import (
    NO_LOOK_BACK,
    exported_samples,
    open_metrics_of,
    prometheus_over,
    victoria_metrics_over,
)

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.observations import observe
from kvmscope.analysis.window import Window
from kvmscope.catalog.exit_reasons import ReasonTable, reasons
from kvmscope.catalog.findings import Rule, load_findings
from kvmscope.catalog.kernels import find_kernel
from kvmscope.catalog.metrics import formulas, load_metrics
from kvmscope.catalog.stats import load_stats
from kvmscope.engines.prometheus.client import PrometheusStore, StoreAccess
from kvmscope.engines.prometheus.columns import CountSource
from kvmscope.engines.prometheus.kinds import fleet_query
from kvmscope.engines.prometheus.leaves import Leaves
from kvmscope.engines.prometheus.printer import print_holds, print_promql
from kvmscope.engines.refusal import EngineRefusal
from kvmscope.export.stats import Detail
from kvmscope.formula.check import Formula
from kvmscope.host.apicv import HostApicv
from kvmscope.sample import NOT_KNOWN, U64Array, VmId
from kvmscope.scene import Scene, VmIdentity
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Unit
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

NOON_S: Final = 1_700_000_000
STEP_S: Final = 16
MOMENTS: Final = 4
UNKNOWN: Final = HostApicv.unknown("not looked at")
LEAVES: Final = Leaves(f"{STEP_S}s")
METRICS: Final = formulas(load_metrics())
GROUPS: Final = ("userspace", "accesses", "wakeups", "mmu_lock", "dirty", "sched", "cgroup", "pressure", "settings")
OF_TEMPLATES: Final = {
    ("userspace", Scope.VCPU): ("userspace_exit_fail_entry", "userspace_exit_internal_error"),
    ("accesses", Scope.VCPU): ("port_pm_timer", "port_pm_timer_old", "port_rtc", "msr_hv_clock"),
}
"""Stats whose entry in the catalogue is of many names, of those that metrics read."""
HOSTS: Final[Mapping[str, tuple[str, ReasonTable | None]]] = {
    "x86-5.15": ("x86-5.15", None),
    "x86-6.18": ("x86-6.18", None),
    "intel": ("x86-6.18", ReasonTable.VMX),
    "amd": ("x86-7.3", ReasonTable.SVM),
    "arm64-6.1": ("arm64-6.1", None),
    "arm64-7.3": ("arm64-7.3", ReasonTable.ARM64),
    "s390-6.12": ("s390-6.12", None),
    "riscv-6.18": ("riscv-6.18", None),
    "powerpc-6.12": ("powerpc-6.12", None),
    "loongarch-7.3": ("loongarch-7.3", None),
    "mips-6.1": ("mips-6.1", None),
}
"""By host: its kernel, and the exit reasons that its opt-in counters have, None if they are off."""


def placed(provider: str, scope: Scope, stats: Sequence[Descriptor]) -> Schema:
    found, offset = [], 0
    for stat in stats:
        found.append(
            Descriptor(stat.name, stat.kind, stat.unit, stat.base, stat.exponent, stat.size, stat.bucket_size, offset)
        )
        offset += 8 * stat.size
    return Schema(provider, scope, tuple(found), offset)


def schemas_of(kernel: str, table: ReasonTable | None) -> list[Schema]:
    found = []
    for of_scope in find_kernel(kernel).tables:
        stats = [
            Descriptor(name, shape.kind, shape.unit, shape.base, shape.exponent, shape.size, shape.bucket_size)
            for name, shape in of_scope.stats.items()
        ]
        found.append(placed("kvm", of_scope.scope, stats))
    if table is not None:
        found += [placed(group, scope, stats) for group in GROUPS for scope in Scope if (stats := listed(group, scope))]
        names = [f"exit_{name}{end}" for name in reasons(table).values() for end in ("", "_ns")]
        exits = [stat for name in names if (stat := catalogued("exits", Scope.VCPU, name)) is not None]
        found.append(placed("exits", Scope.VCPU, exits))
    return found


def listed(provider: str, scope: Scope) -> list[Descriptor]:
    entries = (entry for entry in load_stats() if (entry.provider, entry.scope) == (provider, scope))
    names = [entry.name for entry in entries if entry.template is None and "resume" not in entry.name]
    names += OF_TEMPLATES.get((provider, scope), ())
    return [stat for name in names if (stat := catalogued(provider, scope, name)) is not None]


def catalogued(provider: str, scope: Scope, name: str) -> Descriptor | None:
    entry = load_stats().find(provider, scope, name)
    if entry is None:
        return None
    return Descriptor(name, entry.kind, entry.unit, exponent=entry.exponent, size=entry.size)


def scenes_of(host: str) -> list[Scene]:
    """Two VMs of two vCPUs whose counts grow at random, each stat at a pace of its own; now and then by nothing."""
    kernel, table = HOSTS[host]
    random = Random(host)
    schemas = schemas_of(kernel, table)
    words: dict[tuple[int, int | None, str, str], list[int]] = {}
    scenes = []
    for moment in range(MOMENTS):

        def stats(vm: int, vcpu: int | None) -> list[StatsOf]:
            scope = Scope.VM if vcpu is None else Scope.VCPU
            return [
                StatsOf(schema, moved(words, (vm, vcpu), schema, random))
                for schema in schemas
                if schema.scope is scope and schema.descriptors
            ]

        vms = [
            VmStats(
                VmId(vm + 1),
                stats(vm, None),
                [VcpuStats(n, stats(vm, n), NOT_KNOWN) for n in range(2)],
                7,
                1,
                f"vm-{vm}",
            )
            for vm in range(2)
        ]
        sample = assemble(
            vms,
            source="test",
            taken_ns=(NOON_S + moment * STEP_S) * 10**9,
            monotonic_ns=(1000 + moment * STEP_S) * 10**9,
        )
        scenes.append(Scene(sample, tuple(VmIdentity(f"vm-{vm}", None) for vm in range(2)), machine(hostname=host), {}))
    return scenes


def moved(
    words: dict[tuple[int, int | None, str, str], list[int]],
    subject: tuple[int, int | None],
    schema: Schema,
    random: Random,
) -> U64Array:
    block: list[int] = []
    for stat in schema.descriptors:
        key = (*subject, schema.provider, stat.name)
        now = words.setdefault(key, [random.randint(0, 9) for _ in range(stat.size)])
        pace = 10 ** random.randint(0, 4) * (10**6 if stat.unit is Unit.SECONDS and not stat.is_histogram else 1)
        for at in range(stat.size):
            if stat.unit is Unit.BOOLEAN:
                now[at] = random.randint(0, 1)
            elif stat.kind in (Kind.INSTANT, Kind.PEAK):
                now[at] = random.randint(0, 100_000)
            else:
                now[at] += random.choice((0, 1, 1, 1)) * random.randint(0, pace)
        block += now
    return np.array(block, dtype=np.uint64)


@pytest.fixture(scope="module")
def scenes() -> dict[str, list[Scene]]:
    return {host: scenes_of(host) for host in HOSTS}


@pytest.fixture(scope="module")
def exposition(scenes: dict[str, list[Scene]]) -> str:
    return open_metrics_of(
        chain.from_iterable(exported_samples(host, found, Detail.FULL) for host, found in scenes.items())
    )


@pytest.fixture(scope="module", params=["prometheus", "victoria-metrics"])
def store(
    exposition: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[PrometheusStore]:
    folder = tmp_path_factory.mktemp("store")
    if request.param == "prometheus":
        place = prometheus_over(exposition, folder, NO_LOOK_BACK)
    else:
        place = victoria_metrics_over(exposition, folder)
    with place as url:
        yield PrometheusStore(StoreAccess(url, timeout_s=120))


@pytest.fixture(scope="module")
def windows(scenes: dict[str, list[Scene]]) -> dict[str, list[Evaluator]]:
    return {
        host: [evaluator_of(Window(before, after)) for before, after in pairwise(found)]
        for host, found in scenes.items()
    }


def evaluator_of(window: Window) -> Evaluator:
    answers_at_once = [0.0] * len(window.current.vms)
    return Evaluator(window, METRICS, facts=observe(window, UNKNOWN, vmm_silent_s=answers_at_once))


ValueKey = tuple[str, str, int]
"""Host, VM, number of the moment."""


def answered(store: PrometheusStore, query: str) -> dict[ValueKey, float]:
    found: dict[ValueKey, float] = {}
    for moment in range(1, MOMENTS):
        for sample in store.query(query, at_s=NOON_S + STEP_S * moment).samples:
            key = sample.labels["instance"], sample.labels["vm"].partition("@")[0], moment
            assert key not in found
            found[key] = sample.value
    return found


def evaluated(windows: Mapping[str, Sequence[Evaluator]], formula: Formula) -> dict[ValueKey, float]:
    """What numpy knows."""
    return {
        (host, evaluator.window.current.vms.label[row], moment): value
        for host, of_host in windows.items()
        for moment, evaluator in enumerate(of_host, 1)
        for row, value in enumerate(evaluator.of(formula, Scope.VM).tolist())
        if not math.isnan(value)
    }


def differing(found: Mapping[ValueKey, float], wanted: Mapping[ValueKey, float]) -> list[object]:
    return [
        (key, wanted.get(key), found.get(key))
        for key in sorted(found.keys() | wanted.keys())
        if found.get(key, math.nan) != pytest.approx(wanted.get(key, math.nan), rel=1e-6, abs=1e-9)
    ]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_has_the_values_of_numpy_on_every_kernel(
    store: PrometheusStore, windows: dict[str, list[Evaluator]], name: str
) -> None:
    query = fleet_query(
        METRICS[name], Scope.VM, METRICS, lambda each: print_promql(each, LEAVES, CountSource.VM_SUMS), subject=name
    )
    assert not isinstance(query, EngineRefusal), str(query)
    wanted = evaluated(windows, METRICS[name])
    assert wanted or name == "accelerated_vcpus"  # which only source bpf has
    assert not differing(answered(store, query.text), wanted)


@pytest.mark.parametrize("rule", load_findings(), ids=lambda rule: str(rule.slug))
def test_a_condition_holds_where_numpy_says_so(
    store: PrometheusStore, windows: dict[str, list[Evaluator]], rule: Rule
) -> None:
    for condition in filter(None, (rule.activity, rule.when, rule.clears)):
        query = fleet_query(
            condition, Scope.VM, METRICS, lambda each: print_holds(each, LEAVES, CountSource.VM_SUMS), subject=rule.slug
        )
        if isinstance(query, EngineRefusal):
            assert "fact" in query.reason or "need different formulas" in query.reason
        else:
            wanted = {key for key, value in evaluated(windows, condition).items() if value == 1.0}
            assert answered(store, query.text).keys() == wanted
