"""Raw values as the kernel has them: nothing is scaled, derived or left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np

from ..errors import UsageError
from ..host.text import printable
from ..sample import Block, Gap, Sample
from ..scene import Scene
from ..schema import Descriptor, Schema, Scope
from .subjects import Selection, find_stats, find_subject, match_subject, vcpu_rows
from .text import SIMULATED, cells, few, is_of_one_kernel_stat, unit_text
from .values import SceneAnswer, VcpuTitle, VmTitle, scene_head, vcpu_head, vm_head

RawValue: TypeAlias = int | bool | list[int]

_RAW = (
    "Each stat by name; a histogram is a list. Of two providers with a stat of one name, the second is PROVIDER:NAME."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VcpuReading(VcpuTitle):
    """The values of a vCPU."""

    stats: Annotated[Mapping[str, RawValue], _RAW]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmReading(VmTitle):
    """The values of a VM and of its vCPUs."""

    stats: Annotated[Mapping[str, RawValue], _RAW]
    vcpus: tuple[VcpuReading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingView(SceneAnswer):
    """Raw values, as the kernel has them."""

    vms: tuple[VmReading, ...]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class StatQuery:
    """The requested values; None means all."""

    subject: Selection | None = None
    provider: str | None = None
    names: frozenset[str] | None = None

    def has_stat(self, provider: str, name: str) -> bool:
        return self.provider in (None, provider) and (self.names is None or name in self.names)

    def has_vm(self, row: int) -> bool:
        return self.subject is None or self.subject.vm == row

    def has_vcpu(self, row: int) -> bool:
        return self.subject is None or self.subject.vcpu in (None, row)

    @property
    def has_vm_itself(self) -> bool:
        """Whether the VM's own values are included; false if only a vCPU was requested."""
        return self.subject is None or self.subject.vcpu is None


def stat_query(scene: Scene, vm: str | None, stats: Sequence[str], provider: str | None = None) -> StatQuery:
    """The query for these words. A first word that does not name a VM may be a stat.

    Raises UsageError for a word that names neither, and for a stat that the VM or vCPU lacks.
    """
    schemas = _schemas_of(scene, provider)
    unknown = (gap.stat for gap in scene.sample.gaps if gap.stat is not None and provider in (None, gap.provider))
    names = list(dict.fromkeys((*(name for schema in schemas for name in schema.names), *unknown)))
    subject = None
    if vm is not None:
        subject = match_subject(scene, vm)
        if subject is None and _may_be_a_stat(vm, names):
            stats = (vm, *stats)
        elif subject is None:
            _refuse_where_nothing_is_read(scene, vm, names)
            subject = find_subject(scene, vm)
    found = [find_stats(names, [word]) for word in stats]
    if subject is not None:
        for each in found:
            _refuse_what_is_elsewhere(scene, subject, each, provider)
    return StatQuery(subject, provider, frozenset().union(*found) if found else None)


def reading_view(scene: Scene, query: StatQuery) -> ReadingView:
    """The values that ``query`` selects."""
    tables = _Tables(scene, query)
    sample = scene.sample
    vms = []
    for row in filter(query.has_vm, range(len(sample.vms))):
        rows = sample.vcpus_of_vm[row]
        vcpus = tuple(
            VcpuReading(**vcpu_head(sample, vcpu), stats=tables.of_vcpu(vcpu))
            for vcpu in range(rows.start, rows.stop)
            if query.has_vcpu(vcpu)
        )
        vms.append(VmReading(**vm_head(scene, row), stats=tables.of_vm(row), vcpus=vcpus))
    return ReadingView(**scene_head(scene), vms=tuple(vms), gaps=sample.gaps)


def uncounted_names(sample: Sample) -> frozenset[str]:
    """Names of the kernel's stats that are not counted on this host; a second provider's do not replace them."""
    return frozenset(gap.stat for gap in sample.gaps if is_of_one_kernel_stat(gap) and gap.stat is not None)


