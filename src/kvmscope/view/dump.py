"""Scenes as rows for other programs: chosen stats as the kernel has them, chosen metrics, of each VM or each vCPU.

Rule: stats are raw, as ``reading`` has them; metrics are in base units; unknown values are None. A VM has its own
stats, and the counts of its vCPUs summed (``analysis.totals``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Annotated, TypeAlias

from ..analysis.difference_sides import only_vms
from ..analysis.evaluate import Evaluator
from ..analysis.totals import VmSum, VmTotals
from ..analysis.window import Window
from ..catalog.metrics import Metric, formulas, load_metrics
from ..errors import UsageError
from ..host.text import printable
from ..sample import Block, VmId
from ..scene import Scene
from ..schema import Descriptor, Scope
from .reading import uncounted_names
from .subjects import find_subject
from .values import Moment, vm_head

DumpedValue: TypeAlias = int | bool | Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpRow:
    """One VM or vCPU at one time: a line of ``dump --format jsonl``."""

    time: Annotated[Moment, "When the values were read."]
    host: Annotated[str | None, "Host name."]
    id: Annotated[VmId, "Identifies the VM as long as it lives."]
    name: Annotated[str, "Name of the VM. Untrusted text."]
    uuid: Annotated[str | None, "Its UUID, where its VMM was given one."]
    vcpu: Annotated[int | None, "Id of the vCPU; null for a VM."]
    stats: Annotated[Mapping[str, DumpedValue | None], "Raw values by name of the stat; a list for a histogram."]
    metrics: Annotated[Mapping[str, float | None], "Metrics over the interval that ends here, by name."]


@dataclass(frozen=True, slots=True)
class DumpChoice:
    """What to dump. ``stats``: patterns, empty for all. ``vm``: this VM alone, None for all."""

    stats: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    level: Scope = Scope.VCPU
    vm: str | None = None

    def wants(self, stat: Descriptor) -> bool:
        """Whether to dump a stat. If only metrics were chosen, no stat is dumped."""
        if not self.stats:
            return not self.metrics
        return any(fnmatchcase(stat.name, pattern) for pattern in self.stats)


@dataclass(frozen=True, slots=True)
class StatColumnKey:
    """A column of stats: its name in rows, and its number of words (u64 values)."""

    key: str
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class DumpedScene:
    """A scene of the chosen VMs. ``evaluator`` is for the interval that ends with it; None if there is no interval."""

    scene: Scene
    sums: tuple[VmSum, ...]
    choice: DumpChoice
    evaluator: Evaluator | None

    @property
    def columns(self) -> tuple[StatColumnKey, ...]:
        """The columns of stats in this scene."""
        return tuple(column for _, columns in self._tables() for column in columns)

    def metric_column(self, metric: Metric) -> Sequence[float | None] | None:
        """One metric of each subject; None if it does not exist at this level, or there is no interval."""
        level = self.choice.level
        if self.evaluator is None or (metric.scope is Scope.VM and level is Scope.VCPU):
            return None
        values = self.evaluator.of(metric.name, level).tolist()
        return [None if math.isnan(value) else value for value in values]

    def rows(self) -> Iterator[DumpRow]:
        """A row for each subject of the level, in the order of the sample."""
        sample, is_vcpu = self.scene.sample, self.choice.level is Scope.VCPU
        owners = sample.vcpus.vm.tolist() if is_vcpu else range(len(sample.vms))
        ids: Sequence[int | None] = sample.vcpus.id.tolist() if is_vcpu else [None] * len(sample.vms)
        heads = [vm_head(self.scene, vm) for vm in range(len(sample.vms))]
        stats = self._stats(len(ids))
        metrics = {metric.name: self.metric_column(metric) for metric in self.choice.metrics}
        for row, (vm, vcpu) in enumerate(zip(owners, ids, strict=True)):
            yield DumpRow(
                time=Moment(sample.taken_ns),
                host=self.scene.machine.hostname.value,
                id=heads[vm]["id"],
                name=heads[vm]["name"],
                uuid=heads[vm]["uuid"],
                vcpu=vcpu,
                stats=stats[row],
                metrics={name: None if column is None else column[row] for name, column in metrics.items()},
            )

    def _stats(self, count: int) -> list[dict[str, DumpedValue | None]]:
        tables = self._tables()
        keys = [column.key for _, columns in tables for column in columns]
        found: list[dict[str, DumpedValue | None]] = [dict.fromkeys(keys) for _ in range(count)]
        for block, columns in tables:
            for column in columns:
                words = block.column(column.descriptor.name).tolist()
                is_boolean = column.descriptor.is_boolean
                for row, word in zip(block.rows.tolist(), words, strict=True):
                    found[row][column.key] = bool(word) if is_boolean else word
        return found

    def _tables(self) -> list[tuple[Block, list[StatColumnKey]]]:
        """The blocks of the level with their wanted stats. If two stats have one name, the second is prefixed by its
        provider."""
        blocks = [(block, block.schema.descriptors) for block in self.scene.sample.blocks_of(self.choice.level)]
        if self.choice.level is Scope.VM:
            blocks += [(total.block, total.stats) for total in self.sums]
        owners = dict.fromkeys(uncounted_names(self.scene.sample), "kvm")
        tables = []
        for block, stats in blocks:
            provider = block.schema.provider
            wanted = filter(self.choice.wants, stats)
            columns = [
                StatColumnKey(
                    stat.name if owners.setdefault(stat.name, provider) == provider else f"{provider}:{stat.name}", stat
                )
                for stat in wanted
            ]
            tables.append((block, columns))
        return tables


class DumpReader:
    """Dumps scenes, which are passed to it in order of time."""

    def __init__(self, choice: DumpChoice) -> None:
        self._choice = choice
        self._formulas = formulas(load_metrics()) if choice.metrics else {}
        self._totals = VmTotals()
        self._last: Scene | None = None
        self._vm: VmId | None = None

    def read(self, scene: Scene, *, is_first: bool) -> DumpedScene:
        """The dump of a scene. ``is_first``: there is no interval before it. Raises UsageError if the chosen VM never
        existed, or if the very first scene has VMs but none of the chosen stats.
        """
        scene = self._of_chosen(scene)
        if is_first:
            self._totals = VmTotals()
        sums = self._totals.update(scene.sample) if self._choice.level is Scope.VM else ()
        evaluator = None
        if self._formulas and not is_first and self._last is not None:
            evaluator = Evaluator(Window(self._last, scene), self._formulas)
        dumped = DumpedScene(scene, sums, self._choice, evaluator)
        if self._last is None and self._choice.stats and len(scene.sample.vms) and not dumped.columns:
            raise UsageError(f"there is no stat {', '.join(self._choice.stats)} of a {self._choice.level.value} here")
        self._last = scene
        return dumped

    def _of_chosen(self, scene: Scene) -> Scene:
        if self._choice.vm is None:
            return scene
        rows = self._rows(scene, self._choice.vm)
        identities = tuple(scene.identities[row] for row in rows)
        return replace(scene, sample=only_vms(scene.sample, rows), identities=identities)

    def _rows(self, scene: Scene, vm: str) -> list[int]:
        """The VM's row. The typed text finds the VM once, then its id does; after a reboot, the typed text again."""
        if self._vm is not None:
            found = [row for row, other in enumerate(scene.sample.vms.id.tolist()) if other == self._vm.value]
            if found:
                return found
        try:
            row = find_subject(scene, vm).vm
        except UsageError:
            if self._vm is None:
                raise
            return []
        self._vm = scene.sample.vms.vm_id(row)
        return [row]


def metrics_called(patterns: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics whose names match. Raises UsageError for a pattern that matches none."""
    found: dict[str, Metric] = {}
    for pattern in patterns:
        fitting = {metric.name: metric for metric in load_metrics() if fnmatchcase(metric.name, pattern)}
        if not fitting:
            raise UsageError(f"there is no metric '{printable(pattern)}'; docs/reference/metrics.md lists them")
        found |= fitting
    return tuple(found.values())
