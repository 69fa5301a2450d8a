"""``kvmscope attach``: pin the iterator for a group of users who read without root."""

from __future__ import annotations

import click

from ..terminal.echo import echo_lines
from .options import number_option, parse_mode

_MOST = 1 << 20


@click.command("attach", short_help="Let a group of users read without root.")
@click.option(
    "--readers",
    "--group",
    "readers",
    metavar="GROUP",
    help="The group of users who may read, by name or number.  [default: kvm if there is one]",
)
@click.option(
    "--mode",
    callback=parse_mode,
    metavar="MODE",
    help="Permissions of the pinned files, as for chmod.  [default: 0440]",
)
@number_option("--vms", 1, _MOST, help="Number of VMs to make room for.  [default: 1024]")
@number_option("--vcpus", 1, _MOST, help="Number of vCPUs to make room for.  [default: 8192]")
@number_option("--slots", 1, 4, help="Number of readers at the same time, besides root.  [default: 2]")
@click.option(
    "--count",
    "counted",
    multiple=True,
    metavar="GROUP",
    help="Also count this group of statistics from now on, such as exits; for several, give it several times.",
)
def command(
    *,
    readers: str | None,
    mode: int | None,
    vms: int | None,
    vcpus: int | None,
    slots: int | None,
    counted: tuple[str, ...],
) -> None:
    """Load the BPF iterator and pin it, for a group of users who then read without root. Needs root.

    It takes kernel memory until `kvmscope detach` or the next boot, and CPU time only while somebody reads. Opt-in
    counters (--count) cost time at each of their events. Running it again changes only the options that are given.
    """
    from ..tasks.attaching import attach_for

    echo_lines(attach_for(readers, mode, groups=counted, vms=vms, vcpus=vcpus, slots=slots))
