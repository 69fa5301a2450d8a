"""The findings that began and ended in an episode, for its note."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..analysis.findings import Ended, Finding, Key
from ..catalog.findings import Severity
from ..sample import VmId
from ..store.episode_note import NotedFinding
from ..view.watch import HostView

_NOTED_AT_MOST = 500


class FindingLog:
    """The findings of at least a given level, in the recorder's windows and in windows with groups.

    A finding of both is judged by the recorder's windows, since those continue when counting stops.
    ``begun_last``: rule and VM of the findings that began in the last window. ``focus_ns``: the last time at which a
    finding stood, by a window with groups if there is one; CLOCK_REALTIME.
    """

    def __init__(self, level: Severity) -> None:
        self._level = level
        self._noted: dict[Key, NotedFinding] = {}
        self._standing: dict[bool, frozenset[Key]] = {False: frozenset(), True: frozenset()}
        self._focus_ns: dict[bool, int] = {}
        self._beyond: set[Key] = set()
        self.begun_last: Sequence[tuple[str, VmId]] = ()

    @property
    def more(self) -> int:
        """The number of findings beyond the noted ones."""
        return len(self._beyond)

    @property
    def noted(self) -> tuple[NotedFinding, ...]:
        return tuple(self._noted.values())

    @property
    def any_stands(self) -> bool:
        return any(self._standing.values())

    @property
    def focus_ns(self) -> int | None:
        return self._focus_ns.get(True, self._focus_ns.get(False))

    def add(self, view: HostView, *, is_counted: bool) -> bool:
        """Take a window. Returns whether any finding began or ended in it. ``is_counted``: it has the groups of the
        episode."""
        findings = [each for each in view.judgement.findings if each.rule.severity.rank >= self._level.rank]
        before = self._standing[is_counted]
        self._standing[is_counted] = frozenset(finding.key for finding in findings)
        if findings:
            self._focus_ns[is_counted] = view.scene.sample.taken_ns
        begun = [finding for finding in findings if self._note(finding, view)]
        self.begun_last = [(finding.rule.slug, finding.vm) for finding in begun]
        ended = [self._end(each) for each in view.judgement.ended]
        return bool(begun) or any(ended) or before != self._standing[is_counted]

    def stop_counting(self) -> None:
        """End the windows with groups: findings that only they have become unknown."""
        self._standing[True] = frozenset()

    def _note(self, finding: Finding, view: HostView) -> bool:
        """Note a finding or its costlier window. Returns whether the finding is new or has begun again."""
        known = self._noted.get(finding.key)
        is_new = known is None or known.end is not None
        if known is None and len(self._noted) >= _NOTED_AT_MOST:
            self._beyond.add(finding.key)
            return False
        if known is None or (finding.cost_cpus or 0.0) > (known.cost_cpus or 0.0):
            self._noted[finding.key] = _noted(finding, view, known)
        elif is_new:
            self._noted[finding.key] = replace(known, ended_ns=None, end=None)
        return is_new

    def _end(self, ended: Ended) -> bool:
        key = ended.finding.key
        known = self._noted.get(key)
        if known is None or known.end is not None or any(key in standing for standing in self._standing.values()):
            return False
        self._noted[key] = replace(known, ended_ns=ended.at_ns, end=ended.why)
        return True


def _noted(finding: Finding, view: HostView, known: NotedFinding | None) -> NotedFinding:
    taken_ns = view.scene.sample.taken_ns
    return NotedFinding(
        rule=finding.rule.slug,
        severity=finding.rule.severity,
        title=finding.rule.title,
        vm=str(finding.vm),
        name=view.log.names.get(finding.vm, str(finding.vm)),
        vcpu=finding.vcpu,
        began_ns=taken_ns - round(finding.since_s * 1e9) if known is None else known.began_ns,
        cost_cpus=finding.cost_cpus,
        evidence=dict(finding.evidence),
    )
