"""``kvmscope attach``: pin the iterator for a group of users who read without root."""

from __future__ import annotations

import click

from .echo import echo_lines
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
@click.option("--mode", callback=parse_mode, metavar="MODE", help="Of the pinned files, as for chmod.  [default: 0440]")
@number_option("--vms", 1, _MOST, help="Room for so many VMs.  [default: 1024]")
@number_option("--vcpus", 1, _MOST, help="Room for so many vCPUs.  [default: 8192]")
@number_option("--slots", 1, 4, help="Readers at the same moment, besides root.  [default: 2]")
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
    echo_lines(attach_for(readers, mode, groups=counted, vms=vms, vcpus=vcpus, slots=slots))


def attach_for(
    readers: str | None,
    mode: int | None,
    *,
    groups: tuple[str, ...],
    vms: int | None = None,
    vcpus: int | None = None,
    slots: int | None = None,
) -> list[str]:
    """Attach for a group of users, or change what is attached; gives what to say of it."""
    from ..linux.usergroups import find_group, group_of
    from ..sources.bpf import attach
    from ..view.attached import attached_lines

    before = attach.access()
    entry = group_of(before[0]) if readers is None and before else find_group(readers)
    done = attach.attach(gid=entry.gr_gid, mode=mode, groups=groups, vms=vms, vcpus=vcpus, slots=slots)
    mode = mode or (before[1] if before else attach.DEFAULT_MODE)
    return attached_lines(
        str(done.directory), entry, mode, groups=done.groups, memory_bytes=done.memory_bytes, is_new=not done.kept
    )
