"""The values of each metric on the two sides of a diff: a series over time of all their VMs, and the mean of each VM.

Pure: scenes in, numbers for ``difference`` out.
Rule: like is compared with like. If each side is one span of one host and VMs are the same on both (``pair_vms``),
only these are compared, as if the host had no others, and the noise is that over time. Else every VM that lasted is one
value, its mean over time, and the noise is that between VMs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np

from ..catalog.metrics import Metric, formulas
from ..formula.resolved import ScopedStat, StatColumn, walk_resolved
from ..formula.tree import HOST
from ..sample import Block, I64Array, Sample, Vcpus, Vms
from ..scene import Scene
from ..schema import Scope
from .difference import MIN_VALUES, MeanEstimate, RatioEstimate, VmLoads, over_time, over_vms, ratio_of_pairs
from .evaluate import Evaluator
from .window import F64Array, Window

MOST_SCENES: Final = 129
"""The most scenes that are read of a span: 128 windows; a longer span has longer windows."""

_Key: TypeAlias = "int | str"


@dataclass(frozen=True, slots=True)
class VmPair:
    """The rows of one VM in a scene of each side."""

    a: int
    b: int


@dataclass(frozen=True, slots=True)
class SpanValues:
    """Every metric, by name, of some VMs in the windows of one span.

    ``lengths_s``: of the windows. ``together``: one value per window, summed over all VMs as for a host, NaN where it
    is not known or lacks vCPUs that other windows have. ``of_vms`` and ``variances``: mean and variance over time of
    each VM. ``vcpus``: the number of vCPUs of each VM. ``reads``: the stats from which each metric is computed on this
    kernel.
    """

    lengths_s: F64Array
    together: Mapping[str, F64Array]
    of_vms: Mapping[str, F64Array]
    variances: Mapping[str, F64Array]
    vcpus: F64Array
    reads: Mapping[str, frozenset[ScopedStat]]


def pair_vms(a: Scene, b: Scene) -> tuple[VmPair, ...]:
    """The VMs that are the same on both sides: by id if both scenes are of one boot, by UUID, else by name."""
    found: dict[int, int] = {}
    is_one_boot = a.origin is not None and a.origin == b.origin
    for keys in (_ids, _uuids, _names) if is_one_boot else (_uuids, _names):
        taken = set(found.values())
        there = {key: row for row, key in keys(b) if row not in taken}
        found |= {row: there[key] for row, key in keys(a) if row not in found and key in there}
    return tuple(VmPair(*rows) for rows in sorted(found.items()))


def lasting_vms(first: Scene, last: Scene) -> list[int]:
    """Rows in ``last`` of the VMs that are in ``first`` too."""
    before = set(first.sample.vms.id.tolist())
    return [row for row, vm in enumerate(last.sample.vms.id.tolist()) if vm in before]


def read_span(scenes: Iterable[Scene], vms: Sequence[int], metrics: Sequence[Metric]) -> SpanValues:
    """The values of these VMs (ids, in this order). A window in which one of them is missing is left out."""
    collector = _Collector(metrics)
    for previous, current in pairwise(_with_all(scenes, vms)):
        if previous is not None and current is not None:
            collector.add(Window(previous, current))
    return collector.values()


def estimate_together(values: SpanValues, metric: Metric) -> MeanEstimate | None:
    """The mean over time of all VMs together; None if it is never known."""
    return over_time(values.together[metric.name], values.lengths_s)


def estimate_pairs(a: SpanValues, b: SpanValues, metric: Metric) -> RatioEstimate | None:
    """The ratio of sums over the same VMs; None for a metric that does not add up, or if it cannot be known."""
    if not metric.unit.adds_up:
        return None
    return ratio_of_pairs(_loads(a, metric.name), _loads(b, metric.name))


def _loads(values: SpanValues, metric: str) -> VmLoads:
    together = values.together[metric]
    known = together[np.isfinite(together)]
    variance = float(known.var()) if len(known) >= MIN_VALUES else np.nan
    return VmLoads(values.of_vms[metric], values.variances[metric], variance)


def estimate_by_vm(spans: Sequence[SpanValues], metric: Metric) -> MeanEstimate | None:
    """The mean over VMs; for a metric that adds up, the mean per vCPU. None if it is not known of any VM."""
    of_spans = [values.of_vms[metric.name] for values in spans]
    if metric.scope is Scope.VCPU and metric.unit.adds_up:
        of_spans = [found / values.vcpus for found, values in zip(of_spans, spans, strict=True)]
    return over_vms(np.concatenate(of_spans))


def only_vms(sample: Sample, rows: Sequence[int]) -> Sample:
    """The sample with these VMs alone, in this order, and their vCPUs."""
    slices = [sample.vcpus_of_vm[row] for row in rows]
    of_vms = np.array(rows, dtype=np.int64)
    of_vcpus = np.array([row for part in slices for row in range(part.start, part.stop)], dtype=np.int64)
    owners = np.repeat(np.arange(len(slices), dtype=np.int64), [part.stop - part.start for part in slices])
    vms, vcpus = sample.vms, sample.vcpus
    labels = tuple(vms.label[row] for row in rows)
    of_scope = {Scope.VM: of_vms, Scope.VCPU: of_vcpus}
    return replace(
        sample,
        vms=Vms(vms.id[of_vms], vms.pid[of_vms], vms.created_ns[of_vms], labels),
        vcpus=Vcpus(owners, vcpus.id[of_vcpus], vcpus.tid[of_vcpus]),
        blocks=tuple(_only_rows(block, of_scope[block.schema.scope]) for block in sample.blocks),
    )


def _only_rows(block: Block, rows: I64Array) -> Block:
    place = {row: at for at, row in enumerate(block.rows.tolist())}
    kept = [(at, place[row]) for at, row in enumerate(rows.tolist()) if row in place]
    new, old = np.array(kept, dtype=np.int64).reshape(-1, 2).T
    return Block(block.schema, block.values[old], new)


def _with_all(scenes: Iterable[Scene], vms: Sequence[int]) -> Iterator[Sample | None]:
    """The samples with these VMs alone; None for a sample that lacks some of them."""
    for scene in scenes:
        there = {vm: row for row, vm in enumerate(scene.sample.vms.id.tolist())}
        is_complete = all(vm in there for vm in vms)
        yield only_vms(scene.sample, [there[vm] for vm in vms]) if is_complete else None


class _Collector:
    """Adds up consecutive windows of the same VMs."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._formulas = formulas(metrics)
        self._lengths_s: list[float] = []
        self._together: dict[str, list[tuple[float, int]]] = {name: [] for name in self._formulas}
        self._of_vms: dict[str, _RunningMeans] = {name: _RunningMeans() for name in self._formulas}
        self._reads: dict[str, frozenset[ScopedStat]] = dict.fromkeys(self._formulas, frozenset())
        self._vcpus = np.zeros(0)

    def add(self, window: Window) -> None:
        evaluator = Evaluator(window, self._formulas)
        self._lengths_s.append(window.interval_s)
        sample = window.current
        self._vcpus = np.bincount(sample.vcpus.vm, minlength=len(sample.vms)).astype(np.float64)
        for name in self._formulas:
            missing = int(evaluator.missing(name, HOST)[0])
            self._together[name].append((float(evaluator.of(name, HOST)[0]), missing))
            self._of_vms[name].add(evaluator.of(name, Scope.VM), window.interval_s)
            self._reads[name] |= _stats_of(evaluator, name)

    def values(self) -> SpanValues:
        return SpanValues(
            lengths_s=np.array(self._lengths_s),
            together={name: _of_least_missing(values) for name, values in self._together.items()},
            of_vms={name: means.means() for name, means in self._of_vms.items()},
            variances={name: means.variances() for name, means in self._of_vms.items()},
            vcpus=self._vcpus,
            reads=self._reads,
        )


