"""The opt-in groups with their cost, counting while this page is open, and what the chosen ones count.

An active group hooks kernel events, and each event then costs time. So leaving the page switches all groups off again.
Counting needs root, or a group that root has pinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...catalog.groups import load_groups
from ...host.text import printable
from ...units import NOT_KNOWN_SIGN, format_bytes
from ...view.groups import GroupState, GroupView, group_trial_lines, group_trial_view
from ...view.text import Span, Style, fill
from ..lines import WHOLE_LINE, PageSize, ScreenLine, TableColumn, text_line
from .base import Desk, KeyHint
from .lists import TablePage

_EVENTS_SHOWN: Final = 40
_CAN_COUNT: Final = (GroupState.OFF, GroupState.PINNED)


class GroupsPage(TablePage):
    """Opt-in groups; those that are switched on count as long as the page is open."""

    name = "opt-in groups"
    columns = (
        TableColumn("", 3),
        TableColumn("group", 10),
        TableColumn("state", 8, rank=2),
        TableColumn("ns/event", 8, is_text=False, rank=1),
        TableColumn("B/VM", 5, is_text=False, rank=5),
        TableColumn("B/vCPU", 6, is_text=False, rank=6),
        TableColumn("memory", 8, is_text=False, rank=4),
        TableColumn("what it counts", 14, WHOLE_LINE, rank=3),
    )
    hints = (
        KeyHint("space", "count", "Count with this group, or stop; it counts only while this page is open."),
        KeyHint("Esc", "stop, back", "Stop counting, and go back to the previous page."),
        KeyHint("?", "help", "All keys."),
    )

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.counted: list[str] = []
        if desk.groups is not None:
            desk.groups.ask()

    def on_close(self) -> None:
        self.counted.clear()
        if self.desk.groups is not None:
            self.desk.groups.count(())

    @property
    def _groups(self) -> Sequence[GroupView]:
        offered = self.board.offered
        there = load_groups()
        if offered is None:
            return ()
        return [each for each in offered.groups if each.name in there and each.state is not GroupState.ALWAYS_READ]

    @property
    def count(self) -> int:
        return len(self._groups)

    def body(self, size: PageSize) -> list[ScreenLine]:
        """The groups, and below them what is counted."""
        if self.board.refusal is not None:
            self.counted.clear()
        table = super().body(PageSize(size.width, min(size.height, self.count + 2)))
        return [*table, *self._counts(size)][: size.height]

    def row(self, place: int, width: int) -> ScreenLine:
        group = self._groups[place]
        is_counted = group.name in self.counted
        state = "counting" if is_counted else group.state.value
        numbers = (group.ns_per_event, group.bytes_per_vm, group.bytes_per_vcpu)
        spans = (
            Span("[x]" if is_counted else "[ ]" if group.state in _CAN_COUNT else ""),
            Span(group.name, Style.HEAD),
            Span(state, Style.GOOD if is_counted else Style.PLAIN),
            *(Span(NOT_KNOWN_SIGN if number is None else f"{number:,}") for number in numbers),
            Span(format_bytes(group.total_bytes)),
            Span(self.about(place)),
        )
        return self.cells(spans, width)

    def about(self, place: int) -> str:
        group = self._groups[place]
        return group.note or load_groups()[group.name].title

    def _counts(self, size: PageSize) -> list[ScreenLine]:
        shown = self.board.shown
        if self.board.refusal is not None:
            refusal = self.board.refusal
            remedy = f"; try: {refusal.remedy}" if refusal.remedy else ""
            text = f"cannot be counted: {printable(refusal.reason, max_length=300)}{remedy}"
            return [text_line(line, Style.PROBLEM) for line in fill(text, width=size.width)]
        if not self.counted or shown is None:
            return [text_line("space counts with a group; a group that is off costs nothing", Style.DIM)]
        trial = group_trial_view(shown.scene, shown.window, self.counted, {})
        return [text_line(line) for line in group_trial_lines(trial, limit=_EVENTS_SHOWN)]

    def empty(self, width: int) -> list[ScreenLine]:
        if self.desk.groups is None:
            return [
                text_line(
                    "groups count on this host; a recording has only what was counted while it was made", Style.DIM
                )
            ]
        return [text_line("checking what this host can count …", Style.DIM)]

    def enter(self, place: int) -> None:
        group = self._groups[place]
        if group.state not in _CAN_COUNT or self.desk.groups is None:
            self.desk.notice = f"{group.name} cannot be switched on here: {group.note or group.state.value}"
            return
        if group.name in self.counted:
            self.counted.remove(group.name)
        else:
            self.counted.append(group.name)
        self.board.refusal = None
        self.desk.groups.count(self.counted)

    def key(self, key: str, char: str | None) -> bool:
        if key == "space" and self.count:
            self.enter(self.cursor or 0)
            return True
        return super().key(key, char)
