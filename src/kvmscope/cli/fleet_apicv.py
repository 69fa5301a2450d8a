"""``kvmscope fleet apicv``: the VMs of a fleet with accelerated interrupts, and the changes that would unblock most
other VMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..console.progress import progress
from ..terminal.echo import echo_answer, page_width
from .fleet_options import fleet_options, paths_argument

if TYPE_CHECKING:
    from ..engines.fleet import FleetStore


@click.command("apicv", short_help="Interrupts accelerated or blocked: by kernel, parameter, VMM and reason.")
@paths_argument
@fleet_options
def apicv(*, store: FleetStore, as_json: bool) -> None:
    """Show the number of VMs whose interrupts are accelerated (APICv, AVIC), by kernel, module parameter and VMM, what
    inhibits the others, and which change would help most VMs.

    \b
    kvmscope fleet apicv /var/lib/kvmscope
    """
    from ..view.fleet.apicv import fleet_apicv_view
    from ..view.fleet.text import fleet_apicv_lines

    with progress("asking"):
        view = fleet_apicv_view(store)
    echo_answer(view, fleet_apicv_lines(view, width=page_width()), as_json=as_json)
