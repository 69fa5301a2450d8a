"""Every stat of a scene as series: stats of VMs, stats of vCPUs summed per VM, and stats of single vCPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

import numpy as np

from ..analysis.totals import VmSum
from ..catalog.series_names import stat_family, sum_of
from ..catalog.stats import load_stats
from ..sample import Block, I64Array
from ..scene import Scene
from ..schema import Descriptor, Schema, Scope, Tier
from .budget import ClassedSeries, SeriesClass
from .labels import LabelSets
from .series import HistogramSeries, StatSeries
from .subjects import Subjects


class Detail(Enum):
    """The level of detail. VM: vCPUs only while a finding holds for their VM. FULL: histograms of vCPUs too."""

    VM = "vm"
    VCPU = "vcpu"
    FULL = "full"


_OF_TIER: Final = {
    Tier.ABI_LIKE: SeriesClass.IMPORTANT_STAT,
    Tier.STABLE: SeriesClass.STABLE_STAT,
    Tier.VOLATILE: SeriesClass.VOLATILE_STAT,
}


def stat_series(
    scene: Scene, subjects: Subjects, sums: Sequence[VmSum], detail: Detail, detailed: frozenset[int]
) -> Iterator[ClassedSeries]:
    """The series of all stats. ``sums``: those of the scene's sample. ``detailed``: rows of VMs whose vCPUs are always
    written."""
    sample = scene.sample
    for block in sample.blocks_of(Scope.VM):
        yield from _of_block(block, block.schema.descriptors, subjects.vms, Scope.VM)
    for total in sums:
        yield from _of_block(total.block, total.stats, subjects.vms, Scope.VM)
    if detail is Detail.VM and not detailed:
        return
    for block in sample.blocks_of(Scope.VCPU):
        chosen = block if detail is not Detail.VM else _of_vms(block, sample.vcpus.vm, detailed)
        stats = [stat for stat in block.schema.descriptors if detail is Detail.FULL or not stat.is_histogram]
        yield from _of_block(chosen, stats, subjects.vcpus, Scope.VCPU)


def _of_vms(block: Block, owners: I64Array, vms: frozenset[int]) -> Block:
    rows = np.flatnonzero(np.isin(owners[block.rows], list(vms)))
    return Block(block.schema, block.values[rows], block.rows[rows])


def _of_block(block: Block, stats: Sequence[Descriptor], subjects: LabelSets, level: Scope) -> Iterator[ClassedSeries]:
    schema = block.schema
    for stat in stats:
        if stat.is_histogram and stat.is_understood:
            of = SeriesClass.VCPU_HISTOGRAM if level is Scope.VCPU else SeriesClass.VM_HISTOGRAM
            yield ClassedSeries(_histogram(block, stat, subjects, level), of)
        elif stat.size == 1:
            family = stat_family(schema.provider, stat, schema.scope, level=level)
            words = block.single_words[stat.name]
            yield ClassedSeries(StatSeries(family, subjects, block.rows, stat, words), _class_of(schema, stat, level))


def _histogram(block: Block, stat: Descriptor, subjects: LabelSets, level: Scope) -> HistogramSeries:
    schema = block.schema
    family = stat_family(schema.provider, stat, schema.scope, level=level)
    summed = sum_of(stat.name, schema.names)
    sums = None if summed is None else block.single_words.get(summed)
    of_sums = None if summed is None or sums is None else schema[summed]
    return HistogramSeries(family, subjects, block.rows, stat, block.column(stat.name), sums, of_sums)


def _class_of(schema: Schema, stat: Descriptor, level: Scope) -> SeriesClass:
    if level is Scope.VCPU:
        return SeriesClass.VCPU_STAT
    entry = load_stats().find(schema.provider, schema.scope, stat.name)
    return SeriesClass.VOLATILE_STAT if entry is None else _OF_TIER[entry.tier]
