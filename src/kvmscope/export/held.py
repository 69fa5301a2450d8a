"""Findings as a monitoring system should see them: a finding that ends is held for a while, so that series do not flap.

Pure: time is that of the scenes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from ..analysis.findings import Finding
from ..sample import VmId
from ..view.watch import HostView

HOLD_S: Final = 900.0

_HeldKey: TypeAlias = tuple[str, VmId]
"""Rule and VM."""


@dataclass(frozen=True, slots=True)
class HeldFinding:
    """A rule that fires for a VM or its vCPUs, or has within ``HOLD_S``. ``holds``: whether it does."""

    rule: str
    severity: str
    vm: VmId
    holds: bool


class FindingHolds:
    """Remembers what the rules have found; give it every view in turn."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_ns = round(hold_s * 1e9)
        self._seen: dict[_HeldKey, tuple[int, Finding]] = {}

    def update(self, view: HostView) -> tuple[HeldFinding, ...]:
        """What holds, and what did so a short while ago, of VMs that still live."""
        sample = view.scene.sample
        now_ns = sample.monotonic_ns
        living = set(map(VmId, sample.vms.id.tolist()))
        self._seen |= {(finding.rule.slug, finding.vm): (now_ns, finding) for finding in view.judgement.findings}
        self._seen = {
            key: (at_ns, finding)
            for key, (at_ns, finding) in self._seen.items()
            if key[1] in living and now_ns - at_ns <= self._hold_ns
        }
        return tuple(
            HeldFinding(rule, finding.rule.severity.value, vm, at_ns == now_ns)
            for (rule, vm), (at_ns, finding) in self._seen.items()
        )
