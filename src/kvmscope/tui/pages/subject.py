"""One VM or vCPU: a line for each metric and statistic; and the page of one of them with its history and meaning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final

from ...units import NOT_KNOWN_SIGN, format_seconds
from ...view.explain import Explanation, caveat_lines, meaning_lines
from ...view.explain.metrics import MetricExplanation
from ...view.explain.stats import StatExplanation
from ...view.histogram import histogram_lines
from ...view.history import chart_lines, largest_known
from ...view.measurands import (
    Measurand,
    explanation_of,
    measurands_of,
    now_text,
    reading_text,
    recent_histogram,
    value_of,
    values_of,
)
from ...view.subjects import FollowedVm
from ...view.text import Span, Style, counted
from ...view.watch import HostView
from ..lines import ScreenLine, TableColumn, text_line
from .base import Desk, KeyHint, clock
from .lists import TablePage
from .texts import TextPage

_CHART_HEIGHT: Final = 6
_CHART_LABEL: Final = 12


class SubjectPage(TablePage):
    """Every metric and statistic of a VM or vCPU."""

    name = "statistics"
    columns = (
        TableColumn("statistic", 22, 36),
        TableColumn("now", 24, is_text=False),
        TableColumn("kind", 14, rank=1),
        TableColumn("stability", 10, rank=2),
        TableColumn("by", 8, 24, rank=3),
    )
    hints = (
        KeyHint("Enter", "open", "Open it: history, histogram, meaning, and the caveats that hold here."),
        KeyHint("/", "filter", "Show only names with this text."),
        KeyHint("z", "zeros", "Hide zeros and unknown values, or show them."),
        *TablePage.hints[1:],
    )

    def __init__(self, desk: Desk, subject: FollowedVm) -> None:
        super().__init__(desk)
        self.subject = subject
        self._typed: str | None = None
        self._filter = ""
        self._hides_zeros = False
        self._listed: tuple[int, list[Measurand]] | None = None

    @property
    def _view(self) -> HostView | None:
        return self.board.view_of(self.subject.id)

    def heading(self) -> str:
        return f"statistics of {self.subject.title}"

    @property
    def has_ended(self) -> bool:
        return self.board.is_ended(self.subject.id)

    @cached_property
    def _measurands(self) -> Sequence[Measurand]:
        view = self._view
        return () if view is None else measurands_of(view.scene, is_vcpu=self.subject.vcpu is not None)

    @property
    def _rows(self) -> Sequence[Measurand]:
        view = self._view
        if view is None:
            return ()
        if not self._filter and not self._hides_zeros:
            return self._measurands
        if self._listed is None or self._listed[0] != id(view):
            self._listed = id(view), [each for each in self._measurands if self._passes(view, each)]
        return self._listed[1]

    def _passes(self, view: HostView, measure: Measurand) -> bool:
        if self._filter.casefold() not in f"{measure.name} {measure.title}".casefold():
            return False
        return not self._hides_zeros or bool(value_of(view, measure, self.subject, measure.main))

    @property
    def count(self) -> int:
        return len(self._rows)

    def row(self, place: int, width: int) -> ScreenLine:
        measure, view = self._rows[place], self._view
        text = NOT_KNOWN_SIGN if view is None else now_text(view, measure, self.subject)
        style = Style.DIM if text[:1] in ("0", NOT_KNOWN_SIGN) else Style.PLAIN
        name = measure.title if measure.is_metric else measure.name
        by = "metric" if measure.is_metric else measure.provider
        spans = (Span(name, Style.HEAD), Span(text, style), Span(measure.kind), Span(measure.stability), Span(by))
        return ScreenLine(self.cells(spans, width).spans, is_stale=_is_stale(self))

    def enter(self, place: int) -> None:
        self.desk.open(StatPage(self.desk, self.subject, self._rows[place]))

    def empty(self, width: int) -> list[ScreenLine]:
        return [text_line("nothing to show; / changes the filter, z shows zeros", Style.DIM)]

    def notice(self) -> ScreenLine:
        if self._typed is not None:
            return ScreenLine((Span("filter: ", Style.HEAD), Span(f"{self._typed}_")))
        hidden = len(self._measurands) - self.count
        return text_line(f"{hidden} are left out") if hidden else super().notice()

    def key(self, key: str, char: str | None) -> bool:
        if self._typed is not None:
            self._type(key, char)
        elif key == "slash":
            self._typed = self._filter
        elif key == "z":
            self._hides_zeros, self._listed, self.cursor = not self._hides_zeros, None, None
        elif key == "escape" and self._filter:
            self._filter, self._listed = "", None
        else:
            return super().key(key, char)
        return True

    def _type(self, key: str, char: str | None) -> None:
        assert self._typed is not None
        self._listed, self.cursor = None, None
        if key in ("enter", "escape"):
            self._filter, self._typed = self._typed if key == "enter" else "", None
            return
        if key == "backspace":
            self._typed = self._typed[:-1]
        elif char is not None and char.isprintable():
            self._typed += char
        self._filter = self._typed


class StatPage(TextPage):
    """One metric or statistic of a VM or vCPU: its value, the last minutes, its histogram, and its meaning here."""

    name = "statistic"

    def __init__(self, desk: Desk, subject: FollowedVm, measure: Measurand) -> None:
        super().__init__(desk)
        self.subject = subject
        self.measure = measure
        self._known: dict[int, tuple[HostView, float | None]] = {}

    def heading(self) -> str:
        return f"{self.measure.name} of {self.subject.title}"

    @property
    def has_ended(self) -> bool:
        return self.board.is_ended(self.subject.id)

    def lines(self, width: int) -> Iterator[ScreenLine]:
        view = self.board.view_of(self.subject.id)
        if view is None:
            yield text_line("there is no history of this VM", Style.DIM)
            return
        is_stale = _is_stale(self)
        now = now_text(view, self.measure, self.subject)
        label = "last" if is_stale else "now"
        kind = ", ".join(filter(None, (self.measure.kind, self.measure.stability)))
        yield ScreenLine(
            (Span(f"{label}: ", Style.HEAD), Span(now, Style.HEAD), Span(f"  ({kind})")), is_stale=is_stale
        )
        yield text_line("")
        yield from self._chart(width, is_stale)
        yield from self._histogram(width)
        yield from self._meaning(width)

    def _views(self) -> Sequence[HostView]:
        """The kept views up to the one on the screen."""
        views = list(self.board.views)
        shown = self.board.view_of(self.subject.id)
        return views[: views.index(shown) + 1] if shown in views else views

    def _chart(self, width: int, is_stale: bool) -> Iterator[ScreenLine]:
        views = self._views()
        values = self._values(views)
        room = width - _CHART_LABEL - 1
        if not views or room < 1:
            return
        span_s = sum(view.window.interval_s for view in views[-room:])
        reading = self.measure.main
        top = reading_text(self.measure, reading, largest_known(values[-room:]))
        yield text_line(f"the last {format_seconds(span_s)}, {counted(len(values[-room:]), 'interval')}", Style.HEAD)
        lines = chart_lines(values, room, _CHART_HEIGHT, levels=self.desk.charset.levels)
        for place, line in enumerate(lines):
            label = top if place == 0 else "0" if place == len(lines) - 1 else ""
            yield ScreenLine((Span(f"{label:>{_CHART_LABEL}} "), Span(line)), is_stale=is_stale)
        times = f"{clock(views[-len(values[-room:])].overview.time)} to {clock(views[-1].overview.time)}"
        yield text_line(" " * (_CHART_LABEL + 1) + f"{times:>{room}}", Style.DIM)

    def _values(self, views: Sequence[HostView]) -> list[float | None]:
        """The main reading in each view; computed values are cached."""
        new = [view for view in views if id(view) not in self._known]
        for view, value in zip(new, values_of(new, self.measure, self.subject), strict=True):
            self._known[id(view)] = view, value
        self._known = {id(view): self._known[id(view)] for view in views}
        return [self._known[id(view)][1] for view in views]

    def _histogram(self, width: int) -> Iterator[ScreenLine]:
        found = recent_histogram(self._views(), self.measure, self.subject)
        if found is None:
            return
        yield text_line("")
        yield from map(text_line, histogram_lines(found))

    def _meaning(self, width: int) -> Iterator[ScreenLine]:
        found = self._explanation
        if found is None:
            return
        yield text_line("")
        yield from map(text_line, meaning_lines(found, width=width))
        if isinstance(found, StatExplanation | MetricExplanation):
            yield from map(text_line, caveat_lines(found.caveats, width))

    @cached_property
    def _explanation(self) -> Explanation | None:
        view = self.board.view_of(self.subject.id)
        return None if view is None else explanation_of(view, self.measure)


def _is_stale(page: SubjectPage | StatPage) -> bool:
    return page.board.loss is not None or page.has_ended
