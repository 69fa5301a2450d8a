"""``kvmscope list``: the stats that there are, or the VMs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from .options import json_option, source_option
from .session import open_host

if TYPE_CHECKING:
    from ..catalog.stats import StatEntry
    from ..scene import Scene
    from ..schema import Schema


@click.command("list", short_help="The stats that there are, or the VMs.")
@click.option("--vms", "wants_vms", is_flag=True, help="List the VMs instead of the stats.")
@source_option
@json_option
def command(*, wants_vms: bool, source: str, as_json: bool) -> None:
    """List the stats that this host has, as they describe themselves, or its VMs."""
    from ..view.text import note_lines
    from .echo import echo_lines, echo_notes

    with open_host(source) as host:
        # A source that opens files one by one knows their schemas only once it has read.
        scene = host.look()
        schemas = host.schemas
    if as_json:
        from ..view.jsonout import dump

        click.echo(dump(vms_json(scene) if wants_vms else stats_json(scene, schemas)))
        return
    if wants_vms:
        echo_lines(vm_lines(scene))
        echo_notes(note_lines(scene.sample.source, scene.why_not, scene.sample.gaps))
    else:
        echo_lines(stat_lines(scene, schemas))


def stats_json(scene: Scene, schemas: Iterable[Schema]) -> dict[str, Any]:
    """Every stat with its descriptor, and what the catalogue says of it."""
    from ..view import jsonout

    return {
        **jsonout.head(scene),
        "stats": [
            {
                "provider": schema.provider,
                "scope": schema.scope.value,
                **jsonout.descriptor(stat),
                "tier": entry.tier.value if entry else None,
                "meaning": entry.meaning if entry else None,
            }
            for schema in schemas
            for stat in schema.descriptors
            for entry in (_entry(schema, stat.name),)
        ],
    }


def vms_json(scene: Scene) -> dict[str, Any]:
    """Every VM and the ids of its vCPUs."""
    from ..view import jsonout

    sample = scene.sample
    return {
        **jsonout.head(scene),
        "vms": [
            {
                **jsonout.vm(scene, row),
                "vcpus": [jsonout.vcpu(sample, vcpu) for vcpu in range(rows.start, rows.stop)],
            }
            for row, rows in enumerate(sample.vcpus_of_vm)
        ],
        "gaps": jsonout.gaps(sample.gaps),
    }


def stat_lines(scene: Scene, schemas: Iterable[Schema]) -> list[str]:
    """A line a stat, in the order in which the providers tell them."""
    from ..view.text import SIMULATED, columns, kind_text, unit_text

    stats = [
        (
            schema.provider,
            schema.scope.value,
            stat.name,
            kind_text(stat),
            unit_text(stat),
            entry.tier.value if entry else "uncatalogued",
        )
        for schema in schemas
        for stat in schema.descriptors
        for entry in (_entry(schema, stat.name),)
    ]
    if not stats:
        return ["no stat is described here while nothing publishes any"]
    heading = [SIMULATED] if scene.sample.simulated else []
    return heading + columns([("PROVIDER", "SCOPE", "STAT", "KIND", "UNIT", "TIER"), *dict.fromkeys(stats)])


def _entry(schema: Schema, name: str) -> StatEntry | None:
    """What the catalogue says of a stat; None if it has no entry."""
    from ..catalog.stats import load_stats

    return load_stats().find(schema.provider, schema.scope, name)


def vm_lines(scene: Scene) -> list[str]:
    """A line a VM, in order of creation."""
    from ..host.text import printable
    from ..units import NOT_KNOWN_SIGN
    from ..view.jsonout import rfc3339
    from ..view.text import SIMULATED, columns, no_vm_line

    sample = scene.sample
    if not len(sample.vms):
        return [no_vm_line(sample.source, sample.gaps)]
    rows = []
    for row, vcpus in enumerate(sample.vcpus_of_vm):
        created_ns = int(sample.vms.created_ns[row])
        created = rfc3339(created_ns)[:19] + "Z" if created_ns >= 0 else NOT_KNOWN_SIGN
        vmm = printable(scene.vmm(row) or NOT_KNOWN_SIGN, max_length=20)
        pid = scene.pid(row)
        pid_text = NOT_KNOWN_SIGN if pid is None else str(pid)
        count = str(vcpus.stop - vcpus.start)
        rows.append((scene.title(row), str(sample.vms.vm_id(row)), vmm, pid_text, count, created))
    heading = [SIMULATED] if sample.simulated else []
    return heading + columns([("VM", "ID", "VMM", "PID", "vCPUs", "CREATED"), *rows], right=(3, 4))
