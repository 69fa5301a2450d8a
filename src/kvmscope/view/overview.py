"""The host in one view: its VMs and vCPUs with all their metrics over a window, and its findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final

from ..analysis.apicv import Branch, State, Verdicts, VmVerdict
from ..analysis.status import HostStatus, MetricRow, PartialMetrics
from ..analysis.window import find_column
from ..sample import NOT_KNOWN, Gap, Sample, VmId, gaps_of
from ..scene import Scene, VmIdentity
from ..schema import Scope
from .findings import ReportedFinding
from .host import HostFacts, host_facts
from .values import Rows, SceneAnswer, VcpuTitle, VmTitle, scene_head, vcpu_head, vm_head

MetricMap = Annotated[Mapping[str, float | None], "Every metric of the catalogue by its name; null is not known."]


@dataclass(frozen=True, slots=True)
class ReasonSummary:
    """Why interrupts are not accelerated."""

    name: Annotated[str, "Name of the inhibit reason."]
    cause: Annotated[str, "What sets it. Untrusted text where it quotes a configuration."]
    remedy: Annotated[str, "What removes it."]


@dataclass(frozen=True, slots=True)
class ApicvSummary:
    """Whether a VM's interrupts are accelerated; ``apicv --json`` has the whole verdict."""

    state: State
    is_partial: Annotated[bool, "Active, but not on all vCPUs or not in everything."]
    reasons: Annotated[Sequence[ReasonSummary], "Why it is not active."]


@dataclass(frozen=True, slots=True, kw_only=True)
class VcpuOverview(VcpuTitle):
    """A vCPU in a window."""

    metrics: MetricMap
    apicv_active: Annotated[bool | None, "KVM's own flag: whether its interrupts are accelerated."]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmOverview(VmTitle):
    """A VM in a window."""

    paused: Annotated[
        bool | None,
        "Whether its vCPUs neither ran nor were halted in KVM, as while its VMM has paused it; null if not known.",
    ]
    metrics: MetricMap
    partial: Annotated[Sequence[str], "Metrics that are known but lack some of its vCPUs."]
    apicv: ApicvSummary
    vcpus: Annotated[Sequence[VcpuOverview], "Its vCPUs."]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTotal:
    """All VMs together."""

    vms: Annotated[int, "How many VMs."]
    vcpus: Annotated[int, "How many vCPUs."]
    metrics: MetricMap
    partial: Annotated[Sequence[str], "Metrics that are known but lack some vCPUs."]


_RESTS_CPUS: Final = 0.001
"""CPU time below this, in CPUs, belongs to threads that only wait."""


def _has_run(sample: Sample, row: int) -> bool:
    """Whether a VM has had an exit, as far as is known. KVM knows no thread of a vCPU before its first KVM_RUN."""
    exits = find_column(sample, "kvm", Scope.VCPU, "exits")
    rows = sample.vcpus_of_vm[row]
    return exits is None or not bool(exits.known[rows].all()) or bool(exits.words[rows].any())


class VmRows(Rows[VmOverview]):
    """VMs of a window, each made on access. ``rows``: their rows in the scene's sample; None for all."""

    __slots__ = ("_facts", "_is_whole", "_rows")

    def __init__(self, facts: _VmFacts, rows: Sequence[int] | None = None) -> None:
        self._facts = facts
        self._is_whole = rows is None
        self._rows = chosen = range(len(facts.scene.sample.vms)) if rows is None else rows
        super().__init__(len(chosen), lambda place: facts.vm(chosen[place]))

    @property
    def names(self) -> Sequence[str]:
        """The name of each VM."""
        return [self._facts.scene.identities[row].name for row in self._rows]

    @property
    def ids(self) -> Sequence[VmId]:
        """The id of each VM."""
        ids = self._facts.scene.sample.vms.ids
        return ids if self._is_whole else [ids[row] for row in self._rows]

    @property
    def place_of(self) -> Mapping[VmId, int]:
        """The place (index) of each VM."""
        if self._is_whole:
            return self._facts.scene.sample.vms.row_of
        return {vm: place for place, vm in enumerate(self.ids)}

    @property
    def identities(self) -> Sequence[VmIdentity]:
        """The identity of each VM. The objects stay the same from scene to scene if the host found nothing new."""
        identities = self._facts.scene.identities
        return identities if self._is_whole else [identities[row] for row in self._rows]

    @property
    def pids(self) -> Sequence[int | None]:
        """The process id of each VM's VMM."""
        pids = self._facts.scene.sample.vms.pid.tolist()
        return [None if pids[row] == NOT_KNOWN else pids[row] for row in self._rows]

    def inhibited_by(self, is_meant: Callable[[str], bool]) -> list[int]:
        """Places of the VMs with such an inhibit reason."""
        verdicts = self._facts.verdicts()
        if verdicts is None:
            return []
        answers: dict[int, bool] = {}  # VMs with equal verdicts share their reasons
        for row in self._rows:
            body = verdicts.vms[row].body
            if id(body) not in answers:
                answers[id(body)] = any(is_meant(reason.name) for reason in body.reasons)
        return [place for place, row in enumerate(self._rows) if answers[id(verdicts.vms[row].body)]]

    @property
    def silent(self) -> Sequence[int]:
        """Places of the VMs whose VMM does not answer."""
        identities = self._facts.scene.identities
        return [place for place, row in enumerate(self._rows) if identities[row].silent_s is not None]

    @property
    def paused(self) -> Sequence[int]:
        """Places of the VMs that are paused."""
        resting = enumerate(zip(self.column("exits_per_s"), self.column("halted_vcpus"), strict=True))
        places = (place for place, (exits, halted) in resting if not exits and not halted)
        return [place for place in places if self._facts.is_paused(self._rows[place])]

    def only(self, places: Sequence[int]) -> VmRows:
        """The same rows, restricted to these places."""
        return VmRows(self._facts, [self._rows[place] for place in places])

    def column(self, metric: str) -> Sequence[float | None]:
        """One metric of each VM."""
        column = self._facts.status.vms.column(metric)
        return column if self._is_whole else [column[row] for row in self._rows]

    def largest_first(self, metric: str) -> list[int]:
        """Places sorted by one metric, the largest first; VMs for which it is unknown come last."""
        rows = self._facts.status.vms.largest_first(metric)
        if self._is_whole:
            return rows
        places = {row: place for place, row in enumerate(self._rows)}
        return [places[row] for row in rows if row in places]


