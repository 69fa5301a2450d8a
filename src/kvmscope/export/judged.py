"""The contents of ``view`` for a host, as series: metrics of the catalogue, findings, the state of APICv, facts.

Rule: an unknown value has no series, and nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ..analysis.apicv import Verdicts
from ..catalog.metrics import load_metrics
from ..catalog.series_names import (
    HOST_APICV,
    HOST_INFO,
    HOST_LABELS,
    HOST_PARAMETER,
    VM_APICV_REASON,
    VM_APICV_STATE,
    VM_CREATED,
    VM_FINDING,
    VM_INFO,
    VM_VCPUS,
    VM_VMM_SILENT,
    metric_family,
)
from ..sample import NOT_KNOWN, VmId
from ..scene import Scene
from ..schema import Scope
from ..view.host import host_facts, kvm_parameters
from ..view.watch import HostView
from .budget import ClassedSeries, SeriesClass
from .held import HeldFinding
from .labels import label_sets, shown_text
from .series import numbers
from .subjects import Subjects

_HOST_FACTS: Final = ("supported", "switched_on", "x2avic", "ipi", "device_posting", "nested")


def identity_series(scene: Scene, subjects: Subjects) -> Iterator[ClassedSeries]:
    """The identities of the VMs and of their host."""
    vms = subjects.vms
    slices = scene.sample.vcpus_of_vm
    created = [None if ns < 0 else ns / 1e9 for ns in scene.sample.vms.created_ns.tolist()]
    pids = scene.sample.vms.pid.tolist()
    silent = [
        None if pid == NOT_KNOWN else identity.silent_s or 0.0
        for pid, identity in zip(pids, scene.identities, strict=True)
    ]
    facts = host_facts(scene.machine)
    host = label_sets(HOST_LABELS, (tuple(shown_text(getattr(facts, name)) for name in HOST_LABELS),))
    yield ClassedSeries(numbers(HOST_INFO, host, [1]), SeriesClass.CORE)
    parameters = tuple((name, shown_text(value)) for name, value in kvm_parameters(scene.machine).items())
    sets = label_sets(("parameter", "value"), parameters)
    yield ClassedSeries(numbers(HOST_PARAMETER, sets, [1] * len(sets)), SeriesClass.CORE)
    yield ClassedSeries(numbers(VM_INFO, subjects.facts, [1] * len(vms)), SeriesClass.CORE)
    yield ClassedSeries(numbers(VM_CREATED, vms, created), SeriesClass.IMPORTANT_STAT)
    yield ClassedSeries(numbers(VM_VCPUS, vms, [rows.stop - rows.start for rows in slices]), SeriesClass.IMPORTANT_STAT)
    yield ClassedSeries(numbers(VM_VMM_SILENT, vms, silent), SeriesClass.IMPORTANT_STAT)


def metric_series(subjects: Subjects, view: HostView) -> Iterator[ClassedSeries]:
    """Every metric of each VM over the last interval."""
    rows = view.overview.vms
    order = None if tuple(rows.ids) == tuple(subjects.rows) else _places(subjects, rows.ids)
    for metric in load_metrics():
        column = rows.column(metric.name)
        values = column if order is None else [None if place is None else column[place] for place in order]
        of = SeriesClass.METRIC if metric.column else SeriesClass.FURTHER_METRIC
        yield ClassedSeries(numbers(metric_family(metric, Scope.VM), subjects.vms, values), of)


def _places(subjects: Subjects, ids: Sequence[VmId]) -> list[int | None]:
    """The place of each VM in ``ids``; None for a VM that is not in it."""
    places = {vm: place for place, vm in enumerate(ids)}
    return [places.get(vm) for vm in subjects.rows]


def finding_series(subjects: Subjects, held: Sequence[HeldFinding]) -> Iterator[ClassedSeries]:
    """The findings of the rules."""
    there = [each for each in held if each.vm in subjects.rows]
    labels = tuple((_key(subjects, each.vm), each.rule, each.severity) for each in there)
    sets = label_sets(("vm", "rule", "severity"), labels)
    yield ClassedSeries(numbers(VM_FINDING, sets, [int(each.holds) for each in there]), SeriesClass.CORE)


def apicv_series(subjects: Subjects, verdicts: Verdicts) -> Iterator[ClassedSeries]:
    """The verdict on each VM, and the support of the host."""
    vms = [(subjects.keys[subjects.rows[vm.id]], vm) for vm in verdicts.vms if vm.id in subjects.rows]
    states = label_sets(("vm", "state"), tuple((key, vm.state.value) for key, vm in vms))
    reasons = {(key, reason.name): reason.certainty.value for key, vm in vms for reason in vm.reasons}
    sets = label_sets(("vm", "reason", "certainty"), tuple((*key, certainty) for key, certainty in reasons.items()))
    facts = label_sets(("fact",), tuple((name,) for name in _HOST_FACTS))
    flags = [getattr(verdicts.host, name).value for name in _HOST_FACTS]
    for series in (
        numbers(VM_APICV_STATE, states, [1] * len(states)),
        numbers(VM_APICV_REASON, sets, [1] * len(sets)),
        numbers(HOST_APICV, facts, [None if flag is None else int(flag) for flag in flags]),
    ):
        yield ClassedSeries(series, SeriesClass.CORE)


def _key(subjects: Subjects, vm: VmId) -> str:
    return subjects.keys[subjects.rows[vm]]
