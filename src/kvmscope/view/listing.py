"""The list of stats, and the list of VMs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from ..catalog.stats import StatEntry, load_stats
from ..host.text import printable
from ..sample import Gap
from ..scene import Scene
from ..schema import Descriptor, Schema, Scope, Tier
from ..units import NOT_KNOWN_SIGN, rfc3339
from .descriptor import StatDescriptor, descriptor_fields
from .text import SIMULATED, columns, kind_text, no_vm_line, unit_text
from .values import SceneAnswer, VcpuTitle, VmTitle, scene_head, vcpu_head, vm_head


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedStat(StatDescriptor):
    """A stat, and its entry in the catalogue."""

    provider: Annotated[str, "Provider of the stat."]
    scope: Scope
    tier: Annotated[Tier | None, "How stable it is: by the catalogue, else by its publisher; null if neither says."]
    meaning: Annotated[str | None, "What it counts: by the catalogue, else by its publisher (untrusted text); or null."]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatListView(SceneAnswer):
    """Every stat that this host has."""

    stats: tuple[ListedStat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedVm(VmTitle):
    """A VM and its vCPUs."""

    vcpus: tuple[VcpuTitle, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmListView(SceneAnswer):
    """Every VM."""

    vms: tuple[ListedVm, ...]
    gaps: tuple[Gap, ...]


def stat_list_view(scene: Scene, schemas: Iterable[Schema]) -> StatListView:
    """Every stat with its descriptor."""
    return StatListView(
        **scene_head(scene),
        stats=tuple(_listed(schema, stat) for schema in schemas for stat in schema.descriptors),
    )


def vm_list_view(scene: Scene) -> VmListView:
    """Every VM and its vCPUs."""
    sample = scene.sample
    vms = tuple(
        ListedVm(
            **vm_head(scene, row),
            vcpus=tuple(VcpuTitle(**vcpu_head(sample, vcpu)) for vcpu in range(rows.start, rows.stop)),
        )
        for row, rows in enumerate(sample.vcpus_of_vm)
    )
    return VmListView(**scene_head(scene), vms=vms, gaps=sample.gaps)


def _listed(schema: Schema, stat: Descriptor) -> ListedStat:
    entry, note = _entry(schema, stat.name), schema.note(stat.name)
    return ListedStat(
        **descriptor_fields(stat),
        provider=schema.provider,
        scope=schema.scope,
        tier=entry.tier if entry else note.tier,
        meaning=entry.meaning if entry else note.meaning or None,
    )


def _entry(schema: Schema, name: str) -> StatEntry | None:
    """The catalogue's entry for a stat; None if it has none."""
    return load_stats().find(schema.provider, schema.scope, name)


def stat_list_lines(schemas: Iterable[Schema], *, is_simulated: bool) -> list[str]:
    """One line per stat, in the providers' order."""
    stats = [
        (schema.provider, schema.scope.value, stat.name, kind_text(stat), unit_text(stat), _stability(schema, stat))
        for schema in schemas
        for stat in schema.descriptors
    ]
    if not stats:
        return ["no statistic is described here while nothing publishes any"]
    heading = [SIMULATED] if is_simulated else []
    return heading + columns([("PROVIDER", "SCOPE", "STAT", "KIND", "UNIT", "STABILITY"), *dict.fromkeys(stats)])


def _stability(schema: Schema, stat: Descriptor) -> str:
    entry = _entry(schema, stat.name)
    tier = entry.tier if entry else schema.note(stat.name).tier
    return tier.value if tier else "uncatalogued"


def vm_list_lines(view: VmListView) -> list[str]:
    """One line per VM, in order of creation."""
    if not view.vms:
        return [no_vm_line(view.source.name, view.gaps)]
    rows = [("VM", "ID", "VMM", "PID", "vCPUs", "CREATED", "KNOWN AS"), *map(_vm_row, view.vms)]
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    heading = [SIMULATED] if view.simulated else []
    return heading + columns(rows, right=(3, 4))


def _vm_row(vm: ListedVm) -> tuple[str, ...]:
    created = NOT_KNOWN_SIGN if vm.created is None else rfc3339(vm.created.ns, has_ms=False)
    vmm = printable(vm.vmm or NOT_KNOWN_SIGN, max_length=20)
    pid = NOT_KNOWN_SIGN if vm.pid is None else str(vm.pid)
    return printable(vm.name), str(vm.id), vmm, pid, str(len(vm.vcpus)), created, _known_as(vm)


def _known_as(vm: ListedVm) -> str:
    """What else distinguishes the VM from others: its managers' names, else its clue."""
    names = [f"{word} {name}" for word, name in vm.known_as.items() if name not in (vm.name, vm.uuid)]
    return printable(", ".join(names) or vm.clue or "", max_length=200)
