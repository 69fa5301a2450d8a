"""``kvmscope replay``: steps through a recording on the screen of ``status``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ..console.interrupts import until_ended
from ..console.streams import is_screen
from ..errors import UsageError
from ..store.cursor import ReplayCursor, place_at
from ..terminal.echo import echo_damage
from .options import PLACE, interval_option, json_option
from .status import status_display

if TYPE_CHECKING:
    from ..store.replay import SceneSeries
    from ..view.screen import StatusScreen


@click.command("replay", short_help="Step through a recording on the screen of status.")
@click.argument("path", type=PLACE, metavar="PATH")
@click.option("--at", metavar="TIME", help="Where to start; by default at the beginning.")
@interval_option(help="Length of an interval, and of a step.")
@json_option
def command(*, path: str, at: str | None, interval: float, as_json: bool) -> None:
    """Step through a recording, an episode or a snapshot on the screen of status. Without a terminal, every interval is
    written, one after another.

    \b
    right, left   an interval on, back          +, -    twice as fast, half as fast
    up, down      ten intervals on, back        g       go to a time, such as 14:05 or -5m
    Home, End     to the beginning, to the end  space   play, stop
    q             quit
    """
    from ..store.places import PlaceChoice
    from ..store.times import parse_time
    from ..tasks.replaying import views_from
    from ..view.screen import StatusScreen

    series, moments, _ = PlaceChoice(path).open()
    echo_damage(series.damage)
    if len(moments) < 2:
        raise UsageError("a replay needs two scenes, and the recording has fewer")
    cursor = ReplayCursor(moments, interval, lambda text: parse_time(text, cursor.moments[-1].taken_ns))
    if at is not None:
        cursor.place = place_at(moments, cursor.parse_time(at))
    screen = StatusScreen()
    if as_json or not is_screen(sys.stdin, sys.stdout):
        display = status_display(screen, as_json=as_json)
        with until_ended():
            display.watch(screen.overviews(views_from(series, cursor)))
        return
    with until_ended():
        _play(series, cursor, screen)


def _play(series: SceneSeries, cursor: ReplayCursor, screen: StatusScreen) -> None:
    from rich.console import Console
    from rich.live import Live

    from ..console.keys import keys_one_by_one
    from ..tasks.replaying import ReplayScreen
    from ..terminal.screen import rich_text

    console = Console()
    with (
        keys_one_by_one() as keys,
        Live(redirect_stderr=False, console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live,
    ):
        replay = ReplayScreen(series, cursor, screen)
        while not cursor.has_ended:
            live.update(rich_text(replay.lines(console.width, console.height)), refresh=True)
            replay.go_on(keys.read(replay.pause_s))
