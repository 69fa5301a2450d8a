"""``kvmscope fleet status``: hosts, the costliest findings first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..console.progress import progress
from ..terminal.echo import echo_answer, page_width
from .fleet_options import fleet_options, paths_argument

if TYPE_CHECKING:
    from ..engines.fleet import FleetStore


@click.command("status", short_help="Hosts, the costliest findings first.")
@paths_argument
@click.option("--all", "shows_all", is_flag=True, help="Show every host with findings.")
@fleet_options
def status(*, store: FleetStore, shows_all: bool, as_json: bool) -> None:
    """Show the hosts of a fleet, those with the costliest findings first.

    \b
    kvmscope fleet status /var/lib/kvmscope
    """
    from ..view.fleet.status import fleet_status_view
    from ..view.fleet.text import fleet_status_lines

    with progress("asking"):
        view = fleet_status_view(store)
    echo_answer(view, fleet_status_lines(view, width=page_width(), shows_all=shows_all), as_json=as_json)
