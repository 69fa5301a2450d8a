"""Consecutive windows of a host, each with its metrics, verdicts and findings.

A ``Watch`` is given scenes, from a live host or a recording, and makes a ``HostView`` of each window. Findings need
consecutive windows, so the watch judges every window by the rules; all other parts of a view are computed on access.
Nothing here waits or reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..analysis.apicv import Verdicts
from ..analysis.by_rule import by_rule
from ..analysis.evaluate import Evaluator
from ..analysis.findings import Ended, Finding, Judgement, Key
from ..analysis.rule_states import RuleStates
from ..analysis.status import summarize
from ..analysis.window import Window
from ..catalog.findings import Rule
from ..formula.resolved import Unresolved, walk_resolved
from ..sample import VmId, Vms, gaps_of
from ..scene import Scene
from ..schema import Scope
from .added_causes import added_causes
from .findings import FindingViews, ReportedFinding
from .host import host_facts
from .judging import Examiner, judge_scene
from .overview import Overview, make_overview
from .polling import polling_of_vms
from .remedies import Parties, parties_of_vm
from .subjects import FollowedVm
from .values import Moment, Rows, scene_head

if TYPE_CHECKING:
    from .apicv import ApicvView
    from .doctor import DoctorReport


@dataclass(frozen=True, slots=True)
class GoneVm:
    """A VM that has ended. ``name``: its last name, untrusted text. ``seen``: time of the first sample without it."""

    name: str
    seen: Moment


@dataclass(frozen=True)
class WatchLog:
    """The events that a watch has seen up to ``scene``, the end of a window.

    ``begun``: findings that the last window added. ``ended`` and ``gone``: findings and VMs that ended, in the last
    window or in all.
    """

    scene: Scene
    windows: int = 0
    watched_s: float = 0.0
    begun: tuple[Finding, ...] = ()
    ended: tuple[Ended, ...] = ()
    gone: Mapping[VmId, GoneVm] = field(default_factory=dict)

    @cached_property
    def names(self) -> Mapping[VmId, str]:
        """The names of the VMs in the scene and in ``gone``; untrusted text."""
        vms = self.scene.sample.vms
        there = {vm: identity.name for vm, identity in zip(vms.ids, self.scene.identities, strict=True)}
        return {**{vm: gone.name for vm, gone in self.gone.items()}, **there}

    @cached_property
    def parties(self) -> Mapping[VmId, Parties]:
        """The managers and VMM of each VM of the scene."""
        vms = self.scene.sample.vms
        return {vm: parties_of_vm(each) for vm, each in zip(vms.ids, self.scene.identities, strict=True)}


class HostView:
    """A window that ends with ``scene``, and everything derived from it. Each part is computed on first access.

    ``evaluator`` evaluates any formula in the window. ``judgement`` has the findings as ``analysis`` makes them.
    """

    def __init__(
        self, scene: Scene, evaluator: Evaluator, judgement: Judgement, examiner: Examiner, log: WatchLog
    ) -> None:
        self.scene = scene
        self.evaluator = evaluator
        self.judgement = judgement
        self.log = log
        self._examiner = examiner
        self._judged = _JudgedWindow(scene, evaluator, judgement, log)

    @property
    def window(self) -> Window:
        """The scene's sample and the one before it."""
        return self.evaluator.window

    def lacks(self, metric: str) -> bool:
        """Whether this host or its source lacks a statistic that a metric reads, so no VM has the metric."""
        formula = self.evaluator.resolve(metric, Scope.VM)
        return any(isinstance(node, Unresolved) for node in walk_resolved(formula.node))

    @property
    def verdicts(self) -> Verdicts:
        """Whether the interrupts of each VM are accelerated, and if not, why."""
        return self._judged.verdicts

    @cached_property
    def apicv(self) -> ApicvView:
        """The verdicts as a view, as ``apicv --json`` writes it."""
        from .apicv import apicv_view  # takes 13 ms, and most screens show only a word of it

        return apicv_view(self.scene, self.window)

    @cached_property
    def overview(self) -> Overview:
        """The host with its VMs, their metrics and findings."""
        metrics = tuple(self._examiner.metrics.values())
        status = summarize(self.window, metrics, evaluator=self.evaluator)
        judged = self._judged
        return make_overview(self.scene, status, verdicts=lambda: judged.verdicts, findings=self.findings)

    @cached_property
    def findings(self) -> Sequence[ReportedFinding]:
        """The findings, the most urgent first."""
        return self._judged.reported(self.judgement.findings)

    def report(self, vm: FollowedVm | None = None, *, rule: str | None = None) -> DoctorReport:
        """The doctor's report of all VMs and rules, or of one VM, or of one rule."""
        from .doctor import DoctorReport

        def is_asked(finding: Finding) -> bool:
            return (vm is None or vm.has(finding.vm, finding.vcpu)) and rule in (None, finding.rule.slug)

        findings = tuple(filter(is_asked, self.judgement.findings))
        reported, views = self._judged.reported, self._judged.views
        sample = self.scene.sample
        return DoctorReport(
            **scene_head(self.scene),
            interval_s=self.window.interval_s,
            watched_s=self.log.watched_s,
            windows=self.log.windows,
            host=host_facts(self.scene.machine),
            vm_count=len(sample.vms),
            vcpu_count=len(sample.vcpus),
            rules=len(self._examiner.rules),
            vm=None if vm is None else self._followed(vm),
            by_rule=tuple(map(views.total, by_rule(findings))),
            findings=reported(findings),
            begun=reported(tuple(filter(is_asked, self.log.begun))),
            ended=tuple(views.ended(ended) for ended in self._endings if is_asked(ended.finding)),
            not_judged=tuple(
                views.unchecked(missing)
                for missing in self.judgement.not_judged
                if (vm is None or missing.vms is None or vm.id in missing.vms) and rule in (None, missing.rule)
            ),
            gaps=gaps_of(sample.gaps, None if vm is None else vm.id),
        )

    def since(self, first: HostView) -> HostView:
        """The view at the same end of a longer window, which begins where the window of ``first`` does."""
        window = Window(first.window.previous, self.window.current)
        evaluator = self._examiner.evaluator(self.scene, window)
        return HostView(self.scene, evaluator, self.judgement, self._examiner, self.log)

    def _followed(self, vm: FollowedVm) -> FollowedVm:
        gone = self.log.gone.get(vm.id)
        return FollowedVm(vm.id, self.log.names.get(vm.id, vm.name), vm.vcpu, gone.seen if gone else None)

    @cached_property
    def _endings(self) -> Sequence[Ended]:
        """The findings that ended and did not begin again, each once, in the order in which they ended."""
        now = {finding.key for finding in self.judgement.findings}
        latest: dict[Key, Ended] = {}
        for ended in self.log.ended:
            latest.pop(ended.finding.key, None)
            latest[ended.finding.key] = ended
        return tuple(ended for key, ended in latest.items() if key not in now)


