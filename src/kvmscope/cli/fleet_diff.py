"""``kvmscope fleet diff``: the metrics of hosts by their kernel or another property, with changes larger than noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..console.progress import progress
from ..terminal.echo import echo_answer, page_width
from .fleet_options import fleet_options, paths_argument

if TYPE_CHECKING:
    from ..engines.fleet import FleetStore


@click.command("diff", short_help="Metrics by kernel or another property of hosts, beyond noise.")
@paths_argument
@click.option(
    "--by",
    default="kernel",
    show_default=True,
    metavar="PROPERTY",
    help="kernel, module, cpu, architecture, or a module's parameter such as kvm_amd.avic.",
)
@click.option(
    "--value",
    "values",
    multiple=True,
    metavar="VALUE",
    help="Value of a side; the first is the baseline. Give it several times.",
)
@click.option("--all", "shows_all", is_flag=True, help="Show every metric that changed.")
@fleet_options
def diff(*, store: FleetStore, by: str, values: tuple[str, ...], shows_all: bool, as_json: bool) -> None:
    """Compare the metrics of hosts that differ in their kernel, or in another property. Each host is one value, so a
    change has to be larger than the differences between similar hosts.

    \b
    kvmscope fleet diff /var/lib/kvmscope --by kernel --value 6.12.9 --value 6.18.4
    """
    from ..view.fleet.diff import fleet_diff_view
    from ..view.fleet.text import fleet_diff_lines

    with progress("asking"):
        view = fleet_diff_view(store, by=by, values=values)
    echo_answer(view, fleet_diff_lines(view, width=page_width(), shows_all=shows_all), as_json=as_json)
