"""``kvmscope apicv``: the verdict on interrupt acceleration as a tree with its evidence.

``view.apicv`` makes the verdict, ``view.apicv_text`` its lines. docs/explanation/apicv.md explains how to read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ..console.interrupts import until_ended
from ..store.replay import LookPlan
from ..terminal.display import Display
from ..terminal.echo import echo_notes
from ..units import quoted
from .history import is_span, reading_options
from .options import interval_option, watch_option
from .session import open_counting_host, open_with_registers

if TYPE_CHECKING:
    from ..collect import SceneHost
    from ..view.apicv import ApicvView

_WATCH_S = 1.0
_GROUP = "apicv"


def _parse_group(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """The value of ``--count``: a group, as for other commands; by default the one that this command uses."""
    if value not in (None, _GROUP):
        raise click.BadParameter(
            f"this command counts with group {_GROUP} alone, not with {quoted(value or '')}; name a VM first: "
            f"kvmscope apicv VM --count"
        )
    return value


@click.command("apicv", short_help="Are interrupts accelerated, and if not, why?")
@click.argument("vm", required=False, metavar="[VM[/VCPU]]")
@click.option("--what-if", "with_what_if", is_flag=True, help="Also predict each VM with APICv/AVIC switched on.")
@watch_option("Repeat until Ctrl-C.")
@interval_option(None, help="Compare two reads this far apart, instead of one read.")
@click.option(
    "--count",
    is_flag=False,
    flag_value=_GROUP,
    metavar="[GROUP]",
    callback=_parse_group,
    help=f"Count with this group during the interval: how long each reason was set.  [default group: {_GROUP}]",
)
@click.option("--all", "-a", "each_vm", is_flag=True, help="Show every VM separately, with its evidence.")
@reading_options
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
    from ..tasks.verdicts import verdicts

    interval_s = interval or (_WATCH_S if watch or count is not None or is_span() else None)
    plan = LookPlan(() if interval_s is None else (interval_s,), goes_on=watch, follows=vm is not None)
    with _open(source, plan, count=count is not None) as host:
        if interval_s is not None and not watch:
            interval_s = host.interval_s(interval_s)
        views = _noted(verdicts(host, vm, interval_s, with_what_if=with_what_if))
        display = _display(each_vm=each_vm or vm is not None, as_json=as_json)
        if not watch:
            display.echo(next(views))
            return
        with until_ended():
            display.watch(views)


def _noted(verdicts: Iterator[tuple[ApicvView | None, list[str]]]) -> Iterator[ApicvView]:
    for view, notes in verdicts:
        echo_notes(notes)
        if view is not None:
            yield view


def _open(source: str, plan: LookPlan, *, count: bool) -> SceneHost:
    return open_counting_host(source, (_GROUP,), plan) if count else open_with_registers(source, plan)


def _display(*, each_vm: bool, as_json: bool) -> Display[ApicvView]:
    from ..terminal.screen import rich_trees
    from ..view.apicv_text import apicv_nodes
    from ..view.tree import indented

    return Display(
        lambda view: indented(apicv_nodes(view, each_vm=each_vm)),
        lambda view, _width, _height: rich_trees(apicv_nodes(view, each_vm=each_vm)),
        as_json=as_json,
    )
