"""The terminal: a Textual app with one widget, which shows what the shell draws and passes keys and clicks to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message

from .canvas import Canvas
from .driver import driver_upon
from .feed import Deliver, News
from .first_screen import FirstScreen
from .lines import PageSize
from .shell import Shell

_THEMES: Final = {
    "terminal": "ansi-dark",
    "terminal-light": "ansi-light",
    "dark": "textual-dark",
    "light": "textual-light",
}


class TopApp(App[None]):
    """Draws a shell until the user leaves. ``listen``: called with the receiver of news once the screen exists."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "kvmscope top"
    CSS = "Screen { overflow: hidden; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "leave", show=False, priority=True),
        Binding("ctrl+q", "leave", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False),
    ]

    class Came(Message):
        """The reading thread has handed over news."""

        def __init__(self, news: Sequence[News]) -> None:
            super().__init__()
            self.news = news

    def __init__(self, shell: Shell, listen: Callable[[Deliver], None], first: FirstScreen | None = None) -> None:
        # This decides whether NO_COLOR makes Textual use greys or the terminal's own colours, which are wanted here.
        ansi_color = True if "NO_COLOR" in os.environ else None
        super().__init__(ansi_color=ansi_color, driver_class=None if first is None else driver_upon(first))
        self.shell = shell
        self._desk = shell.desk
        self._listen = listen
        self._canvas = Canvas()

    def compose(self) -> ComposeResult:
        yield self._canvas

    def on_mount(self) -> None:
        self._apply_theme()
        self._canvas.focus()
        self._listen(self._pass_on)

    def _pass_on(self, news: Sequence[News]) -> None:
        """Called on the reading thread."""
        self.post_message(self.Came(news))

    def on_top_app_came(self, message: Came) -> None:
        for news in message.news:
            self.shell.take(news)
        self._paint()

    def on_resize(self, event: events.Resize) -> None:
        self._paint()

    def on_key(self, event: events.Key) -> None:
        event.prevent_default()
        event.stop()
        self.shell.key(event.key, event.character)
        self._follow_page()

    def on_canvas_clicked(self, message: Canvas.Clicked) -> None:
        self.shell.click(message.x, message.y, self._page_size, is_double=message.is_double)
        self._follow_page()

    def on_canvas_wheeled(self, message: Canvas.Wheeled) -> None:
        self.shell.wheel(message.lines)
        self._follow_page()

    def action_leave(self) -> None:
        self.exit()

    def _follow_page(self) -> None:
        if self._desk.has_left:
            self.exit()
            return
        self._apply_theme()
        self._paint()

    def _apply_theme(self) -> None:
        # Without colours, use the terminal's own two; Textual's themes would give greys.
        wanted = "terminal" if self.no_color else self._desk.settings.theme
        if self.theme != _THEMES[wanted]:
            self.theme = _THEMES[wanted]

    def _paint(self) -> None:
        self._canvas.show(self.shell.draw(self._page_size))

    @property
    def _page_size(self) -> PageSize:
        return PageSize(self.size.width, self.size.height)
