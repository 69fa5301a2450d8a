"""``kvmscope fleet schemas``: the schemas of statistics on the hosts of a fleet, and their differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..console.progress import progress
from ..terminal.echo import echo_answer, page_width
from .fleet_options import fleet_options, paths_argument

if TYPE_CHECKING:
    from ..engines.fleet import FleetStore


@click.command("schemas", short_help="Which schemas of statistics there are, and how they differ.")
@paths_argument
@fleet_options
def schemas(*, store: FleetStore, as_json: bool) -> None:
    """Show which schemas of statistics the hosts have, how many hosts each, and how they differ.

    \b
    kvmscope fleet schemas /var/lib/kvmscope
    """
    from ..view.fleet.schemas import fleet_schemas_view
    from ..view.fleet.text import fleet_schemas_lines

    with progress("asking"):
        view = fleet_schemas_view(store)
    echo_answer(view, fleet_schemas_lines(view, width=page_width()), as_json=as_json)
