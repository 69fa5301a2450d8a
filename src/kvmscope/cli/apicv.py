"""``kvmscope apicv``: the verdict on interrupt acceleration as a tree with its evidence.

The verdict is in ``view.apicv``, its lines in ``view.apicv_text``. docs/explanation/apicv.md explains how to read it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ..console.interrupts import until_ended
from ..console.progress import reading_progress
from ..store.replay import LookPlan
from ..units import quoted
from .display import Display
from .echo import echo_notes
from .history import is_recorded, is_span, reading_options, refuse_counting
from .options import interval_option, watch_option
from .session import check_source, open_host

if TYPE_CHECKING:
    from ..collect import SceneHost
    from ..view.apicv import ApicvView

_WATCH_S = 1.0
_GROUP = "apicv"


def _parse_group(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """``--count`` takes a group as for other commands; the one that counts for this command is the default."""
    if value not in (None, _GROUP):
        raise click.BadParameter(
            f"group {quoted(value or '')} counts nothing for this command, {_GROUP} does; a VM comes first: "
            f"kvmscope apicv VM --count"
        )
    return value


@click.command("apicv", short_help="Are interrupts accelerated, and if not, why?")
@click.argument("vm", required=False, metavar="[VM[/VCPU]]")
@click.option("--what-if", "with_what_if", is_flag=True, help="Also predict each VM with APICv/AVIC switched on.")
@watch_option("Repeat until Ctrl-C.")
@interval_option(None, help="Look at an interval of this length, not once.")
@click.option(
    "--count",
    is_flag=False,
    flag_value=_GROUP,
    metavar="[GROUP]",
    callback=_parse_group,
    help=f"Count by this group during the interval: its share for each reason.  [default group: {_GROUP}]",
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
    interval_s = interval or (_WATCH_S if watch or count is not None or is_span() else None)
    plan = LookPlan(() if interval_s is None else (interval_s,), goes_on=watch, follows=vm is not None)
    with _open(source, plan, count=count is not None) as host:
        if interval_s is not None and not watch:
            interval_s = host.interval_s(interval_s)
        views = _views(host, vm, interval_s, with_what_if=with_what_if)
        display = _display(each_vm=each_vm or vm is not None, as_json=as_json)
        if not watch:
            display.echo(next(views))
            return
        with until_ended():
            display.watch(views)


def _open(source: str, plan: LookPlan, *, count: bool) -> SceneHost:
    if count:
        refuse_counting()
    if is_recorded() or click.get_current_context().obj is not None:
        return open_host(source, plan)
    from .. import collect
    from ..tasks.sources import open_with_registers

    check_source(source)
    return collect.open_host(source, groups=(_GROUP,)) if count else open_with_registers(source)


def _views(host: SceneHost, vm: str | None, interval_s: float | None, *, with_what_if: bool) -> Iterator[ApicvView]:
    """One view, or without end one for each interval; it ends with the VM that was chosen."""
    from ..tasks.following import iter_intervals
    from ..view.apicv import apicv_view
    from ..view.subjects import follow

    scene = host.look()
    followed = None if vm is None else follow(scene, vm)
    subject = None if followed is None else followed.locate(scene)
    if interval_s is None:
        yield apicv_view(scene, with_what_if=with_what_if, subject=subject)
        return
    intervals = iter_intervals(host, scene, interval_s, followed)
    with reading_progress(interval_s):
        first = next(intervals)
    for number, interval in enumerate(itertools.chain([first], intervals)):
        echo_notes(interval.notes(followed))
        if number == 0 or interval.window is not None:
            subject = None if followed is None else followed.locate(interval.scene)
            yield apicv_view(interval.scene, interval.window, with_what_if=with_what_if, subject=subject)


def _display(*, each_vm: bool, as_json: bool) -> Display[ApicvView]:
    from ..view.apicv_text import apicv_nodes
    from ..view.tree import indented
    from .screen import rich_trees

    return Display(
        lambda view: indented(apicv_nodes(view, each_vm=each_vm)),
        lambda view, _width, _height: rich_trees(apicv_nodes(view, each_vm=each_vm)),
        as_json=as_json,
    )
