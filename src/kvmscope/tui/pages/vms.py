"""The first page: the host, one line per VM, sorted by the cost of findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ...catalog.findings import Severity
from ...host.text import printable
from ...sample import VmId
from ...units import format_seconds
from ...view.overview import VmOverview
from ...view.text import Line, Span, Style, cells, counted, fill, no_vm_line
from ...view.vm_columns import (
    HISTORY_METRIC,
    WIDE,
    VmCells,
    VmColumn,
    fitting_columns,
    metric_span,
    severity_sign,
    severity_style,
    vm_columns,
)
from ..lines import PageSize, ScreenLine, cell_line, text_line
from .base import Desk, KeyHint, ListPage, host_title

_HOST_METRICS: Final = ("exits_per_s", "vmm_returns_per_s", "halts_per_s", "halt_poll_cpus", "page_faults_per_s")
_ENDED: Final = "ENDED"


class VmsPage(ListPage):
    """All VMs. While a VM is selected or marked, VMs keep their places; Esc lets them sort again."""

    name = "VMs"
    hints = (
        KeyHint("Enter", "open", "Open the VM: its findings, its vCPUs, and each of their statistics."),
        KeyHint("/", "filter", "Show the VMs that have a text in their name, UUID, id, PID, VMM, findings or reasons."),
        KeyHint("s", "sort", "Choose the sort key of the VMs; the same key again reverses the order."),
        KeyHint("f", "columns", "Choose the columns."),
        KeyHint("d", "findings", "Findings by rule."),
        KeyHint("a", "APICv", "Whether interrupts are accelerated, and if not, why."),
        KeyHint("e", "events", "Events since the start."),
        KeyHint("g", "groups", "Opt-in counters and their cost; they count only while their page is open."),
        KeyHint("space", "mark", "Mark the VM. Marked VMs keep their places; Esc clears all marks."),
        KeyHint("p", "pause", "Freeze the screen; reading continues."),
        KeyHint("?", "help", "All keys."),
        KeyHint("q", "quit", "Leave."),
    )

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._columns: tuple[VmColumn, ...] = ()
        self._cells = self._make_cells()
        self._visible: Sequence[VmId] = ()
        self._typed: str | None = None

    # --- what is shown ------------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        return len(self._visible)

    def heading(self) -> str:
        return host_title(self.board.shown)

    def body(self, size: PageSize) -> list[ScreenLine]:
        self._visible = self.board.visible()
        self._cells = self._make_cells()
        self._follow()
        gap = self._gap(size.width)
        self._columns = fitting_columns(self._wanted, size.width, gap=gap)
        self.desk.feed.want(self._metrics)
        return super().body(size)

    def _follow(self) -> None:
        """Keep the cursor on the VM that was selected."""
        selected = self.board.selected
        if selected is None:
            self.cursor = None
        elif self.cursor is None or self.cursor >= self.count or self._visible[self.cursor] != selected:
            self.cursor = self._visible.index(selected) if selected in self._visible else None

    @property
    def _wanted(self) -> list[str]:
        """The chosen columns, without metrics that no VM here can have."""
        shown, columns = self.board.shown, vm_columns()
        return [
            key
            for key in self.desk.settings.columns
            if shown is None or not columns[key].is_metric or not shown.lacks(key)
        ]

    @property
    def _metrics(self) -> tuple[str, ...]:
        """The metrics of VMs that the page shows."""
        return (*(column.key for column in self._columns if column.is_metric), HISTORY_METRIC)

    def above(self, width: int) -> list[ScreenLine]:
        if self.board.shown is None:  # the columns depend on the first view
            return [text_line("reading the host …", Style.DIM)]
        totals = ScreenLine(self._totals(width), is_stale=self.board.loss is not None)
        return [totals, ScreenLine(self._column_heads(width))]

    def _totals(self, width: int) -> Line:
        """The host in numbers: findings by severity, and a few metrics."""
        shown = self.board.shown
        assert shown is not None
        spans = [Span("all VMs  ", Style.HEAD), *self._finding_counts()]
        total = shown.overview.total
        for name in _HOST_METRICS:
            value = metric_span(name, total.metrics.get(name), is_partial=name in total.partial)
            more = [Span(f"  {vm_columns()[name].title} "), Span(value.text, Style.HEAD)]
            if self._cells_of((*spans, *more)) <= width:
                spans += more
        values = self.board.history.of_host(HISTORY_METRIC)
        room = min(60, width - self._cells_of(tuple(spans)) - 2)
        if room >= 10:
            levels = self.desk.charset.levels
            spans.append(Span("  " + self.board.history.sparkline(values, room, levels=levels)))
        return tuple(spans)

    def _cells_of(self, line: Line) -> int:
        """The width of a line in the characters of the terminal, in cells."""
        return sum(cells(self.desk.charset.text(span.text)) for span in line)

    def _finding_counts(self) -> list[Span]:
        counts = {severity: self.board.troubles.counts.get(severity, 0) for severity in reversed(Severity)}
        return [
            Span(f"{severity_sign(severity)} {number}  ", severity_style(severity) if number else Style.DIM)
            for severity, number in counts.items()
        ]

    def _column_heads(self, width: int) -> Line:
        by = self.desk.settings.sort
        arrow = self.desk.charset.one_cell("▲" if self.desk.settings.is_upside_down else "▼")
        heads, is_marked = [], False
        for column in self._columns:
            is_sort = column.sorts_by == by and not is_marked
            is_marked = is_marked or is_sort
            heads.append(Span(f"{arrow}{column.title}" if is_sort else column.title, Style.HEAD))
        return self._line(heads, width)

    def row(self, place: int, width: int) -> ScreenLine:
        vm = self._visible[place]
        found = self.board.vm(vm)
        if found is None:  # a filter may keep a VM that is gone by now
            return text_line("")
        is_ended = self.board.is_ended(vm)
        spans = [self._cell(column, found, is_ended=is_ended) for column in self._columns]
        return ScreenLine(self._line(spans, width), is_stale=is_ended or self.board.loss is not None)

    def _cell(self, column: VmColumn, vm: VmOverview, *, is_ended: bool) -> Span:
        if column.key == "mark":
            return Span("*" if vm.id in self.board.marked else " ", Style.HEAD)
        if column.key == "finding" and is_ended:
            return Span(_ENDED, Style.ALERT)
        return self._cells.cell(column, vm)

    def _make_cells(self) -> VmCells:
        return VmCells(self.board.troubles.of_vm, self.board.history, self.desk.charset.levels)

    def _line(self, spans: Sequence[Span], width: int) -> Line:
        widths = [column.width for column in self._columns]
        is_text = [column.is_text for column in self._columns]
        return cell_line(spans, widths, is_text, self.desk.charset, gap=self._gap(width))

    @staticmethod
    def _gap(width: int) -> int:
        return 2 if width >= WIDE else 1

    def empty(self, width: int) -> list[ScreenLine]:
        shown = self.board.shown
        if shown is None:
            return []
        if self.board.filter:
            return [text_line(f"no VM has '{printable(self.board.filter)}'; Esc clears the filter", Style.DIM)]
        text = no_vm_line(shown.overview.source.name, shown.overview.gaps)
        return [text_line(line, Style.DIM) for line in fill(text, width=width, hang="")]

    def notice(self) -> ScreenLine:
        if self._typed is not None:
            return ScreenLine((Span("filter: ", Style.HEAD), Span(f"{printable(self._typed)}_")))
        selected = self.board.selected
        found = None if selected is None else self.board.vm(selected)
        if found is not None:
            return text_line(self._about(found), Style.PLAIN)
        if self.board.marked:
            return text_line(f"{counted(len(self.board.marked), 'VM')} marked; VMs keep their places until Esc")
        if self.board.filter:
            return text_line(
                f"filter: {printable(self.board.filter)}  ({self.count:,} of {len(self.board.order):,} VMs)"
            )
        return super().notice()

    def _about(self, vm: VmOverview) -> str:
        """A summary of the selected VM."""
        if self.board.is_ended(vm.id):
            return f"{printable(vm.name)} has ended: its last values"
        if vm.silent_s is not None:
            return f"{printable(vm.name)}: its VMM has not answered for {format_seconds(vm.silent_s)}"
        trouble = self.board.troubles.of_vm.get(vm.id)
        if trouble is None:
            return f"{printable(vm.name)}: no findings; VMs keep their places until Esc"
        return f"{printable(vm.name)}: {trouble.title} [{trouble.rule}]"

    # --- keys ---------------------------------------------------------------------------------------------------------

    def moved(self) -> None:
        self.board.select(None if self.cursor is None else self._visible[self.cursor])

    def enter(self, place: int) -> None:
        from .vm import VmPage

        self.desk.open(VmPage(self.desk, self._visible[place]))

    def key(self, key: str, char: str | None) -> bool:
        if self._typed is not None:
            self._type(key, char)
            return True
        if key in ("escape", "left", "backspace"):
            self._let_go()
        elif key == "slash":
            self._typed = self.board.filter
        elif key == "space" and self.count:
            self._toggle_mark()
        elif key == "q":
            self.desk.has_left = True
        else:
            return super().key(key, char)
        return True

    def _let_go(self) -> None:
        """Esc: release the order if it is held, else clear the filter."""
        if self.board.holds_order:
            self.board.release()
        elif self.board.filter:
            self.board.filter = ""
        self.cursor, self.first = None, 0

    def _toggle_mark(self) -> None:
        vm = self._visible[self.cursor or 0]
        self.board.marked ^= {vm}
        self.move(1) if self.cursor is not None else self.set_cursor(0)

    def _type(self, key: str, char: str | None) -> None:
        assert self._typed is not None
        if key == "enter":
            self.board.filter, self._typed = self._typed, None
        elif key == "escape":
            self.board.filter, self._typed = "", None
        else:
            if key == "backspace":
                self._typed = self._typed[:-1]
            elif char is not None and char.isprintable():
                self._typed += char
            self.board.filter = self._typed
        self.first = 0

    def sort_by(self, key: str) -> None:
        """Sort by ``key``; the same key again reverses the order."""
        settings = self.desk.settings
        is_again = settings.sort == key
        self.desk.change(replace(settings, sort=key, is_upside_down=is_again and not settings.is_upside_down))
        self.board.sort(is_asked=True)

    def click(self, x: int, y: int, size: PageSize, *, is_double: bool) -> None:
        """Handle a mouse click; one on the header of a column sorts by it."""
        if y == 1 + self._above - 1:
            self._click_head(x, size.width)
        else:
            super().click(x, y, size, is_double=is_double)

    def _click_head(self, x: int, width: int) -> None:
        left = 0
        for column in self._columns:
            if left <= x < left + column.width and column.sorts_by:
                self.sort_by(column.sorts_by)
            left += column.width + self._gap(width)