def unknown_lines(scene: Scene, query: StatQuery) -> list[str]:
    """The reasons why stats that were requested by name are unknown on this host."""
    asked = query.names or frozenset()
    return [
        f"missing data: {gap.reason}" for gap in scene.sample.gaps if is_of_one_kernel_stat(gap) and gap.stat in asked
    ]


def reading_lines(scene: Scene, query: StatQuery) -> list[str]:
    """One line per value: its subject, stat, number and unit."""
    rows = list(_rows(scene, query))
    if not rows:
        return []
    subjects = max(cells(subject) for subject, _, _, _ in rows)
    stats = max(len(name) for _, name, _, _ in rows)
    scalars = max((len(_value_text(value)) for _, _, _, value in rows if not isinstance(value, list)), default=0)
    lines = [SIMULATED] if scene.sample.simulated else []
    for subject, name, stat, value in rows:
        blank = " " * (subjects - cells(subject))
        text = _value_text(value)
        line = f"{subject}{blank}  {name:<{stats}}  {text:>{scalars}}"
        unit = "" if stat.is_boolean or stat.is_histogram else unit_text(stat)
        lines.append(f"{line}  {unit}".rstrip())
    return lines


# --- values -----------------------------------------------------------------------------------------------------------


class _Tables:
    """The requested values, by subject and name."""

    def __init__(self, scene: Scene, query: StatQuery) -> None:
        self._query = query
        sample = scene.sample
        self._uncounted = uncounted_names(sample)
        self._vms: list[dict[str, RawValue]] = [{} for _ in range(len(sample.vms))]
        self._vcpus: list[dict[str, RawValue]] = [{} for _ in range(len(sample.vcpus))]
        for block in sample.blocks:
            into = self._vms if block.schema.scope is Scope.VM else self._vcpus
            self._add(block, into)

    def of_vm(self, row: int) -> dict[str, RawValue]:
        return self._vms[row] if self._query.has_vm_itself else {}

    def of_vcpu(self, row: int) -> dict[str, RawValue]:
        return self._vcpus[row]

    def _add(self, block: Block, into: list[dict[str, RawValue]]) -> None:
        provider = block.schema.provider
        stats = [stat for stat in block.schema.descriptors if self._query.has_stat(provider, stat.name)]
        for row, words in zip(block.rows.tolist(), block.values.tolist(), strict=True):
            values = into[row]
            for stat in stats:
                is_free = stat.name not in values and stat.name not in self._uncounted
                key = stat.name if is_free else f"{provider}:{stat.name}"
                values[key] = _value(stat, words)


def _rows(scene: Scene, query: StatQuery) -> Iterator[tuple[str, str, Descriptor, RawValue]]:
    """Every requested value with its subject and name: those of a VM, then those of its vCPUs, in the providers' order.
    A second provider's stat of the same name is prefixed by its provider, as in JSON."""
    sample = scene.sample
    places = {scope: _places(scene, scope) for scope in Scope}
    uncounted = uncounted_names(sample)
    for vm in filter(query.has_vm, range(len(sample.vms))):
        name = scene.title(vm)
        of_vm = [(name, Scope.VM, vm)] if query.has_vm_itself else []
        rows = sample.vcpus_of_vm[vm]
        of_vcpus = [
            (f"{name}/{sample.vcpus.id[vcpu]}", Scope.VCPU, vcpu)
            for vcpu in range(rows.start, rows.stop)
            if query.has_vcpu(vcpu)
        ]
        for subject, scope, row in itertools.chain(of_vm, of_vcpus):
            seen = set(uncounted)
            for block, place in places[scope].get(row, ()):
                words, provider = block.values[place].tolist(), block.schema.provider
                for stat in block.schema.descriptors:
                    if query.has_stat(provider, stat.name):
                        name = stat.name if stat.name not in seen else f"{provider}:{stat.name}"
                        seen.add(stat.name)
                        yield subject, name, stat, _value(stat, words)


