"""Pages of text that scrolls: a rule's findings, a VM's findings, the verdict on interrupts, the help."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ...catalog.findings import Rule
from ...host.text import printable
from ...sample import VmId
from ...view.apicv import ApicvView
from ...view.apicv_text import apicv_nodes
from ...view.doctor_text import rule_report_lines
from ...view.findings_text import finding_lines
from ...view.text import Style, cells, fill
from ...view.tree import TextNode
from ...view.vm_columns import severity_style
from ..lines import PageSize, ScreenLine, text_line
from .base import Desk, KeyHint, Page

_NOT_SHOWN = "reading the host …"
_ONE_VM = "a on the page of a VM shows its evidence"


class TextPage(Page):
    """Lines that scroll."""

    hints = (
        KeyHint("arrows", "scroll", "Scroll; also PgUp, PgDn, Home, End and the wheel."),
        KeyHint("p", "pause", "Freeze the screen; reading continues."),
        KeyHint("Esc", "back", "Back to the previous page."),
        KeyHint("?", "help", "All keys."),
    )

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.first = 0
        self._room = 1
        self._count = 0

    @abstractmethod
    def lines(self, width: int) -> Iterable[ScreenLine]:
        """The whole text for a width."""

    def body(self, size: PageSize) -> list[ScreenLine]:
        lines = list(self.lines(size.width))
        self._room, self._count = max(1, size.height), len(lines)
        self.first = max(0, min(self.first, self._count - self._room))
        return lines[self.first : self.first + self._room]

    def key(self, key: str, char: str | None) -> bool:
        page = max(1, self._room - 1)
        steps = {"up": -1, "down": 1, "pageup": -page, "pagedown": page, "home": -self._count, "end": self._count}
        if key not in steps:
            return super().key(key, char)
        self.wheel(steps[key])
        return True

    def wheel(self, lines: int) -> None:
        self.first = max(0, min(self.first + lines, self._count - self._room))

    def notice(self) -> ScreenLine:
        if self._count > self._room:
            last = min(self._count, self.first + self._room)
            return text_line(f"lines {self.first + 1} to {last} of {self._count:,}", Style.DIM)
        return super().notice()


class RulePage(TextPage):
    """All findings of one rule, with its impact and fixes."""

    name = "findings"

    def __init__(self, desk: Desk, rule: Rule) -> None:
        super().__init__(desk)
        self.rule = rule

    def heading(self) -> str:
        return f"findings of {self.rule.slug} ({self.rule.severity.value})"

    def lines(self, width: int) -> Iterator[ScreenLine]:
        shown = self.board.shown
        if shown is None:
            yield text_line(_NOT_SHOWN, Style.DIM)
            return
        report = shown.report(rule=self.rule.slug)
        yield from map(text_line, rule_report_lines(report, self.rule, width=width))


class VmFindingsPage(TextPage):
    """The findings of one VM, each with its impact and fixes."""

    name = "findings"

    def __init__(self, desk: Desk, vm: VmId) -> None:
        super().__init__(desk)
        self.vm = vm

    def heading(self) -> str:
        found = self.board.vm(self.vm)
        return f"findings of {printable(found.name) if found else self.vm}"

    @property
    def has_ended(self) -> bool:
        return self.board.is_ended(self.vm)

    def lines(self, width: int) -> Iterator[ScreenLine]:
        view = self.board.view_of(self.vm)
        findings = [] if view is None else [each for each in view.findings if each.vm == self.vm]
        if not findings:
            yield text_line("no findings", Style.DIM)
        for finding in findings:
            first, *rest = finding_lines(finding, width=width)
            yield text_line(first, severity_style(finding.severity))
            yield from map(text_line, rest)
            yield text_line("")


class ApicvPage(TextPage):
    """Whether interrupts are accelerated: of one VM with all its evidence, or of all VMs."""

    name = "interrupt acceleration (APICv, AVIC)"

    def __init__(self, desk: Desk, vm: VmId | None = None) -> None:
        super().__init__(desk)
        self.vm = vm

    def heading(self) -> str:
        found = None if self.vm is None else self.board.vm(self.vm)
        return self.name if found is None else f"APICv/AVIC of {printable(found.name)}"

    @property
    def has_ended(self) -> bool:
        return self.vm is not None and self.board.is_ended(self.vm)

    def lines(self, width: int) -> Iterator[ScreenLine]:
        view = self.board.shown if self.vm is None else self.board.view_of(self.vm)
        if view is None:
            yield text_line(_NOT_SHOWN, Style.DIM)
            return
        apicv = view.apicv if self.vm is None else _of_vm(view.apicv, self.vm)
        yield from node_lines(apicv_nodes(apicv, each_vm=self.vm is not None, one_vm=_ONE_VM), width)


def _of_vm(view: ApicvView, vm: VmId) -> ApicvView:
    return replace(view, vms=tuple(each for each in view.vms if each.id == vm))


def node_lines(nodes: Iterable[TextNode], width: int, depth: int = 0) -> Iterator[ScreenLine]:
    """A tree, indented by depth; a long line is wrapped and indented further."""
    for node in nodes:
        indent = "  " * depth
        for line in fill(node.text, indent, width=width) or [indent]:
            yield text_line(line, node.style)
        yield from node_lines(node.below, width, depth + 1)


class HelpPage(TextPage):
    """The keys of the page that was open, those of all pages, and what the signs mean."""

    name = "help"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        page = desk.page
        self._title, self._hints_of_page = page.name, tuple(page.hints_here)

    def lines(self, width: int) -> Iterator[ScreenLine]:
        yield text_line(f"Keys of the page: {self._title}", Style.HEAD)
        yield from _key_lines(self._hints_of_page, width)
        yield text_line("")
        yield text_line("Keys of every page", Style.HEAD)
        yield from _key_lines(_EVERYWHERE, width)
        for heading, text in _SIGNS:
            yield text_line("")
            yield text_line(heading, Style.HEAD)
            yield from map(text_line, fill(text, "  ", hang="", width=width))


def _key_lines(hints: Sequence[KeyHint], width: int) -> Iterator[ScreenLine]:
    longest = max(cells(hint.key) for hint in hints)
    for hint in hints:
        indent = " " * (longest + 4)
        first, *rest = fill(hint.help, indent, hang="", width=width)
        yield text_line(f"  {hint.key:<{longest}}  {first.strip()}")
        yield from map(text_line, rest)


_EVERYWHERE = (
    KeyHint(
        "Up Down", "", "Move; also PgUp, PgDn, Home, End, j, k, the mouse and its wheel. Right opens as Enter does."
    ),
    KeyHint("Esc Left q", "", "Back to the previous page; q on the first page ends top."),
    KeyHint("t", "", "Next theme: two with the terminal's own 16 colours, dark, light."),
    KeyHint("Ctrl-C", "", "Leave."),
)
_SIGNS = (
    (
        "Order",
        "VMs whose findings cost the most CPU time come first, then those whose vCPUs lose the most wall time, then "
        "those with the most exits. The table is sorted at each interval. While a VM is selected or marked, every VM "
        "keeps its line and new VMs come at the end; Esc lets the table sort again.",
    ),
    (
        "Signs",
        "!! problem, ! warning, i info. – is an unknown value; it is never shown as 0. ≥ is a minimum and ~ "
        "an estimate: some vCPUs are unknown. ENDED: the VM has ended, and its values are the last ones. STALE: the "
        "source is lost, and all values are from before. A blank in a sparkline is an interval that is not "
        "known. Times of day are UTC.",
    ),
    ("Nothing is changed", "No key changes a VM, a VMM or a setting of the host."),
)
