"""``kvmscope list``: lists the stats, or the VMs."""

from __future__ import annotations

import click

from ..terminal.echo import echo_answer, echo_notes
from .history import reading_options
from .session import begin_opening


@click.command("list", short_help="The stats of this host, or its VMs.")
@click.option("--vms", "lists_vms", is_flag=True, help="List the VMs instead of the stats.")
@reading_options
def command(*, lists_vms: bool, source: str, as_json: bool) -> None:
    """List the stats of this host, as their providers describe them, or its VMs."""
    opening = begin_opening(source)
    from ..view.listing import stat_list_lines, stat_list_view, vm_list_lines, vm_list_view
    from ..view.text import note_lines

    with opening() as host:
        # A source that opens files one by one knows their schemas only after a read.
        scene = host.look()
        schemas = host.schemas
    if lists_vms:
        vms = vm_list_view(scene)
        echo_answer(vms, vm_list_lines(vms), as_json=as_json)
        echo_notes([] if as_json else note_lines(scene.sample.source, scene.why_not, scene.sample.gaps))
    else:
        lines = stat_list_lines(schemas, is_simulated=scene.sample.simulated)
        echo_answer(stat_list_view(scene, schemas), lines, as_json=as_json)
