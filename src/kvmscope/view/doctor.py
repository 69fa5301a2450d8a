"""The report of the doctor after some windows: findings, totals by rule, ended findings, rules that could not be
checked."""

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

    interval_s: Annotated[float, "Length of the last interval."]
    watched_s: Annotated[float, "Time from the first sample to the last."]
    windows: Annotated[int, "Number of intervals that were watched."]
    rules: Annotated[int, "Number of rules."]
    host: HostFacts
    vm_count: Annotated[int, "Number of VMs in the last sample."]
    vcpu_count: Annotated[int, "Number of vCPUs in the last sample."]
    vm: Annotated[FollowedVm | None, "The selected VM, to which the rest of the answer is limited; null for all."]
    by_rule: Annotated[Sequence[RuleTotal], "The findings of each rule together, the most urgent first."]
    findings: Annotated[Sequence[ReportedFinding], "Every finding, the most urgent first."]
    begun: Annotated[Sequence[ReportedFinding], "Those of the findings that began in the last interval."]
    ended: Annotated[Sequence[EndedFinding], "Findings that ended while watched, and did not begin again."]
    not_judged: Annotated[Sequence[UncheckedRule], "Rules that could not be checked."]
    gaps: Annotated[tuple[Gap, ...], "What could not be read."]

    def reaches(self, level: Severity | str) -> bool:
        """Whether a finding of this severity or worse was made, even if it has ended since."""
        least = Severity(level).rank
        return any(finding.severity.rank >= least for finding in (*self.findings, *self.ended))
