"""``kvmscope status``: the host, or one VM, in one screen over a short interval."""

from __future__ import annotations

import difflib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from ..console.interrupts import until_ended
from ..errors import UsageError
from ..store.replay import LookPlan
from .history import history_options
from .options import json_option, parse_duration, source_option
from .session import open_host, read_views

if TYPE_CHECKING:
    from ..collect import SceneHost
    from ..sample import VmId
    from ..scene import Scene
    from ..view.overview import Overview
    from ..view.subjects import FollowedVm
    from ..view.text import Line
    from ..view.watch import HostView

_BUSIEST = "exits_per_s"
_VMS_SHOWN = 20
_WIDTH_OF_A_PIPE = 120
_LINES_BESIDE_VMS = 8


def _metric(_ctx: click.Context, _param: click.Parameter, word: str) -> str:
    """The metric of this name or title, or ``name``; for an option's ``callback``."""
    if word in (_BUSIEST, "name"):
        return word
    from ..catalog.metrics import load_metrics

    names = {metric.title: metric.name for metric in load_metrics()} | {each.name: each.name for each in load_metrics()}
    if word in names:
        return names[word]
    near = tuple(difflib.get_close_matches(word, [*names, "name"], n=3, cutoff=0.4))
    raise UsageError(f"there is no metric {word!r} to sort by", nearest=near)


@click.command("status", short_help="The host in one screen: VMs, vCPUs and rates.")
@click.argument("vm", required=False, metavar="[VM[/VCPU]]")
@click.option(
    "--interval",
    callback=parse_duration,
    default="1s",
    show_default=True,
    metavar="TIME",
    help="Length of the interval.",
)
@click.option("--watch", "-w", is_flag=True, help="Show interval after interval, until Ctrl-C.")
@click.option("--all", "-a", "show_all", is_flag=True, help=f"Every VM, not only {_VMS_SHOWN} of them.")
@click.option(
    "--sort",
    "by",
    callback=_metric,
    metavar="METRIC",
    default=_BUSIEST,
    show_default=True,
    help="First the VMs with the largest values of this metric; or `name`.",
)
@history_options
@source_option
@json_option
def command(
    *, vm: str | None, interval: float, watch: bool, show_all: bool, by: str, source: str, as_json: bool
) -> None:
    """Show the host in one screen: VMs, vCPUs and rates over a short interval. With VM, each of its vCPUs.

    The VMs with the most exits come first. A rate of a VM is the sum over its vCPUs; "≥" says that some of them are
    not known. docs/commands.md explains the columns.

    \b
    kvmscope status
    kvmscope status web-1
    kvmscope status --sort halt_poll_cpus --watch
    """
    plan = LookPlan((interval,), goes_on=True) if watch else LookPlan((interval / 2, interval / 2))
    with open_host(source, plan) as host:
        first = host.look()
        screen = Screen(by, sys.maxsize if show_all else _VMS_SHOWN, _follow(first, vm))
        if not watch:
            screen.echo(glance(host, interval, first), as_json=as_json)
            return
        with until_ended():
            screen.watch(read_views(host, interval, first=first), as_json=as_json)


def glance(host: SceneHost, interval_s: float, first: Scene | None = None) -> HostView:
    """One interval, read in two halves: a rule fires only if its condition held in both. A recording may have one."""
    *before, last = read_views(host, interval_s / 2, first=first or host.look(), count=2)
    return last.since(before[0]) if before else last


@dataclass
class Screen:
    """What is shown of each view: the ``limit`` VMs with the most of a metric, or one VM."""

    by: str = _BUSIEST
    limit: int = _VMS_SHOWN
    vm: FollowedVm | None = None
    _places: list[VmId] = field(default_factory=list)

    def echo(self, view: HostView, *, as_json: bool) -> None:
        """Write it: in colour and as wide as the terminal, plain and of a fixed width to anything else."""
        if as_json:
            self._echo_json(view, one_line=False)
        elif not sys.stdout.isatty():
            click.echo(self.plain_text(view))
        else:
            from rich.console import Console

            from .screen import rich_text

            console = Console()
            console.print(rich_text(self.lines(view, width=console.width)))

    def watch(self, views: Iterator[HostView], *, as_json: bool) -> None:
        """Write one after another, until the VM that was asked for has ended."""
        if as_json or not sys.stdout.isatty():
            for view in self._until_ended(views):
                if as_json:
                    self._echo_json(view, one_line=True)
                else:
                    click.echo(self.plain_text(view) + "\n")
                sys.stdout.flush()
            return
        from rich.console import Console
        from rich.live import Live

        from .screen import rich_text

        console, most = Console(), self.limit
        # What waits writes to stderr itself, and clears its line with an escape sequence that rich would print as text.
        with Live(redirect_stderr=False, console=console, auto_refresh=False, vertical_overflow="crop") as live:
            for view in self._until_ended(views):
                self.limit = min(most, max(1, shutil.get_terminal_size().lines - _LINES_BESIDE_VMS))
                live.update(rich_text(self.lines(view, width=console.width)), refresh=True)

    def plain_text(self, view: HostView, *, width: int = _WIDTH_OF_A_PIPE) -> str:
        """The screen without colours and without blanks at the ends of lines."""
        from ..view.text import plain

        return "\n".join(plain(self.lines(view, width=width)))

    def lines(self, view: HostView, *, width: int) -> Iterator[Line]:
        """The screen. VMs that stay on it stay in their places."""
        from ..view.overview_text import overview_lines, vm_lines
        from ..view.text import styled

        overview = self.overview(view)
        if self.vm is None:
            yield from overview_lines(overview, self._rows(overview), width=width, by=self.by)
        elif overview.vms:
            yield from vm_lines(overview, width=width, vcpu=self.vm.vcpu)
        else:
            yield styled(self._end_text())

    def overview(self, view: HostView) -> Overview:
        """What is shown of a view: all of it, or the VM that was asked for."""
        from ..view.overview import of_one_vm

        return view.overview if self.vm is None else of_one_vm(view.overview, self.vm.id)

    def _echo_json(self, view: HostView, *, one_line: bool) -> None:
        from ..view.jsonout import dump, to_value

        click.echo(dump(to_value(self.overview(view)), one_line=one_line))

    def _until_ended(self, views: Iterator[HostView]) -> Iterator[HostView]:
        for view in views:
            yield view
            if self.vm is not None and not self.overview(view).vms:
                return

    def _rows(self, overview: Overview) -> list[int]:
        from ..view.overview_text import kept_in_place, rows_shown

        ids = overview.vms.ids
        wanted = [ids[row] for row in rows_shown(overview, by=self.by, limit=self.limit)]
        self._places = kept_in_place(self._places, wanted)
        rows = {vm: row for row, vm in enumerate(ids)}
        return [rows[vm] for vm in self._places]

    def _end_text(self) -> str:
        from ..view.findings_text import title_of

        assert self.vm is not None
        return f"{title_of(self.vm.name, self.vm.id)} has ended"


def _follow(scene: Scene, vm: str | None) -> FollowedVm | None:
    from ..view.subjects import follow

    return None if vm is None else follow(scene, vm)
