"""What all pages share: the lines around the body, a list with a cursor, and the desk that pages work on.

A page has a title, a body, a notice and a line of keys. It is drawn for a size, makes only the lines that are visible,
and is given keys and clicks. It opens other pages through the desk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ...host.text import printable
from ...units import format_seconds, time_of_day
from ...view.text import SIMULATED, Span, Style, counted
from ...view.values import Moment
from ...view.watch import HostView
from ..board import Board
from ..charset import Charset
from ..feed import Controls, Feed, GroupControls, Position
from ..lines import PageSize, ScreenLine, laid_out, text_line, two_sided
from ..settings import Settings, SettingsFile

BACK_KEYS: Final = ("escape", "left", "backspace", "q")
_NARROW: Final = 100


@dataclass(frozen=True, slots=True)
class KeyHint:
    """A key, what it does in a word or two for the last line, and in a sentence for the help."""

    key: str
    word: str
    help: str


@dataclass
class Desk:
    """What pages work on: the board, the settings, where views come from, and which page is open.

    ``pages``: the open one is the last. ``player``: moves in a recording; None for a host that is read now.
    ``groups``: switches opt-in groups on; None where there are none.
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
        """New settings, which are kept."""
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
        """Back to the page before; the first one is never closed."""
        if len(self.pages) > 1:
            self.pages.pop().on_close()


class Page(ABC):
    """One page."""

    name: str = ""
    hints: Sequence[KeyHint] = ()

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @property
    def board(self) -> Board:
        return self.desk.board

    def draw(self, size: PageSize) -> list[ScreenLine]:
        """All lines of the page, each as wide as it."""
        head, foot = self._head(size), self._foot(size)
        room = max(0, size.height - len(head) - len(foot))
        body = self.body(PageSize(size.width, room))[:room]
        body += [text_line("")] * (room - len(body))
        whole = [*head, *body, *foot][: size.height]
        return [laid_out(line, size.width, self.desk.charset) for line in whole]

    @abstractmethod
    def body(self, size: PageSize) -> list[ScreenLine]:
        """The lines between head and foot; at most ``size.height`` of them."""

    def key(self, key: str, char: str | None) -> bool:
        """Do what a key does here; false if it does nothing."""
        del char
        if key in BACK_KEYS:
            self.desk.close()
            return True
        return False

    def click(self, x: int, y: int, size: PageSize, *, is_double: bool) -> None:  # noqa: B027 - most pages need none
        """The mouse was pressed."""

    def wheel(self, lines: int) -> None:  # noqa: B027
        """The wheel was turned."""

    def on_close(self) -> None:  # noqa: B027
        """The page is no longer open."""

    # --- around the body ----------------------------------------------------------------------------------------------

    def heading(self) -> str:
        """What the page shows, for its first line."""
        return self.name

    def _head(self, size: PageSize) -> list[ScreenLine]:
        left = (Span("kvmscope top", Style.HEAD), Span(f" · {self.heading()}"))
        return [two_sided(left, self._state(), size.width, self.desk.charset, self._state_style())]

    def _foot(self, size: PageSize) -> list[ScreenLine]:
        position = self.desk.feed.position
        lines = [] if position is None else [time_line(position, size.width, self.desk.charset)]
        return [*lines, self._notice(), self._keys(size.width)]

    def _state(self) -> str:
        """Whether what is shown is live, and if not, what it is."""
        shown = self.board.shown
        simulated = " SIMULATED" if shown is not None and shown.scene.sample.simulated else ""
        return f"{simulated} {self._state_word()} "

    def _state_word(self) -> str:
        board = self.board
        if board.loss is not None:
            return "STALE"
        if board.is_paused:
            return "PAUSED"
        if self.desk.feed.position is not None:
            return "RECORDED"
        return "reading" if board.shown is None else f"every {format_seconds(self.desk.interval_s)}"

    def _state_style(self) -> Style:
        return Style.ALERT if self.board.loss is not None or self.board.is_paused else Style.PLAIN

    def _notice(self) -> ScreenLine:
        """One line for what matters beside the page: the most urgent thing first."""
        board = self.board
        if board.loss is not None:
            remedy = f"; try: {board.loss.remedy}" if board.loss.remedy else ""
            reason = printable(board.loss.reason, max_length=200)
            since = f"values are of {clock(_time_of(board.shown))}; " if board.shown else ""
            return text_line(f"source lost: {since}{reason}{remedy}", Style.PROBLEM)
        if self.desk.notice:
            return text_line(self.desk.notice, Style.WARNING)
        if board.is_paused and board.shown is not None:
            return text_line(f"paused: values are of {clock(_time_of(board.shown))}; p goes on", Style.WARNING)
        return self.notice()

    def notice(self) -> ScreenLine:
        """What the page itself has to say there."""
        shown = self.board.shown
        if shown is not None and shown.scene.sample.simulated:
            return text_line(SIMULATED, Style.ALERT)
        return text_line("")

    def _keys(self, width: int) -> ScreenLine:
        """As many keys as there is room for."""
        spans: list[Span] = []
        left = width
        for hint in self.hints:
            taken = len(hint.key) + len(hint.word) + 3
            if not hint.word or taken > left:
                continue
            spans += [Span(hint.key, Style.HEAD), Span(f" {hint.word}  ")]
            left -= taken
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
        f"Linux {host.kernel or '?'}",
        host.kvm_module,
        f"{counted(total.vms, 'VM')}, {counted(total.vcpus, 'vCPU')}",
        f"by {view.overview.source.name}",
    )
    return " · ".join(part for part in parts if part)


class ListPage(Page):
    """A page with a list: head lines, then rows of which as many are made as are visible.

    ``cursor``: the row that keys act on; None until one was chosen.
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
        """How many rows there are."""

    @abstractmethod
    def row(self, place: int, width: int) -> ScreenLine:
        """One row; whether the cursor is on it is added."""

    def above(self, width: int) -> list[ScreenLine]:
        """The lines above the rows."""
        del width
        return []

    def empty(self, width: int) -> list[ScreenLine]:
        """What stands in place of rows if there are none."""
        del width
        return []

    def enter(self, place: int) -> None:
        """A row was chosen."""

    def moved(self) -> None:
        """The cursor has moved."""

    def body(self, size: PageSize) -> list[ScreenLine]:
        above = self.above(size.width)[: size.height]
        self._above = len(above)
        self._room = max(1, size.height - len(above))
        self._settle()
        rows = range(self.first, min(self.count, self.first + self._room))
        lines = [self._placed(place, size.width) for place in rows] or self.empty(size.width)
        return [*above, *lines]

    def _placed(self, place: int, width: int) -> ScreenLine:
        line = self.row(place, width)
        return ScreenLine(line.spans, True, line.is_stale) if place == self.cursor else line

    def _settle(self) -> None:
        """Keep the cursor among the rows, and in sight."""
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
        """Move the cursor; the first key puts it on the first row that is visible."""
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