@dataclass(frozen=True)
class _JudgedWindow:
    """The data from which rows of findings and of VMs are made on access.

    It refers neither to these rows nor to their view. So a view with its samples is freed with its last reference, and
    not by Python's next search for cycles: on a large host several GB could pile up until then.
    """

    scene: Scene
    evaluator: Evaluator
    judgement: Judgement
    log: WatchLog

    @cached_property
    def verdicts(self) -> Verdicts:
        return judge_scene(self.scene, self.evaluator.window)

    def reported(self, findings: Sequence[Finding]) -> Sequence[ReportedFinding]:
        return Rows(len(findings), lambda row: self.views.reported(findings[row]))

    @cached_property
    def views(self) -> FindingViews:
        rules = [finding.rule for finding in self.judgement.findings]
        verdicts = self.verdicts if any(rule.adds_verdict for rule in rules) else None
        polled = [finding.vm for finding in self.judgement.findings if finding.rule.adds_polling]
        polling = polling_of_vms(self.scene, self.evaluator, polled)
        added = added_causes(self.scene, self.evaluator.window, self.judgement.findings)
        return FindingViews(self.log.names, self.log.parties, verdicts, polling, added)


@dataclass(frozen=True, slots=True)
class PastWindows:
    """The result of windows that were judged elsewhere: their number and duration, the VMs that ended in them, and the
    states of the VMs' rules after them, in the order of the VMs of the last scene."""

    count: int
    watched_s: float
    gone: Mapping[VmId, GoneVm]
    states: RuleStates


class Watch:
    """Makes a view of each window between consecutive scenes of one host.

    ``keeps_ended``: views have the findings that ended in any window since the first, not only in the last; for a
    watch of limited length.
    """

    def __init__(self, *, keeps_ended: bool = False) -> None:
        self.examiner = Examiner()
        self._keeps_ended = keeps_ended
        self._log: WatchLog | None = None
        self._known: frozenset[Key] = frozenset()

    @property
    def is_new(self) -> bool:
        """Whether no scene was added yet."""
        return self._log is None

    def add(self, scene: Scene) -> HostView | None:
        """The view of the window since the previous scene; None for the first. Raises UsageError as ``Window`` does."""
        if self._log is None:
            self._log = WatchLog(scene)
            return None
        window = Window(self._log.scene, scene)
        evaluator = self.examiner.evaluator(scene, window)
        judgement = self.examiner.update(scene, window, evaluator)
        self._log = self._continued(self._log, scene, window, judgement)
        self._known = frozenset(finding.key for finding in judgement.findings)
        return HostView(scene, evaluator, judgement, self.examiner, self._log)

    def leap(self, scene: Scene, past: PastWindows) -> None:
        """Continue after this scene, with all windows up to it judged elsewhere. Requires that the first window was
        added, as it determines the rules. Findings that ended in those windows are reported neither now nor later."""
        assert self._log is not None
        self.examiner.watcher.go_on_after(scene.sample, past.states)
        self._known = frozenset(_standing(self.examiner.watcher.rules_of_vms, past.states, scene.sample.vms))
        self._log = replace(self._log, scene=scene, windows=past.count, watched_s=past.watched_s, gone=past.gone)

    def _continued(self, before: WatchLog, scene: Scene, window: Window, judgement: Judgement) -> WatchLog:
        gone = dict(_gone(before.scene, window, Moment(scene.sample.taken_ns)))
        return WatchLog(
            scene,
            windows=before.windows + 1,
            watched_s=before.watched_s + window.interval_s,
            begun=tuple(finding for finding in judgement.findings if finding.key not in self._known),
            ended=(*before.ended, *judgement.ended) if self._keeps_ended else judgement.ended,
            gone={**before.gone, **gone} if self._keeps_ended else gone,
        )


def _standing(rules: Sequence[Rule], states: RuleStates, vms: Vms) -> Iterator[Key]:
    for place, vm_row in np.argwhere(states.fires).tolist():
        yield rules[place].slug, vms.vm_id(vm_row), None


def _gone(before: Scene, window: Window, seen: Moment) -> Iterator[tuple[VmId, GoneVm]]:
    for row in window.gone(Scope.VM).tolist():
        yield before.sample.vms.vm_id(row), GoneVm(before.identities[row].name, seen)
