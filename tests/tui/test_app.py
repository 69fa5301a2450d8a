"""The terminal: themes, sizes, keys and the mouse, as Textual gives them; and what is not written."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.geometry import Region
from textual.pilot import Pilot

from kvmscope.tui.app import TopApp
from kvmscope.tui.board import Board
from kvmscope.tui.charset import Charset
from kvmscope.tui.feed import Loss
from kvmscope.tui.pages.base import Desk
from kvmscope.tui.pages.vms import VmsPage
from kvmscope.tui.settings import THEMES, Settings, SettingsFile
from kvmscope.tui.shell import Shell
from kvmscope.view.values import Moment

from .conftest import HandFeed, HandHost
from .scenario import guests

Play = Callable[["Screening", Pilot[None]], Coroutine[Any, Any, None]]

DEADLINE_S = 60.0
KEYS = (
    *("up", "down", "left", "right", "pageup", "pagedown", "home", "end", "enter", "escape", "space", "backspace"),
    *("slash", "s", "f", "p", "g", "d", "a", "e", "question_mark", "h", "t", "z", "plus", "minus", "k", "j", "w"),
)


class Screening:
    """The app on a terminal that is none, fed by hand."""

    def __init__(self, folder: Path, *, theme: str = "dark") -> None:
        self.feed, self.host = HandFeed(), HandHost()
        file = SettingsFile(folder / "top.toml", Settings(theme=theme))
        self.desk = Desk(Board(file.settings), file, self.feed, Charset(), 1.0)
        self.app = TopApp(Shell(self.desk), self.feed.start)
        self._second = 0

    def play(self, play: Play, size: tuple[int, int] = (80, 24)) -> None:
        async def run() -> None:
            async with self.app.run_test(size=size) as pilot:
                await self.seconds(pilot, 4)
                await play(self, pilot)

        asyncio.run(run())

    async def seconds(self, pilot: Pilot[None], count: int) -> None:
        assert self.feed.deliver is not None
        for _ in range(count):
            arrival = self.host.add(list(guests(self._second)))
            self._second += 1
            if arrival is not None:
                self.feed.deliver([arrival])
        await pilot.pause()

    async def resize(self, pilot: Pilot[None], width: int, height: int) -> None:
        """Resize the terminal, and wait until the screen is laid out for it: Textual does that some time later."""
        await pilot.resize_terminal(width, height)
        deadline = time.monotonic() + DEADLINE_S
        while len(self.app.screen._compositor.render_strips()) != height:
            assert time.monotonic() < deadline
            await pilot.pause(0.01)

    def text(self) -> str:
        """What the terminal shows."""
        width, height = self.app.size
        lines = self.app.screen._compositor.render_strips()
        assert (len(lines), {line.cell_length for line in lines}) == (height, {width})
        return "\n".join(line.text for line in lines)


@pytest.fixture
def screening(tmp_path: Path) -> Screening:
    return Screening(tmp_path)


def test_the_terminal_shows_what_the_page_draws(screening: Screening) -> None:
    async def play(screening: Screening, pilot: Pilot[None]) -> None:
        assert "old-nic" in screening.text()
        await pilot.press("d")
        assert "findings by rule" in screening.text()
        await pilot.press("escape")
        await pilot.click(offset=(5, 3), times=2)
        assert "old-nic" in screening.text().splitlines()[0]

    screening.play(play)


@pytest.mark.parametrize("theme", THEMES)
def test_every_theme_shows_the_text_and_two_use_the_terminals_own_colours(theme: str, tmp_path: Path) -> None:
    async def play(screening: Screening, pilot: Pilot[None]) -> None:
        text = screening.text()
        for part in ("! mmio-storm", "old-nic", "0.1 CPU"):
            assert part in text
        strips = screening.app.screen._compositor.render_strips()
        colours = {
            segment.style.color.name for strip in strips for segment in strip if segment.style and segment.style.color
        }
        is_16 = all(name.isdigit() is False and not name.startswith("#") for name in colours)
        assert is_16 == theme.startswith("terminal")

    Screening(tmp_path, theme=theme).play(play)


def test_without_colours_none_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def play(screening: Screening, pilot: Pilot[None]) -> None:
        await pilot.press("down")
        for strip in screening.app.screen._compositor.render_strips():
            for segment in strip:
                colours = [] if segment.style is None else [segment.style.color, segment.style.bgcolor]
                assert all(colour is None or colour.is_default for colour in colours)

    Screening(tmp_path).play(play)


def test_what_did_not_change_is_not_written(screening: Screening, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(screening: Screening, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await pilot.pause()
        regions: list[Region] = []
        monkeypatch.setattr(screening.app._canvas, "refresh", lambda *given, **_: regions.extend(given))
        await screening.seconds(pilot, 3)
        assert regions == []
        await pilot.press("p")
        assert regions
        assert all(region.height == 1 for region in regions)
        assert sum(region.area for region in regions) < 80 * 24 / 2

    screening.play(play)


def test_a_storm_of_sizes_ends_in_the_right_one(screening: Screening) -> None:
    async def play(screening: Screening, pilot: Pilot[None]) -> None:
        chance = random.Random(5)
        for _ in range(40):
            await pilot.resize_terminal(chance.randint(1, 200), chance.randint(1, 60))
        await screening.resize(pilot, 120, 40)
        await screening.seconds(pilot, 2)
        assert len(screening.text().splitlines()) == 40
        assert "old-nic" in screening.text()

    screening.play(play)


def test_a_lost_source_is_said_in_words(screening: Screening) -> None:
    async def play(screening: Screening, pilot: Pilot[None]) -> None:
        assert screening.feed.deliver is not None
        screening.feed.deliver([Loss(Moment(1), "the pin is gone", "kvmscope attach")])
        await pilot.pause()
        assert "STALE" in screening.text()
        assert "source lost: values are of 22:13:23; the pin is gone; try: kvmscope attach" in screening.text()

    screening.play(play)


def press_at_random(screening: Screening, keys: list[str]) -> None:
    """Keys, seconds, losses and sizes in any order; nothing raises, and nothing old is shown as live."""

    async def play(screening: Screening, pilot: Pilot[None]) -> None:
        for number, key in enumerate(keys):
            screening.app.shell.key(key, key if len(key) == 1 else None)
            screening.app._paint()
            if screening.desk.has_left:
                return
            if number % 7 == 0:
                await screening.seconds(pilot, 1)
            if number % 31 == 30:
                assert screening.feed.deliver is not None
                screening.feed.deliver([Loss(Moment(1), "gone")])
                await pilot.pause()
                assert "STALE" in screening.text().splitlines()[0]
            if number % 53 == 52:
                await screening.resize(pilot, 20 + number % 150, 5 + number % 50)
            assert_nothing_old_is_live(screening)

    screening.play(play)


def assert_nothing_old_is_live(screening: Screening) -> None:
    """Each line of the table is marked as stale if its VM has ended or the source is gone."""
    board, page = screening.desk.board, screening.desk.page
    if board.shown is None or not isinstance(page, VmsPage):
        return
    there = set(board.shown.overview.vms.ids)
    for place, vm in enumerate(board.visible()[: page.count]):
        line = page.row(place, 80)
        assert line.is_stale == (vm not in there or board.loss is not None)


@given(st.lists(st.sampled_from(KEYS), max_size=60))
@settings(max_examples=15)
def test_keys_in_any_order_raise_nothing(tmp_path_factory: pytest.TempPathFactory, keys: list[str]) -> None:
    press_at_random(Screening(tmp_path_factory.mktemp("keys")), keys)


@pytest.mark.slow
def test_thousands_of_keys_raise_nothing(tmp_path: Path) -> None:
    """``KVMSCOPE_KEYS=10000`` presses as many; some 3 minutes."""
    chance = random.Random(11)
    press_at_random(Screening(tmp_path), chance.choices(KEYS, k=int(os.environ.get("KVMSCOPE_KEYS", "1000"))))
