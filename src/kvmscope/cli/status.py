"""``kvmscope status``: the host, or one VM, in one screen over a short interval."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ..console.interrupts import until_ended
from ..store.replay import LookPlan
from ..terminal.display import Display
from ..terminal.echo import echo_notes
from .history import reading_options
from .options import interval_option, watch_option
from .session import open_host

if TYPE_CHECKING:
    from ..view.overview import Overview
    from ..view.screen import StatusScreen

_BUSIEST = "exits_per_s"
_VMS_SHOWN = 20
_WIDTH_OF_A_PIPE = 120


def _metric(_ctx: click.Context, _param: click.Parameter, word: str) -> str:
    """The metric of this name or title, or ``name``; for an option's ``callback``."""
    if word in (_BUSIEST, "name"):
        return word
    from ..catalog.metrics import find_metric

    return find_metric(word, or_else=("name",))


@click.command("status", short_help="The host in one screen: VMs, vCPUs and rates.")
@click.argument("vm", required=False, metavar="[VM[/VCPU]]")
@interval_option()
@watch_option("Show interval after interval, until Ctrl-C.")
@click.option("--all", "-a", "show_all", is_flag=True, help=f"Show every VM, not only the first {_VMS_SHOWN}.")
@click.option(
    "--sort",
    "by",
    callback=_metric,
    metavar="METRIC",
    default=_BUSIEST,
    show_default=True,
    help="Sort by this metric, the largest value first; or by `name`.",
)
@reading_options
def command(
    *, vm: str | None, interval: float, watch: bool, show_all: bool, by: str, source: str, as_json: bool
) -> None:
    """Show the host in one screen: VMs, vCPUs and rates over a short interval. With VM, each of its vCPUs.

    The VMs with the most exits come first. A rate of a VM is the sum over its vCPUs; "≥" means that some of them are
    unknown. docs/reference/commands.md explains the columns.

    \b
    kvmscope status
    kvmscope status web-1
    kvmscope status --sort halt_poll_cpus --watch
    """
    plan = LookPlan((interval,), goes_on=True) if watch else LookPlan((interval / 2, interval / 2))
    with open_host(source, plan) as host:
        first = host.look()
        from ..tasks.watching import glance, read_views
        from ..view.screen import StatusScreen
        from ..view.subjects import follow

        followed = None if vm is None else follow(first, vm)
        screen = StatusScreen(by, sys.maxsize if show_all else _VMS_SHOWN, followed)
        display = status_display(screen, as_json=as_json)
        if not watch:
            view, notes = glance(host, interval, first, followed)
            echo_notes(notes)
            display.echo(screen.overview(view))
            return
        with until_ended():
            display.watch(screen.overviews(read_views(host, interval, first=first)))


def status_display(screen: StatusScreen, *, as_json: bool) -> Display[Overview]:
    """The display of a host: fitted to the terminal's size, or plain text of a fixed width elsewhere."""
    from ..terminal.screen import rich_text
    from ..view.text import plain

    return Display(
        lambda overview: plain(screen.lines(overview, width=_WIDTH_OF_A_PIPE)),
        lambda overview, width, height: rich_text(screen.lines(overview, width=width, height=height)),
        as_json=as_json,
    )
