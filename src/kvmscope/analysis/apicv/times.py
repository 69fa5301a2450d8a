"""The times of each reason that group ``apicv`` counts: since when, and for how long. They differ from VM to VM and
window to window, so verdicts are made without them, and the times are added afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...sample import Sample
from ...schema import Scope
from ..window import F64Array, Window, find_column
from .facts import INHIBIT, PROVIDER, VmFacts, reasons_of
from .reasons import APIC_DISABLED
from .values import Reason, VcpuVerdict, VerdictBody


@dataclass(frozen=True, slots=True)
class ReasonTimes:
    """The times of one VM, by reason. ``active_shares``: of the window, one per vCPU; None if not counted."""

    shares: Mapping[str, float]
    inhibited_s: Mapping[str, float]
    unchanged_s: Mapping[str, float]
    observed_s: float | None
    active_shares: Sequence[float | None]


def read_times(sample: Sample, window: Window | None) -> Sequence[ReasonTimes] | None:
    """The times of each VM; None if nothing is counted."""
    if not _is_counted(sample):
        return None
    reader = _TimesReader(sample, window)
    return [reader.of_vm(row) for row in range(len(sample.vms))]


def with_times(body: VerdictBody, vm: VmFacts, times: ReasonTimes) -> VerdictBody:
    """A verdict with the times added. ``vm``: the facts from which it was made."""
    return replace(
        body,
        reasons=tuple(_timed(reason, vm, times) for reason in body.reasons),
        vcpus=tuple(
            _timed_vcpu(vcpu, vm, times, share) for vcpu, share in zip(body.vcpus, times.active_shares, strict=True)
        ),
        notes=(*body.notes, *_notes(vm, times)),
    )


def _notes(vm: VmFacts, times: ReasonTimes) -> Iterator[str]:
    """Notes on reasons that held for a part of the window; if ``disabled`` is set, the others are meaningless."""
    if vm.inhibits is None or vm.inhibits.get("disabled"):
        return
    for name, share in times.shares.items():
        if share > 0 and not vm.inhibits.get(name):
            yield f"{name} held for {share:.1%} of the window, and is cleared"


def _timed_vcpu(vcpu: VcpuVerdict, vm: VmFacts, times: ReasonTimes, active_share: float | None) -> VcpuVerdict:
    reasons = tuple(_timed(reason, vm, times) for reason in vcpu.reasons)
    return replace(vcpu, reasons=reasons, active_share=active_share)


def _timed(reason: Reason, vm: VmFacts, times: ReasonTimes) -> Reason:
    name = reason.name
    if name == APIC_DISABLED:
        return reason
    since_s = times.unchanged_s.get(name) if (vm.inhibits or {}).get(name) else None
    return replace(
        reason,
        share=times.shares.get(name),
        inhibited_s=times.inhibited_s.get(name),
        since_s=since_s,
        is_older=since_s is not None and times.observed_s is not None and since_s >= times.observed_s,
    )


class _TimesReader:
    def __init__(self, sample: Sample, window: Window | None) -> None:
        self._sample = sample
        self._window = window
        names = [name.removeprefix(INHIBIT) for name in reasons_of(sample)]
        self._inhibited = {name: self._share(Scope.VM, f"apicv_inhibited_{name}_ns") for name in names}
        self._counted = {name: self._seconds(f"apicv_inhibited_{name}_ns") for name in names}
        self._unchanged = {name: self._seconds(f"apicv_inhibit_unchanged_{name}_ns") for name in names}
        self._observed = self._seconds("apicv_observed_ns")
        self._active = self._share(Scope.VCPU, "apicv_active_ns")

    def of_vm(self, row: int) -> ReasonTimes:
        return ReasonTimes(
            _at(self._inhibited, row),
            _at(self._counted, row),
            _at(self._unchanged, row),
            self._observed[row],
            self._active[self._sample.vcpus_of_vm[row]],
        )

    def _seconds(self, name: str) -> list[float | None]:
        """A time counted in nanoseconds, in seconds, for each subject."""
        column = find_column(self._sample, PROVIDER, Scope.VM, name)
        return _known(np.full(len(self._sample.vms), np.nan) if column is None else column.values / 1e9)

    def _share(self, scope: Scope, name: str) -> list[float | None]:
        """The growth of a time counter, as a share of the window, for each subject."""
        window = self._window
        if window is None or not window.has(PROVIDER, scope, name):
            return [None] * len(self._sample.vms if scope is Scope.VM else self._sample.vcpus)
        return _known(np.minimum(window.delta(PROVIDER, scope, name) / (window.interval_s * 1e9), 1.0))


def _is_counted(sample: Sample) -> bool:
    names = (name for block in sample.blocks if block.schema.provider == PROVIDER for name in block.schema.names)
    return any(name == "apicv_active_ns" or name.startswith(_COUNTED) for name in names)


_COUNTED = ("apicv_inhibited_", "apicv_inhibit_unchanged_", "apicv_observed_")


def _at(columns: Mapping[str, Sequence[float | None]], row: int) -> dict[str, float]:
    """The known values of one row."""
    return {name: value for name, column in columns.items() if (value := column[row]) is not None}


def _known(values: F64Array) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]
