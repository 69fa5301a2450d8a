"""The stack of pages, the keys that work on every page, and the drawing of pages, without access to the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from .feed import News
from .lines import PageSize, ScreenLine
from .pages.base import Desk, Page
from .pages.vms import VmsPage
from .settings import THEMES


class Shell:
    """Draws the open page, and passes keys to it or handles the keys that work everywhere."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.desk.open(VmsPage(desk))
        self.desk.notice = desk.file.problem

    def draw(self, size: PageSize) -> list[ScreenLine]:
        return self.desk.page.draw(size)

    def take(self, news: News) -> None:
        """Take a new view, or the loss of the source."""
        self.desk.board.take(news)

    def key(self, key: str, char: str | None) -> None:
        """Handle a key."""
        self.desk.notice = ""
        if self.desk.page.key(key, char):
            return
        do = self._keys.get(key)
        if do is not None:
            do()

    def click(self, x: int, y: int, size: PageSize, *, is_double: bool) -> None:
        """Handle a mouse click."""
        player = self.desk.player
        if player is not None and self.desk.page.is_time_line(y):
            player.go_to(x / max(1, size.width - 1))
        else:
            self.desk.page.click(x, y, size, is_double=is_double)

    def wheel(self, lines: int) -> None:
        self.desk.page.wheel(lines)

    @property
    def _keys(self) -> Mapping[str, Callable[[], None]]:
        keys: dict[str, Callable[[], None]] = {"p": self._pause, "t": self._next_theme}
        player = self.desk.player
        if player is not None:
            keys |= {
                "p": player.toggle,
                "comma": lambda: player.step(-1),
                "full_stop": lambda: player.step(1),
                "less_than_sign": lambda: player.step(-10),
                "greater_than_sign": lambda: player.step(10),
            }
        return keys | {key: partial(self._open, page) for key, page in _pages().items()}

    def _open(self, make: Callable[[Desk], Page]) -> None:
        """Open a page, unless one of its kind is open."""
        if not any(type(page) is make for page in self.desk.pages):
            self.desk.open(make(self.desk))

    def _pause(self) -> None:
        board = self.desk.board
        board.is_paused = not board.is_paused
        if not board.is_paused:
            board.show()

    def _next_theme(self) -> None:
        settings = self.desk.settings
        place = THEMES.index(settings.theme) + 1
        self.desk.change(replace(settings, theme=THEMES[place % len(THEMES)]))
        self.desk.notice = self.desk.notice or f"theme: {self.desk.settings.theme}"


def _pages() -> Mapping[str, Callable[[Desk], Page]]:
    """The pages that keys open. They are loaded at the first key, as they and their imports take 30 ms to load."""
    from .pages.groups import GroupsPage
    from .pages.lists import ColumnsPage, EventsPage, FindingsPage, SortPage
    from .pages.texts import ApicvPage, HelpPage

    return {
        "question_mark": HelpPage,
        "h": HelpPage,
        "f1": HelpPage,
        "s": SortPage,
        "f": ColumnsPage,
        "d": FindingsPage,
        "a": ApicvPage,
        "e": EventsPage,
        "g": GroupsPage,
    }
