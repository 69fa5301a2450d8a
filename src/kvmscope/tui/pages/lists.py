"""Pages that are lists: the findings by rule, the events, the columns, and the sort keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

from ...catalog.findings import load_findings
from ...units import NOT_KNOWN_SIGN, format_seconds
from ...view.events import HostEvent
from ...view.findings import RuleTotal
from ...view.findings_text import cost_text
from ...view.text import Span, Style, counted, fill
from ...view.trouble import BY_COST, NAME
from ...view.vm_columns import ALWAYS, VmColumn, severity_sign, severity_style, vm_columns
from ..lines import WHOLE_LINE, ScreenLine, TableColumn, cell_line, column_widths, text_line
from ..settings import sort_keys
from .base import Desk, KeyHint, ListPage, clock
from .texts import RulePage

_GAP: Final = 2


class TablePage(ListPage):
    """A list with columns; a narrow screen shows the most important ones."""

    columns: Sequence[TableColumn] = ()
    hints: Sequence[KeyHint] = (
        KeyHint("Enter", "open", "Open the line."),
        KeyHint("p", "pause", "Freeze the screen; reading continues."),
        KeyHint("Esc", "back", "Back to the previous page."),
        KeyHint("?", "help", "All keys."),
    )

    def above(self, width: int) -> list[ScreenLine]:
        return [self.cells([Span(column.title, Style.HEAD) for column in self.columns], width)]

    def about(self, place: int) -> str:
        """The full text of a row whose line may be too short for it; empty if the line has all of it."""
        del place
        return ""

    def notices(self, width: int) -> list[ScreenLine]:
        if self.cursor is not None and self.cursor < self.count and (text := self.about(self.cursor)):
            return [text_line(line) for line in fill(text, width=width, hang="")]
        return super().notices(width)

    def cells(self, spans: Sequence[Span], width: int) -> ScreenLine:
        """A line of the table, made of one cell per column."""
        widths = column_widths(self.columns, width, gap=_GAP)
        shown = [place for place, each in enumerate(widths) if each]
        return ScreenLine(
            cell_line(
                [spans[place] for place in shown],
                [widths[place] for place in shown],
                [self.columns[place].is_text for place in shown],
                self.desk.charset,
                gap=_GAP,
            )
        )


class FindingsPage(TablePage):
    """The total of each rule of the doctor, the most urgent first."""

    name = "findings by rule"
    columns = (
        TableColumn("", 2),
        TableColumn("rule", 12, 24),
        TableColumn("what it says", 10, WHOLE_LINE, rank=1),
        TableColumn("VMs", 5, is_text=False, rank=2),
        TableColumn("vCPUs", 5, is_text=False, rank=4),
        TableColumn("costs", 9, is_text=False, rank=3),
        TableColumn("for", 7, is_text=False, rank=5),
    )

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._made: tuple[int, Sequence[RuleTotal]] | None = None

    @property
    def _totals(self) -> Sequence[RuleTotal]:
        return () if self.board.shown is None else self._of(id(self.board.shown))

    def _of(self, view: int) -> Sequence[RuleTotal]:
        """The totals of the view on the screen, made once."""
        if self._made is None or self._made[0] != view:
            assert self.board.shown is not None
            self._made = view, self.board.shown.report().by_rule
        return self._made[1]

    @property
    def count(self) -> int:
        return len(self._totals)

    def row(self, place: int, width: int) -> ScreenLine:
        total = self._totals[place]
        spans = (
            Span(severity_sign(total.severity), severity_style(total.severity)),
            Span(total.rule, severity_style(total.severity)),
            Span(total.title),
            Span(f"{total.vms:,}"),
            Span(NOT_KNOWN_SIGN if total.vcpus is None else f"{total.vcpus:,}"),
            Span(cost_text(total).removeprefix("about ").removesuffix(" of wall time")),
            Span(format_seconds(total.since_s)),
        )
        return self.cells(spans, width)

    def about(self, place: int) -> str:
        total = self._totals[place]
        return f"{total.title} [{total.rule}]"

    def empty(self, width: int) -> list[ScreenLine]:
        return [text_line(f"nothing found by {counted(len(load_findings()), 'rule')}", Style.DIM)]

    def enter(self, place: int) -> None:
        slug = self._totals[place].rule
        self.desk.open(RulePage(self.desk, next(rule for rule in load_findings() if rule.slug == slug)))


class EventsPage(TablePage):
    """The events since the start, the newest first."""

    name = "events"
    columns = (
        TableColumn("time", 8),
        TableColumn("event", 14, rank=2),
        TableColumn("VM", 10, 20),
        TableColumn("what happened", 12, WHOLE_LINE, rank=1),
    )
    hints = (
        KeyHint("Enter", "open", "Open the VM of the event, if it still exists."),
        *TablePage.hints[1:],
    )

    @property
    def _events(self) -> Sequence[HostEvent]:
        return self.board.shown_events

    @property
    def count(self) -> int:
        return len(self._events)

    def heading(self) -> str:
        return f"{self.name}: {self.count:,}"

    def _event(self, place: int) -> HostEvent:
        return self._events[self.count - 1 - place]

    def row(self, place: int, width: int) -> ScreenLine:
        event = self._event(place)
        style = Style.PLAIN if event.severity is None else severity_style(event.severity)
        spans = (Span(clock(event.time)), Span(event.kind.value, style), Span(event.name), Span(event.text))
        return self.cells(spans, width)

    def about(self, place: int) -> str:
        event = self._event(place)
        return f"{event.kind.value} {event.name}" + (f": {event.text}" if event.text else "")

    def empty(self, width: int) -> list[ScreenLine]:
        return [text_line("no events yet", Style.DIM)]

    def enter(self, place: int) -> None:
        from .vm import VmPage

        vm = self._event(place).vm
        if vm is not None and self.board.vm(vm) is not None:
            self.desk.open(VmPage(self.desk, vm))
        else:
            self.desk.notice = "there is no history of this VM"


class ColumnsPage(TablePage):
    """The columns of the first page: the shown ones, and their precedence if not all fit."""

    name = "columns"
    columns = (TableColumn("", 3), TableColumn("column", 12, 16), TableColumn("what it is", 20, WHOLE_LINE, rank=1))
    hints = (
        KeyHint("space", "show or hide", "Show or hide the column."),
        KeyHint("+ -", "move", "More or less important: the first columns are shown where there is no room for all."),
        KeyHint("Esc", "back", "Back to the previous page; the choice is kept."),
        KeyHint("?", "help", "All keys."),
    )

    @property
    def _shown(self) -> list[str]:
        return list(self.desk.settings.columns)

    @cached_property
    def _order(self) -> list[str]:
        """The shown columns, then the others. The order does not change while the page is open."""
        return list(dict.fromkeys((*self._shown, *(key for key in vm_columns() if key not in ALWAYS))))

    @property
    def count(self) -> int:
        return len(self._order)

    def _column(self, place: int) -> VmColumn:
        return vm_columns()[self._order[place]]

    def row(self, place: int, width: int) -> ScreenLine:
        column = self._column(place)
        sign = "[x]" if column.key in self._shown else "[ ]"
        style = Style.DIM if self._is_missing(column) else Style.PLAIN
        return self.cells((Span(sign), Span(column.title, Style.HEAD), Span(self.about(place), style)), width)

    def about(self, place: int) -> str:
        column = self._column(place)
        return f"not on this host: {column.help}" if self._is_missing(column) else column.help

    def _is_missing(self, column: VmColumn) -> bool:
        shown = self.board.shown
        return shown is not None and column.is_metric and shown.lacks(column.key)

    def enter(self, place: int) -> None:
        key = self._order[place]
        chosen = set(self._shown) ^ {key}
        self._keep(chosen)

    def key(self, key: str, char: str | None) -> bool:
        if key == "space":
            self.enter(self.cursor or 0)
            return True
        if key in ("plus", "minus"):
            self._shift(-1 if key == "plus" else 1)
            return True
        return super().key(key, char)

    def _shift(self, by: int) -> None:
        place = self.cursor or 0
        to = max(0, min(place + by, self.count - 1))
        self._order.insert(to, self._order.pop(place))
        self.cursor = to
        self._keep(set(self._shown))

    def _keep(self, chosen: set[str]) -> None:
        columns = tuple(key for key in self._order if key in chosen)
        self.desk.change(replace(self.desk.settings, columns=columns))


class SortPage(TablePage):
    """The keys by which VMs can be sorted."""

    name = "sort by"
    columns = (TableColumn("", 1), TableColumn("sort by", 12, 16), TableColumn("what it is", 20, WHOLE_LINE, rank=1))
    hints = (
        KeyHint("Enter", "sort", "Sort by this; the present key reverses the order."),
        KeyHint("Esc", "back", "Back to the previous page."),
        KeyHint("?", "help", "All keys."),
    )

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.cursor = sort_keys().index(desk.settings.sort)

    @property
    def count(self) -> int:
        return len(sort_keys())

    def row(self, place: int, width: int) -> ScreenLine:
        key = sort_keys()[place]
        settings = self.desk.settings
        mark = self.desk.charset.one_cell("▲" if settings.is_upside_down else "▼") if key == settings.sort else ""
        title, text = _sort_text(key)
        return self.cells((Span(mark), Span(title, Style.HEAD), Span(text)), width)

    def about(self, place: int) -> str:
        return _sort_text(sort_keys()[place])[1]

    def enter(self, place: int) -> None:
        settings, key = self.desk.settings, sort_keys()[place]
        is_again = settings.sort == key
        self.desk.change(replace(settings, sort=key, is_upside_down=is_again and not settings.is_upside_down))
        self.board.sort(is_asked=True)
        self.desk.close()


def _sort_text(key: str) -> tuple[str, str]:
    """The title and the description of a sort key."""
    return _OWN_SORTS.get(key) or (vm_columns()[key].title, vm_columns()[key].help)


_OWN_SORTS: Final = {
    BY_COST: ("findings", "CPU time that its findings cost, then wall time that its vCPUs lose, then exits."),
    NAME: ("name", "Name of the VM."),
}
