"""``kvmscope groups``: lists the opt-in groups of statistics with their cost, counts some for a while, or pins them."""

from __future__ import annotations

from functools import partial

import click

from ..console.commands import DefaultGroup
from ..terminal.echo import echo_answer, echo_lines, echo_notes, terminal_width
from .options import json_option, parse_mode, source_option, time_option

EVENTS_SHOWN = 20


@click.group("groups", cls=DefaultGroup, default="list", short_help="Opt-in event counters, and what they cost.")
def command() -> None:
    """List groups of opt-in statistics with their cost, count one for a while, or keep one counting.

    \b
    kvmscope groups
    kvmscope groups try exits --for 10s
    kvmscope groups pin wakeups

    Without a subcommand it is `kvmscope groups list`.
    """


@command.command("list")
@source_option
@json_option
def list_command(*, source: str, as_json: bool) -> None:
    """List statistics by owner, with their cost: those that are always on, and the opt-in groups. If no source works,
    it lists only the opt-in groups, and says why."""
    from ..tasks.groups import read_groups
    from ..view.groups import group_list_lines
    from .session import open_live_host

    view = read_groups(partial(open_live_host, source), must_read=source != "auto")
    echo_answer(view, group_list_lines(view, width=terminal_width()), as_json=as_json)


@command.command("try")
@click.argument("words", nargs=-1, required=True, metavar="GROUP… [VM[/VCPU]]")
@time_option("--for", "look_s", default="10s", help="How long to count.")
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
    from ..console.progress import reading_progress
    from ..tasks.groups import try_groups
    from ..view.groups import check_groups, group_trial_lines, split_words

    names, named_vm = split_words(words)
    check_groups(names)
    with reading_progress(look_s):
        view, notes = try_groups(names, look_s, named_vm or vm)
    echo_notes(notes)
    echo_answer(view, group_trial_lines(view, limit=None if show_all else EVENTS_SHOWN), as_json=as_json)


@command.command("pin")
@click.argument("names", nargs=-1, required=True, metavar="GROUP…")
@click.option(
    "--readers",
    metavar="GROUP",
    help="The group of users who may read, by name or number; unchanged if already attached.",
)
@click.option(
    "--mode",
    callback=parse_mode,
    metavar="MODE",
    help="Permissions of the pinned files, as for chmod; unchanged if already attached.",
)
def pin_command(*, names: tuple[str, ...], readers: str | None, mode: int | None) -> None:
    """Have the kernel count groups of statistics from now on, for readers without root. Needs root.

    Each event costs the time that `kvmscope groups` shows, until `kvmscope groups unpin`, `kvmscope detach` or the next
    boot. The iterator is attached too, unless it already is.
    """
    from ..tasks.attaching import attach_for
    from ..tasks.groups import check_pinnable

    check_pinnable(names)
    echo_lines(attach_for(readers, mode, groups=names))


@command.command("unpin")
@click.argument("names", nargs=-1, required=True, metavar="GROUP…")
def unpin_command(*, names: tuple[str, ...]) -> None:
    """Stop counting groups that were pinned; the iterator stays. Needs root."""
    from ..sources.bpf.attach import detach
    from ..tasks.groups import check_pinnable

    check_pinnable(names)
    click.echo("no longer counted" if detach(groups=names) else "none of these was counting")
