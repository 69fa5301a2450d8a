"""``kvmscope top``: a live view of the host. This module has its options, ``tui`` the screen."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from ..console.streams import is_screen
from ..errors import Unavailable, UsageError
from ..terminal.echo import echo_damage
from .history import chosen_place, history_options
from .options import parse_duration, source_option
from .session import live_opener

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..scene import Scene
    from ..store.places import PlaceChoice
    from ..view.groups import GroupListView


@click.command("top", short_help="Live view of the host, with drill-down.")
@click.option(
    "--interval",
    callback=parse_duration,
    default="1s",
    show_default=True,
    metavar="TIME",
    help="Time between two reads.",
)
@history_options
@source_option
def command(*, interval: float, source: str) -> None:
    """Show the VMs of this host live, those with the costliest findings first. Enter opens a VM, its vCPUs and each of
    their statistics; ? lists the keys. No key changes anything on the host.

    \b
    kvmscope top
    kvmscope top --interval 5s
    kvmscope top --from /var/lib/kvmscope --at -10m
    """
    _require_terminal()
    choice = chosen_place()
    if choice is None:
        _show_host(interval, source)
    else:
        _show_recording(choice, interval, source)


def _show_recording(choice: PlaceChoice, interval_s: float, source: str) -> None:
    from ..store.replay import within
    from ..tui.player import Player

    series, moments, times = choice.open(source)
    echo_damage(series.damage)  # printed again below the prompt after the screen is closed
    asked = within(moments, times)
    shown = asked if times.is_span else moments
    can_grow = series.can_grow and not times.is_span
    player = Player(series, shown, shown.index(asked[-1]), interval_s, can_grow=can_grow)
    _load_screen()(player, interval_s, player=player)


def _show_host(interval_s: float, source: str) -> None:
    open_it = live_opener(source, begins=True)
    from ..tui.sampler import Sampler

    sampler = Sampler(open_it, interval_s, _list_groups)
    sampler.begin()
    show = _load_screen()  # during the first window
    sampler.wait_until_open()
    show(sampler, interval_s, groups=sampler)


def _list_groups(scene: Scene) -> GroupListView:
    from ..tasks.groups import list_groups  # imports libbpf's bindings

    return list_groups(scene)


def _require_terminal() -> None:
    # Textual writes to stderr.
    if not is_screen(sys.stdin, sys.stdout, sys.stderr):
        raise UsageError(
            "top needs a terminal for stdin, stdout and stderr, and not TERM=dumb; for other outputs there is "
            "`kvmscope status --watch`"
        )


def _load_screen() -> Callable[..., None]:
    if find_spec("textual") is None:  # imported only after the first screen
        raise Unavailable("top needs textual", remedy="pip install 'kvmscope[top]'")
    from ..tui.run import show

    return show
