"""Findings for a monitoring system: a finding that ends is held for a while, to keep series from flapping.

It reads no clock: time is that of the scenes.
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
    """A rule that fires for a VM or its vCPUs, or did within ``HOLD_S``. ``holds``: whether it fires now."""

    rule: str
    severity: str
    vm: VmId
    holds: bool


class FindingHolds:
    """Remembers the findings of the rules. It must be given every view, in order."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_ns = round(hold_s * 1e9)
        self._seen: dict[_HeldKey, tuple[int, Finding]] = {}

    def update(self, view: HostView) -> tuple[HeldFinding, ...]:
        """The findings of living VMs that hold, or held within ``HOLD_S``."""
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
