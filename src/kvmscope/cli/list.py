"""``kvmscope list``: the stats that there are, or the VMs."""

from __future__ import annotations

import click

from .echo import echo_lines, echo_notes
from .history import history_options
from .options import json_option, source_option
from .session import open_host


@click.command("list", short_help="The stats that there are, or the VMs.")
@click.option("--vms", "lists_vms", is_flag=True, help="List the VMs instead of the stats.")
@history_options
@source_option
@json_option
def command(*, lists_vms: bool, source: str, as_json: bool) -> None:
    """List the stats that this host has, as they describe themselves, or its VMs."""
    from ..view.jsonout import dump, to_value
    from ..view.listing import stat_list_lines, stat_list_view, vm_list_lines, vm_list_view
    from ..view.text import note_lines

    with open_host(source) as host:
        # A source that opens files one by one knows their schemas only once it has read.
        scene = host.look()
        schemas = host.schemas
    if as_json:
        click.echo(dump(to_value(vm_list_view(scene) if lists_vms else stat_list_view(scene, schemas))))
    elif lists_vms:
        echo_lines(vm_list_lines(vm_list_view(scene)))
        echo_notes(note_lines(scene.sample.source, scene.why_not, scene.sample.gaps))
    else:
        echo_lines(stat_list_lines(schemas, is_simulated=scene.sample.simulated))
