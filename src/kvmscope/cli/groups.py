"""``kvmscope groups``: the opt-in groups of statistics, what each costs, and trying or pinning one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .echo import echo_lines, echo_notes, terminal_width
from .options import json_option, parse_duration, source_option

if TYPE_CHECKING:
    from ..sources.bpf.offers import Offer
    from ..view.groups import GroupTrialView, GroupView

EVENTS_SHOWN = 20


class _Groups(click.Group):
    """Without a subcommand it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("groups", cls=_Groups, short_help="Opt-in event counters, and what they cost.")
def command() -> None:
    """List groups of opt-in statistics with their cost, count one for a while, or leave one counting.

    \b
    kvmscope groups
    kvmscope groups try exits --for 10s
    kvmscope groups pin wakeups

    Without a subcommand it is `kvmscope groups list`.
    """


# --- list -------------------------------------------------------------------------------------------------------------


@command.command("list")
@source_option
@json_option
def list_command(*, source: str, as_json: bool) -> None:
    """List statistics by owner, with their cost: those that are always on, and the opt-in groups."""
    from ..view.groups import group_list_lines, group_list_view
    from ..view.jsonout import dump, to_value
    from .session import open_live_host

    with open_live_host(source) as host:
        scene = host.look()
    sample = scene.sample
    view = group_list_view(scene, [] if sample.simulated else _offered(len(sample.vms), len(sample.vcpus)))
    if as_json:
        click.echo(dump(to_value(view)))
    else:
        echo_lines(group_list_lines(view, width=terminal_width()))


def _offered(vms: int, vcpus: int) -> list[GroupView]:
    from ..sources.bpf.offers import offers

    return [_view(offer) for offer in offers(vms=vms, vcpus=vcpus)]


def _view(offer: Offer) -> GroupView:
    from ..catalog.groups import load_groups
    from ..schema import Scope
    from ..view.groups import GroupState, GroupView, StatOwner

    is_here = not offer.why_not
    missing = f"{len(offer.missing)} stats are missing: {offer.missing[0][1]}" if offer.missing else ""
    on = GroupState.PINNED if offer.is_pinned else GroupState.OFF
    return GroupView(
        name=offer.name,
        owner=StatOwner.KVMSCOPE,
        state=on if is_here else GroupState.NOT_HERE,
        note=offer.why_not or offer.doubt or missing,
        vm_stats=offer.stats.get(Scope.VM, 0) if is_here else None,
        vcpu_stats=offer.stats.get(Scope.VCPU, 0) if is_here else None,
        bytes_per_vm=offer.bytes_per.get(Scope.VM, 0) if is_here else None,
        bytes_per_vcpu=offer.bytes_per.get(Scope.VCPU, 0) if is_here else None,
        ns_per_event=load_groups()[offer.name].ns_per_event,
        total_bytes=offer.memory_bytes if is_here else None,
    )


# --- try --------------------------------------------------------------------------------------------------------------


@command.command("try")
@click.argument("words", nargs=-1, required=True, metavar="GROUP… [VM[/VCPU]]")
@click.option(
    "--for",
    "look_s",
    callback=parse_duration,
    default="10s",
    show_default=True,
    metavar="TIME",
    help="How long to count.",
)
@click.option("--vm", metavar="VM[/VCPU]", hidden=True, help="The VM, for scripts that name it so.")
@click.option(
    "--all", "-a", "show_all", is_flag=True, help=f"Every kind of event, not only the {EVENTS_SHOWN} costliest."
)
@json_option
def try_command(*, words: tuple[str, ...], look_s: float, vm: str | None, show_all: bool, as_json: bool) -> None:
    """Count a group's events for a while, on all VMs or on one, show the costliest first, and leave nothing attached.

    \b
    kvmscope groups try exits
    kvmscope groups try exits userspace web-1/0 --for 5s
    """
    from ..view.groups import check_groups, group_trial_lines, split_words
    from ..view.jsonout import dump, to_value

    names, named_vm = split_words(words)
    check_groups(names)
    view = _count(names, look_s, named_vm or vm)
    if as_json:
        click.echo(dump(to_value(view)))
    else:
        echo_lines(group_trial_lines(view, limit=None if show_all else EVENTS_SHOWN))


def _count(names: Sequence[str], look_s: float, vm: str | None) -> GroupTrialView:
    from ..collect import Host
    from ..sources.bpf import libbpf
    from ..sources.bpf.groups.loaded import LoadedGroup
    from ..sources.bpf.source import BpfSource
    from ..view.groups import ProgramRuns, group_trial_view
    from ..view.subjects import follow
    from .following import read_interval

    source = BpfSource(names)
    with Host(source, {}) as host, libbpf.run_statistics():
        loaded = [group for group in source.groups if isinstance(group, LoadedGroup)]
        before = {group.name: ProgramRuns(*group.ran()) for group in loaded}
        first = host.look()
        followed = None if vm is None else follow(first, vm)
        interval = read_interval(host, first, look_s, followed)
        runs = {group.name: ProgramRuns(*group.ran()) - before[group.name] for group in loaded}
    echo_notes(interval.notes(followed))
    subject = None if followed is None else followed.locate(interval.scene)
    return group_trial_view(interval.scene, interval.window, names, runs, subject)


# --- pin --------------------------------------------------------------------------------------------------------------


def _mode(context: click.Context, param: click.Parameter, value: str | None) -> int | None:
    from .attach import parse_mode

    return None if value is None else parse_mode(context, param, value)


@command.command("pin")
@click.argument("names", nargs=-1, required=True, metavar="GROUP…")
@click.option(
    "--readers",
    metavar="GROUP",
    help="The group of users who may read, by name or number; unchanged if already attached.",
)
@click.option(
    "--mode", callback=_mode, metavar="MODE", help="Of the pinned files, as for chmod; unchanged if already attached."
)
def pin_command(*, names: tuple[str, ...], readers: str | None, mode: int | None) -> None:
    """Have the kernel count groups of statistics from now on, for readers without root. Needs root.

    It costs what `kvmscope groups` shows, at each event, until `kvmscope groups unpin`, `kvmscope detach` or the next
    boot. The iterator is attached too, unless it already is.
    """
    from ..sources.bpf import attach
    from .attach import DEFAULT_MODE, find_group, group_of, lines

    _check_pinnable(names)
    gid, mode_now = attach.access() or (find_group(None).gr_gid, DEFAULT_MODE)
    entry = find_group(readers) if readers else group_of(gid)
    wanted = mode_now if mode is None else mode
    done = attach.attach(gid=entry.gr_gid, mode=wanted, groups=names)
    echo_lines(lines(done, entry, wanted))


@command.command("unpin")
@click.argument("names", nargs=-1, required=True, metavar="GROUP…")
def unpin_command(*, names: tuple[str, ...]) -> None:
    """Stop counting groups that were pinned; the iterator stays. Needs root."""
    from ..sources.bpf.attach import detach

    _check_pinnable(names)
    click.echo("no longer counted" if detach(groups=names) else "none of these was counting")


def _check_pinnable(names: Sequence[str]) -> None:
    from ..sources.bpf.groups import PLANS
    from ..view.groups import check_groups

    check_groups(names)
    for name in names:
        if name not in PLANS:
            what = "counts while a command runs" if name == "apicv" else "is always read by what is attached"
            raise UsageError(f"group {name} cannot be pinned: it {what}; those that can are {', '.join(PLANS)}")