@dataclass(frozen=True, slots=True)
class _VmFacts:
    """The data that VMs are made from. It has no reference to ``VmRows``, so a view without users is freed at once."""

    scene: Scene
    status: HostStatus
    verdicts: Callable[[], Verdicts | None]

    def is_paused(self, row: int) -> bool | None:
        column = self.status.vms.column
        exits, halted, cpus = (column(name)[row] for name in ("exits_per_s", "halted_vcpus", "vcpu_cpus"))
        if exits or halted or (cpus or 0.0) >= _RESTS_CPUS:
            return False
        if exits is None or halted is None:
            return None
        return True if cpus is not None or not _has_run(self.scene.sample, row) else None

    def vm(self, row: int) -> VmOverview:
        verdicts = self.verdicts()
        verdict = verdicts.vms[row] if verdicts else None
        rows = self.scene.sample.vcpus_of_vm[row]
        return VmOverview(
            **vm_head(self.scene, row),
            paused=self.is_paused(row),
            metrics=MetricRow(self.status.vms, row),
            partial=PartialMetrics(self.status.vms, row),
            apicv=_apicv(verdict),
            vcpus=Rows(
                rows.stop - rows.start,
                lambda vcpu: self._vcpu(rows.start + vcpu, verdict.is_active(vcpu) if verdict else None),
            ),
        )

    def _vcpu(self, row: int, is_active: bool | None) -> VcpuOverview:
        return VcpuOverview(
            **vcpu_head(self.scene.sample, row),
            metrics=MetricRow(self.status.vcpus, row),
            apicv_active=is_active,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview(SceneAnswer):
    """The answer of ``status``: a host in a window.

    A metric of a VM or of the host is the sum, or for a ratio the ratio of sums, over the known vCPUs.
    """

    interval_s: Annotated[float, "Length of the interval."]
    host: HostFacts
    vms: Annotated[VmRows, "Every VM, in order of creation."]
    total: HostTotal
    vms_came: Annotated[int, "Number of VMs that were created in the interval; they have no rates yet."]
    vms_gone: Annotated[int, "Number of VMs that ended in the interval."]
    stats_reset: Annotated[int, "Number of stats that were reset in the interval; they have no rate in it."]
    findings: Annotated[Sequence[ReportedFinding], "What is wrong, the most urgent first."]
    gaps: Annotated[tuple[Gap, ...], "What could not be read."]


def of_one_vm(overview: Overview, vm: VmId) -> Overview:
    """The same overview with one VM, its findings and its gaps alone; without VMs if that VM is not in it."""
    return replace(
        overview,
        vms=overview.vms.only([place for place, other in enumerate(overview.vms.ids) if other == vm]),
        findings=[finding for finding in overview.findings if finding.vm == vm],
        gaps=gaps_of(overview.gaps, vm),
    )


def make_overview(
    scene: Scene,
    status: HostStatus,
    *,
    verdicts: Callable[[], Verdicts | None] = lambda: None,
    findings: Sequence[ReportedFinding] = (),
) -> Overview:
    """The overview of a window that ends with the sample of ``scene``.

    ``verdicts`` is called when a VM is first accessed. ``findings``: the findings of that window.
    """
    return Overview(
        **scene_head(scene),
        interval_s=status.interval_s,
        host=host_facts(scene.machine),
        vms=VmRows(_VmFacts(scene, status, verdicts)),
        total=HostTotal(
            vms=len(scene.sample.vms),
            vcpus=len(scene.sample.vcpus),
            metrics=MetricRow(status.total, 0),
            partial=PartialMetrics(status.total, 0),
        ),
        vms_came=status.vms_came,
        vms_gone=status.vms_gone,
        stats_reset=status.stats_reset,
        findings=findings,
        gaps=scene.sample.gaps,
    )


def _apicv(verdict: VmVerdict | None) -> ApicvSummary:
    if verdict is None:
        return ApicvSummary(State.UNKNOWN, False, ())
    reasons = tuple(ReasonSummary(reason.name, reason.cause, reason.remedy) for reason in verdict.reasons)
    return ApicvSummary(verdict.state, verdict.branch is Branch.PARTLY, reasons)
