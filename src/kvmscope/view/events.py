"""The events of a host in order: VMs that came and ended, findings that began and ended, changes of interrupt
acceleration, statistics that were reset, and a source that was lost and came back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ..analysis.apicv import State
from ..analysis.findings import Finding
from ..catalog.findings import Severity
from ..host.text import printable
from ..sample import VmId
from ..scene import Scene
from ..schema import Scope
from .text import counted, few
from .values import Moment
from .watch import HostView

_STATES: Final = {
    State.ACTIVE: "active",
    State.PENDING: "not active yet",
    State.INHIBITED: "inhibited",
    State.UNSUPPORTED: "not supported",
    State.UNKNOWN: "unknown",
}


class EventKind(Enum):
    """The kind of an event."""

    VM_CAME = "VM started"
    VM_ENDED = "VM ended"
    FINDING_BEGAN = "finding began"
    FINDING_ENDED = "finding ended"
    APICV_CHANGED = "APICv changed"
    STATS_RESET = "stats reset"
    SOURCE_LOST = "source lost"
    SOURCE_BACK = "source back"


@dataclass(frozen=True, slots=True)
class HostEvent:
    """One event. ``time``: time of the sample that showed it. ``name``: the VM's name, fit for a terminal."""

    time: Moment
    kind: EventKind
    text: str
    vm: VmId | None = None
    name: str = ""
    severity: Severity | None = None


class EventWatch:
    """Finds the events that each view of a host adds. It must be given every view, in order."""

    def __init__(self) -> None:
        self._apicv: Mapping[VmId, tuple[State, tuple[str, ...]]] = {}
        self._last: Scene | None = None

    def add(self, view: HostView) -> tuple[HostEvent, ...]:
        """The events of the view's window, and those since the previous view if the window does not follow it."""
        missed = tuple(self._missed(view))
        self._last = view.scene
        return (
            *missed,
            *_vm_events(view),
            *_finding_events(view),
            *self._apicv_events(view),
            *_reset_events(view),
        )

    def _missed(self, view: HostView) -> Iterator[HostEvent]:
        """VMs that came, and VMs that ended, between two views with a gap between their windows, if of one source."""
        before, now = self._last, view.window.previous
        if before is None or before.sample is now or before.sample.source != now.source:
            return
        known = {before.sample.vms.vm_id(row): before.title(row) for row in range(len(before.sample.vms))}
        there = {now.vms.vm_id(row) for row in range(len(now.vms))}
        time = Moment(now.taken_ns)
        for vm in sorted(there - known.keys()):
            yield HostEvent(time, EventKind.VM_CAME, "while the source was away", vm, _name(view, vm))
        for vm in sorted(known.keys() - there):
            yield HostEvent(time, EventKind.VM_ENDED, "while the source was away", vm, known[vm])

    def _apicv_events(self, view: HostView) -> Iterator[HostEvent]:
        before = self._apicv
        self._apicv = {vm.id: (vm.state, tuple(reason.name for reason in vm.reasons)) for vm in view.verdicts.vms}
        if self._apicv == before:
            return
        time = Moment(view.scene.sample.taken_ns)
        for vm, now in self._apicv.items():
            if vm in before and before[vm] != now:
                text = f"{_apicv_text(*before[vm])} → {_apicv_text(*now)}"
                yield HostEvent(time, EventKind.APICV_CHANGED, text, vm, _name(view, vm))


def _apicv_text(state: State, reasons: Sequence[str]) -> str:
    word = _STATES[state]
    return f"{word} by {', '.join(reasons)}" if state is State.INHIBITED and reasons else word


def _vm_events(view: HostView) -> Iterator[HostEvent]:
    sample = view.scene.sample
    time = Moment(sample.taken_ns)
    for row in view.window.came(Scope.VM).tolist():
        vcpus = sample.vcpus_of_vm[row]
        text = f"with {counted(vcpus.stop - vcpus.start, 'vCPU')}"
        yield HostEvent(time, EventKind.VM_CAME, text, sample.vms.vm_id(row), view.scene.title(row))
    before = view.window.previous.vms
    for row in view.window.gone(Scope.VM).tolist():
        vm = before.vm_id(row)
        yield HostEvent(time, EventKind.VM_ENDED, "", vm, _name(view, vm))


def _finding_events(view: HostView) -> Iterator[HostEvent]:
    time = Moment(view.scene.sample.taken_ns)
    for finding in view.log.begun:
        yield _finding_event(view, time, EventKind.FINDING_BEGAN, finding)
    for ended in view.judgement.ended:
        yield _finding_event(view, time, EventKind.FINDING_ENDED, ended.finding, f" ({ended.why.value})")


def _finding_event(view: HostView, time: Moment, kind: EventKind, finding: Finding, why: str = "") -> HostEvent:
    name = _name(view, finding.vm)
    title = name if finding.vcpu is None else f"{name}/{finding.vcpu}"
    rule = finding.rule
    return HostEvent(time, kind, f"{rule.slug}: {rule.title}{why}", finding.vm, title, rule.severity)


def _reset_events(view: HostView) -> Iterator[HostEvent]:
    """One event per VM: the statistics of the VM that decreased."""
    sample = view.scene.sample
    of_vm: dict[int, dict[str, None]] = {}
    for reset in view.window.resets:
        for row in reset.rows:
            vm = row if reset.scope is Scope.VM else int(sample.vcpus.vm[row])
            of_vm.setdefault(vm, {})[reset.name] = None
    for vm, names in of_vm.items():
        yield HostEvent(
            Moment(sample.taken_ns), EventKind.STATS_RESET, few(list(names)), sample.vms.vm_id(vm), view.scene.title(vm)
        )


def _name(view: HostView, vm: VmId) -> str:
    return printable(view.log.names.get(vm, str(vm)))
