"""``kvmscope attach``: pin the iterator for a group of users who read without root."""

from __future__ import annotations

import difflib
import grp
import re
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .options import WholeNumber, shortened

if TYPE_CHECKING:
    from ..sources.bpf.attach import Attached

DEFAULT_MODE = 0o440
_DEFAULT_GROUP = "kvm"
_MOST = 1 << 20


def parse_mode(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """The number of a file mode such as 0440; for an option's ``callback``."""
    if value is None:
        return None
    if not re.fullmatch(r"0?[0-7]{3}", value):
        raise click.BadParameter(f"{shortened(value)} is not a mode such as 0440")
    return int(value, 8)


@click.command("attach", short_help="Let a group of users read without root.")
@click.option(
    "--readers",
    "--group",
    "readers",
    metavar="GROUP",
    help=f"The group of users who may read, by name or number.  [default: {_DEFAULT_GROUP} if there is one]",
)
@click.option(
    "--mode",
    callback=parse_mode,
    metavar="MODE",
    help=f"Of the pinned files, as for chmod.  [default: {DEFAULT_MODE:04o}]",
)
@click.option("--vms", type=WholeNumber(1, _MOST), metavar="N", help="Room for so many VMs.  [default: 1024]")
@click.option("--vcpus", type=WholeNumber(1, _MOST), metavar="N", help="Room for so many vCPUs.  [default: 8192]")
@click.option("--slots", type=WholeNumber(1, 4), metavar="N", help="Readers at the same moment.  [default: 2]")
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
    from ..sources.bpf import attach

    before = attach.access()
    entry = group_of(before[0]) if readers is None and before else find_group(readers)
    done = attach.attach(gid=entry.gr_gid, mode=mode, vms=vms, vcpus=vcpus, slots=slots, groups=counted)
    for line in lines(done, entry, mode or (before[1] if before else DEFAULT_MODE)):
        click.echo(line)


def lines(done: Attached, group: grp.struct_group, mode: int) -> list[str]:
    """What was attached, and who may read it."""
    from ..units import format_bytes
    from ..view.text import columns

    state = "already attached; access updated" if done.kept else "attached"
    return columns(
        [
            ("state", state),
            ("where", str(done.directory)),
            ("readers", _readers(group, mode)),
            *([("counting", ", ".join(done.groups))] if done.groups else []),
            ("memory", f"{format_bytes(done.memory_bytes)} of the kernel, until `kvmscope detach`"),
        ]
    )


def _readers(group: grp.struct_group, mode: int) -> str:
    from ..host.text import printable

    if mode & 0o004:
        return "every user"
    if not mode & 0o040 or group.gr_gid == 0:
        return "root alone"
    members = ", ".join(map(printable, group.gr_mem)) or f"no user so far; usermod -aG {group.gr_name} USER adds one"
    return f"root and group {group.gr_name} ({members})"


def group_of(gid: int) -> grp.struct_group:
    """Also of one that has no name."""
    try:
        return grp.getgrgid(gid)
    except KeyError:
        return grp.struct_group((str(gid), "x", gid, []))


def find_group(name: str | None) -> grp.struct_group:
    """By name or number; by default kvm, which distributions have for users of /dev/kvm, else root's."""
    if name is None:
        try:
            return grp.getgrnam(_DEFAULT_GROUP)
        except KeyError:
            return grp.getgrgid(0)
    try:
        return grp.getgrgid(int(name)) if re.fullmatch(r"[0-9]{1,10}", name) else grp.getgrnam(name)
    except (KeyError, ValueError, OverflowError) as error:
        near = tuple(difflib.get_close_matches(name, [entry.gr_name for entry in grp.getgrall()], n=3))
        raise UsageError(f"there is no group {shortened(name)}", nearest=near) from error
