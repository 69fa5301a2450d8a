"""What the doctor reports after some windows: findings, what each rule found in all, what ended, what is not known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from ..catalog.findings import Severity
from ..sample import Gap
from .findings import EndedFinding, ReportedFinding, RuleTotal, UncheckedRule
from .host import HostFacts
from .subjects import FollowedVm
from .values import SceneAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport(SceneAnswer):
    """The answer of ``doctor``."""

    interval_s: Annotated[float, "Length of the last window."]
    watched_s: Annotated[float, "Time from the first sample to the last."]
    windows: Annotated[int, "How many windows were looked at."]
    rules: Annotated[int, "How many rules there are."]
    host: HostFacts
    vm_count: Annotated[int, "How many VMs the last sample has."]
    vcpu_count: Annotated[int, "How many vCPUs the last sample has."]
    vm: Annotated[FollowedVm | None, "The VM that was asked for; null for all. What follows is of it alone."]
    by_rule: Annotated[Sequence[RuleTotal], "What each rule found in all, the most urgent first."]
    findings: Annotated[Sequence[ReportedFinding], "Every finding, the most urgent first."]
    begun: Annotated[Sequence[ReportedFinding], "Those of the findings that began in the last window."]
    ended: Annotated[Sequence[EndedFinding], "What ended while it was watched, and did not begin again."]
    not_judged: Annotated[Sequence[UncheckedRule], "Rules of which it is not known whether they fire."]
    gaps: Annotated[tuple[Gap, ...], "What could not be read."]

    def reaches(self, level: Severity | str) -> bool:
        """Whether anything as bad as ``level`` was found, also if it has ended since."""
        least = Severity(level).rank
        return any(finding.severity.rank >= least for finding in (*self.findings, *self.ended))
