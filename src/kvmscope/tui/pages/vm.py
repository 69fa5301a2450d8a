"""One VM: its findings, a line for the whole VM, and a line for each of its vCPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...catalog.metrics import Metric, load_metrics
from ...host.text import printable
from ...sample import VmId
from ...schema import Scope
from ...units import NOT_KNOWN_SIGN
from ...view.findings import ReportedFinding
from ...view.findings_text import summary
from ...view.overview import VcpuOverview, VmOverview
from ...view.overview_text import apicv_text
from ...view.subjects import FollowedVm
from ...view.text import Span, Style, fill
from ...view.vm_columns import DEFAULT_COLUMNS, metric_span, severity_style, vm_columns
from ...view.watch import HostView
from ..lines import ScreenLine, cell_line, text_line
from ..settings import Settings
from .base import Desk, KeyHint, ListPage, clock
from .subject import SubjectPage
from .texts import ApicvPage, VmFindingsPage

_FINDINGS_SHOWN: Final = 4
_GAP: Final = 2
_ACTIVE: Final = {True: "yes", False: "no", None: NOT_KNOWN_SIGN}


class VmPage(ListPage):
    """A VM and its vCPUs. After the VM ended, the page shows its last values."""

    name = "VM"
    hints = (
        KeyHint("Enter", "statistics", "Open the statistics and metrics of the VM or of a vCPU."),
        KeyHint("a", "APICv", "Whether its interrupts are accelerated, and if not, why."),
        KeyHint("d", "findings", "Its findings with impact, fix and trade-off."),
        KeyHint("p", "pause", "Freeze the screen; reading continues."),
        KeyHint("Esc", "back", "Back to the previous page."),
        KeyHint("?", "help", "All keys."),
    )

    def __init__(self, desk: Desk, vm: VmId) -> None:
        super().__init__(desk)
        self.vm = vm
        self._chosen: tuple[int, HostView | None, Settings, Sequence[Metric]] | None = None
        desk.board.opened = vm

    def on_close(self) -> None:
        self.board.opened = None

    def enter(self, place: int) -> None:
        found = self._overview
        if found is not None:
            vcpu = None if place == 0 else found.vcpus[place - 1].id
            self.desk.open(SubjectPage(self.desk, FollowedVm(self.vm, found.name, vcpu)))

    def key(self, key: str, char: str | None) -> bool:
        if key == "d":
            self.desk.open(VmFindingsPage(self.desk, self.vm))
        elif key == "a":
            self.desk.open(ApicvPage(self.desk, self.vm))
        else:
            return super().key(key, char)
        return True

    # --- what is shown ------------------------------------------------------------------------------------------------

    @property
    def _view(self) -> HostView | None:
        return self.board.view_of(self.vm)

    @property
    def _overview(self) -> VmOverview | None:
        return self.board.vm(self.vm)

    @property
    def has_ended(self) -> bool:
        return self.board.is_ended(self.vm)

    @property
    def count(self) -> int:
        found = self._overview
        return 0 if found is None else 1 + len(found.vcpus)

    def heading(self) -> str:
        found = self._overview
        if found is None:
            return "the VM has ended"
        parts = (
            printable(found.name),
            printable(found.uuid) if found.uuid else None,
            printable(found.vmm, max_length=16) if found.vmm else None,
            f"pid {found.pid}" if found.pid is not None else None,
            f"APICv {apicv_text(found.apicv, is_wide=True)}",
        )
        return " · ".join(part for part in parts if part)

    def above(self, width: int) -> list[ScreenLine]:
        found = self._overview
        if found is None:
            return [text_line("there is no history of it", Style.DIM)]
        lines = self._end_lines()
        findings = self._findings
        for finding in findings[:_FINDINGS_SHOWN]:
            text = summary(finding, printable(found.name))
            lines += [text_line(line, severity_style(finding.severity)) for line in fill(text, width=width)]
        if len(findings) > _FINDINGS_SHOWN:
            lines.append(text_line(f"… and {len(findings) - _FINDINGS_SHOWN} more; d shows all", Style.DIM))
        if not findings:
            lines.append(text_line("no findings", Style.DIM))
        heads = ["vCPU", "TID", "APICv", *(metric.title for metric in self._metrics(width))]
        return [*lines, text_line(""), ScreenLine(self._line([Span(head, Style.HEAD) for head in heads], width))]

    def _end_lines(self) -> list[ScreenLine]:
        if not self.has_ended:
            return []
        ended = self.board.ended.get(self.vm)
        when = f" by {clock(ended.seen)}" if ended else ""
        return [text_line(f"ENDED{when}: all values are the last ones", Style.ALERT)]

    @property
    def _findings(self) -> Sequence[ReportedFinding]:
        view = self._view
        return [] if view is None else [finding for finding in view.findings if finding.vm == self.vm]

    def row(self, place: int, width: int) -> ScreenLine:
        found = self._overview
        assert found is not None
        spans = self._vm_cells(found, width) if place == 0 else self._vcpu_cells(found.vcpus[place - 1], width)
        return ScreenLine(self._line(spans, width), is_stale=self.has_ended or self.board.loss is not None)

    def _vm_cells(self, vm: VmOverview, width: int) -> list[Span]:
        metrics = [
            metric_span(each.name, vm.metrics.get(each.name), is_partial=each.name in vm.partial)
            for each in self._metrics(width)
        ]
        return [Span("all", Style.HEAD), Span(""), Span(apicv_text(vm.apicv, is_wide=False)), *metrics]

    def _vcpu_cells(self, vcpu: VcpuOverview, width: int) -> list[Span]:
        tid = NOT_KNOWN_SIGN if vcpu.tid is None else str(vcpu.tid)
        metrics = [metric_span(each.name, vcpu.metrics.get(each.name)) for each in self._metrics(width)]
        return [Span(str(vcpu.id)), Span(tid), Span(_ACTIVE[vcpu.apicv_active]), *metrics]

    def _metrics(self, width: int) -> Sequence[Metric]:
        """The metrics of vCPUs that fit: the columns of the first page, then all others."""
        view, settings = self._view, self.desk.settings
        if self._chosen is None or self._chosen[:3] != (width, view, settings):
            self._chosen = width, view, settings, self._choose(width)
        return self._chosen[3]

    def _choose(self, width: int) -> Sequence[Metric]:
        of_vcpus = {metric.name: metric for metric in load_metrics() if metric.scope is Scope.VCPU}
        keys = dict.fromkeys((*self.desk.settings.columns, *DEFAULT_COLUMNS, *of_vcpus))
        left, chosen = width - sum(_HEAD_WIDTHS) - 2 * _GAP, []
        for key in keys:
            metric = of_vcpus.get(key)
            if metric is None or (self._view is not None and self._view.lacks(key)):
                continue
            if vm_columns()[key].width + _GAP <= left:
                left -= vm_columns()[key].width + _GAP
                chosen.append(metric)
        return chosen

    def _line(self, spans: Sequence[Span], width: int) -> tuple[Span, ...]:
        widths = [*_HEAD_WIDTHS, *(vm_columns()[metric.name].width for metric in self._metrics(width))]
        is_text = [True, False, True, *([False] * (len(widths) - 3))]
        return cell_line(spans, widths, is_text, self.desk.charset, gap=_GAP)


_HEAD_WIDTHS: Final = (5, 7, 6)
