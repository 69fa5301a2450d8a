"""``kvmscope apicv``: the verdict on interrupt acceleration as a tree with its evidence.

The verdict is in ``view.apicv``, its lines in ``view.apicv_text``. docs/apicv.md explains how to read it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ..console.interrupts import until_ended
from ..errors import SourceError, UsageError
from ..store.replay import LookPlan
from .echo import echo_notes
from .following import read_interval
from .history import history_options, is_recorded, is_span
from .options import json_option, parse_duration, shortened, source_option
from .session import open_host, open_live_host

if TYPE_CHECKING:
    from ..collect import Host, SceneHost
    from ..view.apicv import ApicvView
    from ..view.tree import TextNode

_WATCH_S = 1.0
_GROUP = "apicv"


def _parse_group(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """``--count`` takes a group as for other commands; the one that counts for this command is the default."""
    if value not in (None, _GROUP):
        raise click.BadParameter(
            f"group {shortened(value or '')} counts nothing for this command, {_GROUP} does; a VM comes first: "
            f"kvmscope apicv VM --count"
        )
    return value


@click.command("apicv", short_help="Are interrupts accelerated, and if not, why?")
@click.argument("vm", required=False, metavar="[VM[/VCPU]]")
@click.option("--what-if", "with_what_if", is_flag=True, help="Also predict each VM with APICv/AVIC switched on.")
@click.option("--watch", "-w", is_flag=True, help="Repeat until Ctrl-C.")
@click.option(
    "--interval", callback=parse_duration, metavar="TIME", help="Look at an interval of this length, not once."
)
@click.option(
    "--count",
    is_flag=False,
    flag_value=_GROUP,
    metavar="[GROUP]",
    callback=_parse_group,
    help=f"Count by this group during the interval: its share for each reason.  [default group: {_GROUP}]",
)
@click.option("--all", "-a", "each_vm", is_flag=True, help="Show every VM separately, with its evidence.")
@history_options
@source_option
@json_option
def command(
    *,
    vm: str | None,
    with_what_if: bool,
    watch: bool,
    interval: float | None,
    count: str | None,
    each_vm: bool,
    source: str,
    as_json: bool,
) -> None:
    """Show whether the interrupts of VMs are hardware-accelerated (Intel APICv, AMD AVIC), and if not: the reason, its
    cause, the change that removes it, and the evidence. VMs with the same verdict are shown together.

    \b
    kvmscope apicv
    kvmscope apicv web-1 --what-if
    kvmscope apicv --count --interval 5s
    """
    with contextlib.ExitStack() as stack:
        interval_s = interval or (_WATCH_S if watch or count is not None or is_span() else None)
        steps = () if interval_s is None else (interval_s,)
        plan = LookPlan(steps, goes_on=watch, follows=vm is not None)
        host = stack.enter_context(_open(source, plan, count=count is not None))
        if interval_s is not None and not watch:
            interval_s = host.interval_s(interval_s)
        views = _views(host, vm, interval_s, with_what_if=with_what_if)
        each_vm = each_vm or vm is not None
        if not watch:
            _echo(views, as_json=as_json, each_vm=each_vm)
            return
        with until_ended():
            _watch(views, as_json=as_json, each_vm=each_vm)


def _open(source: str, plan: LookPlan, *, count: bool) -> SceneHost:
    """The host by a source that reads local APICs too, if there is one: their registers show some conditions."""
    if is_recorded() and count:
        raise UsageError("--count counts on this host; a recording has what was counted when it was made")
    if is_recorded() or click.get_current_context().obj is not None:
        return open_host(source, plan)
    from .. import collect

    if count:
        return collect.open_host(source, groups=(_GROUP,))
    if source == "bpf":
        return collect.open_host(source, groups=("apic",))
    return _open_best() if source == "auto" else open_live_host(source)


def _open_best() -> Host:
    """What is pinned has the registers; the iterator that is loaded here has them if asked; else whatever works."""
    from .. import collect

    try:
        return collect.open_host("pinned")
    except SourceError as error:
        pinned = error
    try:
        host = collect.open_host("bpf", groups=("apic",))
    except SourceError:
        return open_live_host("auto")
    host.why_not = {"pinned": pinned}
    return host


def _views(host: SceneHost, vm: str | None, interval_s: float | None, *, with_what_if: bool) -> Iterator[ApicvView]:
    """One view, or without end one for each interval; it ends with the VM that was chosen."""
    from ..view.apicv import apicv_view
    from ..view.subjects import follow

    scene = host.look()
    followed = None if vm is None else follow(scene, vm)
    if interval_s is None:
        subject = None if followed is None else followed.locate(scene)
        yield apicv_view(scene, with_what_if=with_what_if, subject=subject)
        return
    is_first = True
    while is_first or host.has_more:
        interval = read_interval(host, scene, interval_s, followed, shows_progress=is_first)
        scene = interval.scene
        echo_notes(interval.notes(followed))
        if is_first or interval.window is not None:
            subject = None if followed is None else followed.locate(scene)
            yield apicv_view(scene, interval.window, with_what_if=with_what_if, subject=subject)
        if interval.has_ended:
            return
        is_first = False


def _echo(views: Iterator[ApicvView], *, as_json: bool, each_vm: bool) -> None:
    view = next(views)
    if as_json or not sys.stdout.isatty():
        click.echo(_plain(view, as_json=as_json, each_vm=each_vm))
    else:
        from rich.console import Console

        from .screen import rich_trees

        Console().print(*rich_trees(_nodes(view, each_vm=each_vm)), sep="\n")


def _watch(views: Iterator[ApicvView], *, as_json: bool, each_vm: bool) -> None:
    if as_json or not sys.stdout.isatty():
        for view in views:
            click.echo(_plain(view, as_json=as_json, each_vm=each_vm, is_one_of_many=True))
            sys.stdout.flush()
        return
    from rich.console import Console, Group
    from rich.live import Live

    from .screen import rich_trees

    # What waits writes to stderr itself, and takes its line away with an escape sequence that rich would print as text.
    with Live(redirect_stderr=False, console=Console(), auto_refresh=False, vertical_overflow="crop") as live:
        for view in views:
            live.update(Group(*rich_trees(_nodes(view, each_vm=each_vm))), refresh=True)


def _plain(view: ApicvView, *, as_json: bool, each_vm: bool, is_one_of_many: bool = False) -> str:
    from ..view.jsonout import dump, to_value
    from ..view.tree import indented

    if as_json:
        return dump(to_value(view), one_line=is_one_of_many)
    text = "\n".join(indented(_nodes(view, each_vm=each_vm)))
    return text + "\n" if is_one_of_many else text


def _nodes(view: ApicvView, *, each_vm: bool) -> list[TextNode]:
    from ..view.apicv_text import apicv_nodes

    return apicv_nodes(view, each_vm=each_vm)
