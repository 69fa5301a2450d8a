"""Common parts of all pages: the lines around the body, a list with a cursor, and the desk that pages work on.

A page has a title, a body, a notice and a line of keys. It is drawn for a size, makes only its visible lines, and
receives keys and clicks. It opens other pages through the desk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ...host.text import printable
from ...units import format_seconds, time_of_day
from ...view.text import SIMULATED, Span, Style, counted, fill
from ...view.values import Moment
from ...view.watch import HostView
from ..board import Board
from ..charset import Charset
from ..feed import Controls, Feed, GroupControls, Position
from ..lines import PageSize, ScreenLine, laid_out, text_line, two_sided
from ..settings import Settings, SettingsFile

BACK_KEYS: Final = ("escape", "left", "backspace", "q")
_KEY_GAP: Final = 2
_PART_OF_NOTICES: Final = 6
"""Notices take at most one of this many lines."""


@dataclass(frozen=True, slots=True)
class KeyHint:
    """A key, its effect in a word or two for the last line, and in a sentence for the help."""

    key: str
    word: str
    help: str


@dataclass
class Desk:
    """The shared objects of all pages: the board, the settings, the feed of views, and the stack of pages.

    ``pages``: the last one is open. ``player``: moves in a recording; None for a live host. ``groups``: switches opt-in
    groups on; None if there are none.
    """

    board: Board
    file: SettingsFile
    feed: Feed
    charset: Charset
    interval_s: float
    groups: GroupControls | None = None
    player: Controls | None = None
    pages: list[Page] = field(default_factory=list)
    notice: str = ""
    has_left: bool = False

    @property
    def settings(self) -> Settings:
        return self.board.settings

    def change(self, settings: Settings) -> None:
        """Apply new settings and save them."""
        self.board.settings = settings
        before = self.file.problem
        self.file.write(settings)
        if self.file.problem != before:
            self.notice = self.file.problem

    @property
    def page(self) -> Page:
        return self.pages[-1]

    def open(self, page: Page) -> None:
        self.notice = ""
        self.pages.append(page)

    def close(self) -> None:
        """Go back to the previous page; the first page is never closed."""
        if len(self.pages) > 1:
            self.pages.pop().on_close()


_PLAYER_HINTS: Final = (
    KeyHint(", .", "step", "One interval back, one on; < and > are ten."),
    KeyHint("p", "play", "Play or stop. A click on the time line goes there."),
)


class Page(ABC):
    """One page. ``hints``: its keys, the most important first; the last two leave the page and open the help."""

    name: str = ""
    hints: Sequence[KeyHint] = ()

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._time_line_y = 0

    @property
    def board(self) -> Board:
        return self.desk.board

    @property
    def has_ended(self) -> bool:
        """Whether the page's subject has ended, so its values are the last ones."""
        return False

    @property
    def hints_here(self) -> Sequence[KeyHint]:
        """The keys of the page; for a recording, the keys that move in it replace the pause of a live host."""
        if self.desk.player is None:
            return self.hints
        return [each for hint in self.hints for each in (_PLAYER_HINTS if hint.key == "p" else (hint,))]

    def is_time_line(self, y: int) -> bool:
        """Whether row ``y`` is the time line of a recording."""
        return self.desk.player is not None and y == self._time_line_y

    def draw(self, size: PageSize) -> list[ScreenLine]:
        """All lines of the page, each with the width of the page."""
        head, foot = self._head(size), self._foot(size)
        self._time_line_y = size.height - len(foot)
        room = max(0, size.height - len(head) - len(foot))
        body = self.body(PageSize(size.width, room))[:room]
        body += [text_line("")] * (room - len(body))
        whole = [*head, *body, *foot][: size.height]
        return [laid_out(line, size.width, self.desk.charset) for line in whole]

    @abstractmethod
    def body(self, size: PageSize) -> list[ScreenLine]:
        """The lines between header and footer; at most ``size.height`` of them."""

    def key(self, key: str, char: str | None) -> bool:
        """Handle a key; false if it has no effect on this page."""
        del char
        if key in BACK_KEYS:
            self.desk.close()
            return True
        return False

    def click(self, x: int, y: int, size: PageSize, *, is_double: bool) -> None:  # noqa: B027 - most pages need none
        """Handle a mouse click."""

    def wheel(self, lines: int) -> None:  # noqa: B027
        """Handle a turn of the mouse wheel."""

    def on_close(self) -> None:  # noqa: B027
        """Called when the page was closed."""

    # --- around the body ----------------------------------------------------------------------------------------------

    def heading(self) -> str:
        """The page's subject, for its first line."""
        return self.name

    def _head(self, size: PageSize) -> list[ScreenLine]:
        left = (Span("kvmscope top", Style.HEAD), Span(f" · {self.heading()}"))
        return [two_sided(left, self._state(), size.width, self.desk.charset, self._state_style())]

    def _foot(self, size: PageSize) -> list[ScreenLine]:
        position = self.desk.feed.position
        lines = [] if position is None else [time_line(position, size.width, self.desk.charset)]
        notices = self._notices(size.width)[: max(1, size.height // _PART_OF_NOTICES)]
        return [*lines, *notices, self._keys(size.width)]

    def _state(self) -> str:
        """The state of the shown values: live, paused, stale and so on."""
        shown = self.board.shown
        simulated = " SIMULATED" if shown is not None and shown.scene.sample.simulated else ""
        return f"{simulated} {self._state_word()} "

    def _state_word(self) -> str:
        board = self.board
        if board.loss is not None:
            return "STALE"
        if board.is_paused:
            return "PAUSED"
        if self.has_ended:
            return "ENDED"
        if self.desk.feed.position is not None:
            return "RECORDED"
        return "reading" if board.shown is None else f"every {format_seconds(self.desk.interval_s)}"

    def _state_style(self) -> Style:
        is_old = self.board.loss is not None or self.board.is_paused or self.has_ended
        return Style.ALERT if is_old else Style.PLAIN

    def _notices(self, width: int) -> list[ScreenLine]:
        """Notices that matter besides the page, the most urgent first."""
        board = self.board
        if board.loss is not None:
            remedy = f"; try: {board.loss.remedy}" if board.loss.remedy else ""
            reason = printable(board.loss.reason, max_length=200)
            since = f"values are of {clock(_time_of(board.shown))}; " if board.shown else ""
            text = f"source lost: {since}{reason}{remedy}"
            return [text_line(line, Style.PROBLEM) for line in fill(text, width=width)]
        if self.desk.notice:
            return [text_line(line, Style.WARNING) for line in fill(self.desk.notice, width=width)]
        if board.is_paused and board.shown is not None:
            return [text_line(f"paused: values are of {clock(_time_of(board.shown))}; p goes on", Style.WARNING)]
        return self.notices(width)

    def notices(self, width: int) -> list[ScreenLine]:
        """The notices of the page itself."""
        del width
        return [self.notice()]

    def notice(self) -> ScreenLine:
        """The page's own notice, if it is one line."""
        shown = self.board.shown
        if shown is not None and shown.scene.sample.simulated:
            return text_line(SIMULATED, Style.ALERT)
        return text_line("")

    def _keys(self, width: int) -> ScreenLine:
        """As many keys as fit, in order; the last two, which leave and open the help, are placed before all others."""
        there = self.hints_here
        left, chosen = width + _KEY_GAP, set()
        *others, last_but_one, last = range(len(there))
        for place in (last, last_but_one, *others):
            hint = there[place]
            taken = len(hint.key) + 1 + len(hint.word) + _KEY_GAP
            if taken <= left:
                left -= taken
                chosen.add(place)
        hints = [hint for place, hint in enumerate(there) if place in chosen]
        spans: list[Span] = []
        for hint in hints:
            gap = " " * _KEY_GAP if spans else ""
            spans += [Span(gap + hint.key, Style.HEAD), Span(f" {hint.word}")]
        return ScreenLine(tuple(spans))


def time_line(position: Position, width: int, charset: Charset) -> ScreenLine:
    """A recording from its first scene to its last, with a mark where the view is."""
    head = f"{clock(position.first)} "
    state = "live" if position.is_live else "playing" if position.is_playing else "stopped"
    tail = f" {clock(position.last)}  {clock(position.now)} {state}"
    room = max(3, width - len(head) - len(tail))
    place = round(position.place / max(1, position.count - 1) * (room - 1))
    line, mark = charset.one_cell("─"), charset.one_cell("●")
    return ScreenLine((Span(head), Span(line * place + mark + line * (room - 1 - place), Style.HEAD), Span(tail)))


def clock(time: Moment | None) -> str:
    """The time of day, UTC."""
    if time is None:
        return "?"
    return time_of_day(time.ns)


def _time_of(view: HostView | None) -> Moment | None:
    return None if view is None else Moment(view.scene.sample.taken_ns)


def host_title(view: HostView | None) -> str:
    """The host in a line."""
    if view is None:
        return "reading"
    host, total = view.overview.host, view.overview.total
    parts = (
        printable(host.name or "this host"),
        f"{counted(total.vms, 'VM')}, {counted(total.vcpus, 'vCPU')}",
        host.kvm_module,
        f"by {view.overview.source.name}",
        f"Linux {host.kernel or '?'}",
    )
    return " · ".join(part for part in parts if part)


class ListPage(Page):
    """A page with a list: head lines, then rows, of which only the visible ones are made.

    ``cursor``: the row that keys act on; None until one is chosen.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.cursor: int | None = None
        self.first = 0
        self._room = 1
        self._above = 0

    @property
    @abstractmethod
    def count(self) -> int:
        """The number of rows."""

    @abstractmethod
    def row(self, place: int, width: int) -> ScreenLine:
        """One row, without the mark of the cursor, which is added later."""

    def above(self, width: int) -> list[ScreenLine]:
        """The lines above the rows."""
        del width
        return []

    def empty(self, width: int) -> list[ScreenLine]:
        """The lines in place of rows if there are none."""
        del width
        return []

    def enter(self, place: int) -> None:
        """Called when the user chose a row."""

    def moved(self) -> None:
        """Called when the cursor has moved."""

    def body(self, size: PageSize) -> list[ScreenLine]:
        above = self.above(size.width)
        above = above[max(0, len(above) + 1 - size.height) :]  # a row takes precedence over all but the last of them
        self._above = len(above)
        self._room = max(1, size.height - len(above))
        self._settle()
        rows = range(self.first, min(self.count, self.first + self._room))
        lines = [self._placed(place, size.width) for place in rows] or self.empty(size.width)
        return [*above, *lines][: size.height]

    def _placed(self, place: int, width: int) -> ScreenLine:
        line = self.row(place, width)
        return ScreenLine(line.spans, True, line.is_stale) if place == self.cursor else line

    def _settle(self) -> None:
        """Keep the cursor within the rows, and visible."""
        last = self.count - 1
        if self.cursor is not None:
            self.cursor = None if last < 0 else min(self.cursor, last)
        if self.cursor is not None:
            self.first = min(self.first, self.cursor)
            self.first = max(self.first, self.cursor - self._room + 1)
        self.first = max(0, min(self.first, self.count - self._room))

    def key(self, key: str, char: str | None) -> bool:
        page = max(1, self._room - 1)
        steps = {"up": -1, "down": 1, "pageup": -page, "pagedown": page, "k": -1, "j": 1}
        if key in steps:
            self.move(steps[key])
        elif key == "home":
            self.set_cursor(0)
        elif key == "end":
            self.set_cursor(self.count - 1)
        elif key in ("enter", "right") and self.count:
            self.enter(self.cursor or 0)
        else:
            return super().key(key, char)
        return True

    def move(self, rows: int) -> None:
        """Move the cursor; the first move puts it on the first visible row."""
        if self.cursor is None:
            self.set_cursor(self.first if rows > 0 else self.first + self._room - 1)
        else:
            self.set_cursor(self.cursor + rows)

    def set_cursor(self, place: int) -> None:
        self.cursor = max(0, min(place, self.count - 1)) if self.count else None
        self.moved()

    def wheel(self, lines: int) -> None:
        self.first += lines
        if self.cursor is not None:
            low, high = self.first, self.first + self._room - 1
            self.set_cursor(max(low, min(self.cursor, high)))

    def click(self, x: int, y: int, size: PageSize, *, is_double: bool) -> None:
        del x, size
        place = self.first + y - 1 - self._above
        if y >= 1 + self._above and place < min(self.count, self.first + self._room):
            self.set_cursor(place)
            if is_double:
                self.enter(place)