def _places(scene: Scene, scope: Scope) -> dict[int, list[tuple[Block, int]]]:
    """The blocks and rows that hold the words of each subject."""
    found: dict[int, list[tuple[Block, int]]] = {}
    for block in scene.sample.blocks_of(scope):
        for place, row in enumerate(block.rows.tolist()):
            found.setdefault(row, []).append((block, place))
    return found


def _value(stat: Descriptor, words: list[int]) -> RawValue:
    first = stat.offset // 8
    if stat.size != 1:
        return words[first : first + stat.size]
    word = words[first] if stat.bit is None else words[first] >> stat.bit & 1
    return bool(word) if stat.is_boolean else word


def _value_text(value: RawValue) -> str:
    """``9×0 1 5 22×0`` for a list: a run of equal numbers is written once."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    runs = ((number, len(list(run))) for number, run in itertools.groupby(value))
    return " ".join(f"{length}×{number}" if length > 1 else str(number) for number, length in runs)


# --- words that select nothing ----------------------------------------------------------------------------------------


def _schemas_of(scene: Scene, provider: str | None) -> list[Schema]:
    schemas = [block.schema for block in scene.sample.blocks]
    providers = sorted({schema.provider for schema in schemas})
    if provider is not None and schemas and provider not in providers:
        raise UsageError(f"there is no provider '{printable(provider)}' here; there are {', '.join(providers)}")
    return [schema for schema in schemas if provider in (None, schema.provider)]


def _refuse_where_nothing_is_read(scene: Scene, word: str, names: Sequence[str]) -> None:
    """Raise UsageError with the reason if no stat of any VM could be read: the word may be a stat that they have."""
    if not names and len(scene.sample.vms) and scene.sample.gaps:
        reason = scene.sample.gaps[0].reason
        raise UsageError(f"there is no VM '{printable(word)}', and no stat of a VM could be read: {reason}")


def _may_be_a_stat(word: str, names: Sequence[str]) -> bool:
    try:
        find_stats(names, [word])
    except UsageError:
        return False
    return True


def _refuse_what_is_elsewhere(scene: Scene, subject: Selection, names: frozenset[str], provider: str | None) -> None:
    """Raise UsageError if the VM or vCPU has none of these stats, unless they could not be read."""
    if names & uncounted_names(scene.sample):
        return
    query = StatQuery(subject, provider, names)
    blocks = [block for block in scene.sample.blocks if _has_any(block.schema, query)]
    word, title = few(sorted(names)), scene.title(subject.vm)
    if subject.vcpu is not None and all(block.schema.scope is Scope.VM for block in blocks):
        raise UsageError(f"{word}: a statistic of VMs, not of vCPUs; try: kvmscope read {title} {word}")
    rows = {Scope.VM: [subject.vm], Scope.VCPU: vcpu_rows(scene.sample, subject)}
    if any(np.isin(block.rows, rows[block.schema.scope]).any() for block in blocks):
        return
    vm, providers = scene.sample.vms.vm_id(subject.vm), {block.schema.provider for block in blocks}
    if not any(gap.vm in (vm, None) and gap.provider in providers for gap in scene.sample.gaps):
        owners = dict.fromkeys(owner for block in blocks for owner in _owners(scene, block))
        raise UsageError(f"{title} has no statistic {word}; VMs that have it: {few(list(owners)) or 'none'}")


def _has_any(schema: Schema, query: StatQuery) -> bool:
    return any(query.has_stat(schema.provider, name) for name in schema.names)


def _owners(scene: Scene, block: Block) -> Iterator[str]:
    """The VMs that a block belongs to."""
    vm_of = scene.sample.vcpus.vm
    for row in block.rows.tolist():
        yield scene.title(row if block.schema.scope is Scope.VM else int(vm_of[row]))
