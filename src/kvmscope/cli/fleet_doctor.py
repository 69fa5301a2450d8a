"""``kvmscope fleet doctor``: the findings of a fleet, the number of hosts with each, and the total cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..console.progress import progress
from ..terminal.echo import echo_answer, page_width
from .fleet_options import fleet_options, paths_argument

if TYPE_CHECKING:
    from ..engines.fleet import FleetStore


@click.command("doctor", short_help="What is wrong, on how many hosts, and what it costs in all.")
@paths_argument
@click.option("--of", "subject", metavar="RULE|HOST", help="Show every finding of this rule or of this host.")
@fleet_options
def doctor(*, store: FleetStore, subject: str | None, as_json: bool) -> None:
    """Show what the rules of `kvmscope doctor` find in all hosts: the number of VMs and the cost
    of each, the worst first.

    \b
    kvmscope fleet doctor /var/lib/kvmscope
    kvmscope fleet doctor /var/lib/kvmscope --of poll-waste
    kvmscope fleet doctor /var/lib/kvmscope --of node-0007
    """
    from ..view.fleet.doctor import fleet_doctor_view
    from ..view.fleet.text import fleet_doctor_lines

    with progress("asking"):
        view = fleet_doctor_view(store, subject=subject)
    echo_answer(view, fleet_doctor_lines(view, width=page_width()), as_json=as_json)