class _RunningMeans:
    """Mean and variance over time of several values; unknown ones are skipped."""

    def __init__(self) -> None:
        self._count: F64Array = np.zeros(1)
        self._length_s: F64Array = np.zeros(1)
        self._sum: F64Array = np.zeros(1)
        self._mean: F64Array = np.zeros(1)
        self._squares: F64Array = np.zeros(1)

    def add(self, values: F64Array, length_s: float) -> None:
        known = np.isfinite(values)
        found = np.where(known, values, 0.0)
        self._count = self._count + known
        self._length_s = self._length_s + known * length_s
        self._sum = self._sum + found * length_s
        # Welford's algorithm: the difference of two large sums would lose all digits.
        off = np.where(known, values - self._mean, 0.0)
        self._mean = self._mean + off / np.maximum(self._count, 1.0)
        self._squares = self._squares + off * np.where(known, values - self._mean, 0.0)

    def means(self) -> F64Array:
        return _divided(self._sum, self._length_s)

    def variances(self) -> F64Array:
        return _divided(self._squares, self._count)


def _divided(above: F64Array, below: F64Array) -> F64Array:
    found: F64Array = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return found


def _of_least_missing(values: Sequence[tuple[float, int]]) -> F64Array:
    """The values of windows, NaN for those that lack more subjects than others: their sums cover fewer vCPUs."""
    least = min((missing for value, missing in values if np.isfinite(value)), default=0)
    return np.array([value if missing == least else np.nan for value, missing in values], dtype=np.float64)


def _stats_of(evaluator: Evaluator, metric: str) -> frozenset[ScopedStat]:
    nodes = walk_resolved(evaluator.resolve(metric, HOST).node)
    return frozenset(node.stat for node in nodes if isinstance(node, StatColumn))


def _ids(scene: Scene) -> list[tuple[int, _Key]]:
    return list(enumerate(scene.sample.vms.id.tolist()))


def _uuids(scene: Scene) -> list[tuple[int, _Key]]:
    processes = ((row, identity.process) for row, identity in enumerate(scene.identities))
    return [(row, process.uuid.lower()) for row, process in processes if process is not None and process.uuid]


def _names(scene: Scene) -> list[tuple[int, _Key]]:
    return [(row, identity.name) for row, identity in enumerate(scene.identities)]
