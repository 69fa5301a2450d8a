"""The ``kvmscope`` command itself, with the list of its commands.

Commands are modules of this package. Each is imported when it is used, to keep ``--help`` quick. ``console.program``
handles errors.
"""

from __future__ import annotations

from collections.abc import Mapping

import click

from ..console.commands import CommandPlace
from ..console.program import CommandProgram

COMMANDS: Mapping[str, CommandPlace] = {
    "status": CommandPlace("status", "command", "The host in one screen: VMs, vCPUs and rates."),
    "top": CommandPlace("top", "command", "Live view of the host, with drill-down."),
    "read": CommandPlace("read", "command", "Raw values as the kernel has them."),
    "hist": CommandPlace("hist", "command", "A histogram with its buckets and quantiles."),
    "apicv": CommandPlace("apicv", "command", "Are interrupts accelerated, and if not, why?"),
    "doctor": CommandPlace("doctor", "command", "What is wrong, why it matters, and what to do."),
    "explain": CommandPlace("explain", "command", "What a stat, metric, rule or reason means here."),
    "list": CommandPlace("list", "command", "The stats of this host, or its VMs."),
    "record": CommandPlace("record", "command", "Record the host, to look back with the same commands."),
    "diff": CommandPlace("diff", "command", "What changed between two recordings or times, beyond noise."),
    "fleet": CommandPlace("fleet", "fleet", "Status, findings and comparisons of many hosts."),
    "serve": CommandPlace("serve", "command", "Metrics, API and page over HTTP."),
    "report": CommandPlace("report", "command", "A recording as one HTML file, as Markdown or as JSON."),
    "dump": CommandPlace("dump", "command", "Stats and metrics over time as CSV, JSON lines or OpenMetrics."),
    "sql": CommandPlace("sql", "command", "Query recordings, or a fleet in ClickHouse, by SQL."),
    "snapshot": CommandPlace("snapshot", "command", "One file with the present state, to attach to a bug report."),
    "replay": CommandPlace("replay", "command", "Step through a recording on the screen of status."),
    "episodes": CommandPlace("episodes", "command", "List the episodes: what was recorded around findings."),
    "check": CommandPlace("check", "command", "What can be read here, by which source, and why not the rest."),
    "schema": CommandPlace("schema", "schema", "Compare the stats of kernels."),
    "groups": CommandPlace("groups", "command", "Opt-in statistics, and what they cost."),
    "govern": CommandPlace("govern", "govern", "Adapt a setting of this host to measurements, and restore it."),
    "attach": CommandPlace("attach", "command", "Let a group of users read without root."),
    "detach": CommandPlace("detach", "command", "Unload what attach loaded."),
    "demo": CommandPlace("demo", "command", "Try kvmscope on a few short-lived guests."),
    "lab": CommandPlace("lab", "lab", "Small guests with known behaviour, to try kvmscope on."),
}
"""The commands in the order of ``--help``."""

_MOST_SHOWN = 400


def _printable(line: str) -> str:
    from ..host.text import printable  # its tables take a millisecond, and --help does not need them

    return printable(line, max_length=_MOST_SHOWN)


@click.command(
    "kvmscope",
    cls=CommandProgram,
    places=COMMANDS,
    package=__package__,
    default="status",
    printable=_printable,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="kvmscope", message="%(prog)s %(version)s")
def main() -> None:
    """See inside KVM: every statistic of every VM and vCPU on this host.

    Without a command, the status of the host.
    """
