"""The value types of a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from ...catalog.inhibits import InhibitClass
from ...host.apicv import HostApicv
from ...sample import VmId


class State(Enum):
    """The verdict in one word, as in JSON. PENDING: nothing inhibits it, but KVM has not enabled it yet."""

    ACTIVE = "active"
    PENDING = "pending"
    INHIBITED = "inhibited"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"


class Branch(Enum):
    """The branch of the decision tree in which a verdict ends.

    OFF: KVM runs without it, and it is unknown whether by parameter or for lack of hardware. PARTLY: active, but a
    related feature is not. PENDING: off, with nothing that inhibits it: KVM enables it at each vCPU's next KVM_RUN.
    """

    NOT_SUPPORTED = "not-supported"
    OFF_BY_PARAMETER = "off-by-parameter"
    OFF = "off"
    NO_APIC = "no-in-kernel-apic"
    INHIBITED = "inhibited"
    PENDING = "pending"
    ACTIVE = "active"
    PARTLY = "partly"
    UNKNOWN = "unknown"


class Certainty(Enum):
    """The certainty with which a reason holds, or would hold."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


class From(Enum):
    """The origin of a piece of evidence."""

    STATE = "state"
    HOST = "host"
    CONFIGURATION = "configuration"
    WINDOW = "window"


class Witness(Enum):
    """The result of the cross-check of a reason with its condition."""

    AGREES = "agrees"
    CONTRADICTS = "contradicts"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One observation, in words. Untrusted text where it quotes a configuration."""

    source: From
    text: str


@dataclass(frozen=True, slots=True)
class Reason:
    """Why interrupts are not accelerated.

    ``name``: as in stats (``pit_reinj``), or ``apic_disabled`` for a local APIC that its guest disabled.
    ``share``: of the window for which it held. ``inhibited_s``: seconds for which it held since counting began.
    ``since_s``: how long ago it was set; a lower bound if ``is_older``: it was set before counting began. Each is None
    if not counted.
    ``history``: its change over the window, "" without a window.
    """

    name: str
    cls: InhibitClass
    meaning: str
    cause: str
    remedy: str
    cleared_by: str
    certainty: Certainty
    witness: Witness
    evidence: tuple[Evidence, ...]
    share: float | None = None
    inhibited_s: float | None = None
    since_s: float | None = None
    is_older: bool = False
    history: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """A feature that is not accelerated though APICv is active. ``cost``: why that matters; ``remedy``: what helps."""

    name: str
    text: str
    cost: str
    remedy: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class VcpuVerdict:
    """One vCPU; ``row`` is that of the sample. ``active``: KVM's own flag, None if not read.

    ``is_provisional``: KVM applies the VM's state to this vCPU only at its next KVM_RUN.
    ``reasons``: its own, in addition to its VM's. ``active_share``: the share of the window in which it was active,
    None if not counted.
    """

    row: int
    id: int
    state: State
    branch: Branch
    active: bool | None
    is_provisional: bool = False
    reasons: tuple[Reason, ...] = ()
    limits: tuple[Limit, ...] = ()
    notes: tuple[str, ...] = ()
    active_share: float | None = None


@dataclass(frozen=True, slots=True)
class VerdictBody:
    """A verdict without the identity of the VM; VMs with equal facts share one. Rows of ``vcpus`` are within the VM.

    ``is_verified``: the verdict is from KVM's state.
    ``reasons``: those that hold; without KVM's state, those to expect from the configuration.
    ``limits``: of any of its vCPUs. ``contradictions``: disagreements of the evidence. ``would_tell``: what would turn
    an unknown verdict into a known one.
    """

    state: State
    branch: Branch
    is_verified: bool
    reasons: tuple[Reason, ...]
    vcpus: tuple[VcpuVerdict, ...]
    limits: tuple[Limit, ...] = ()
    notes: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    would_tell: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class VmVerdict:
    """The verdict on one VM. ``row``, ``first_vcpu_row``: in the sample, of the VM and its first vCPU."""

    row: int
    id: VmId
    first_vcpu_row: int
    body: VerdictBody

    @property
    def state(self) -> State:
        return self.body.state

    @property
    def branch(self) -> Branch:
        return self.body.branch

    @property
    def is_verified(self) -> bool:
        return self.body.is_verified

    @property
    def reasons(self) -> tuple[Reason, ...]:
        return self.body.reasons

    @property
    def vcpus(self) -> tuple[VcpuVerdict, ...]:
        """The verdicts on its vCPUs, with their rows in the sample; made on demand, as most are never shown."""
        return tuple(replace(vcpu, row=self.first_vcpu_row + vcpu.row) for vcpu in self.body.vcpus)

    def is_active(self, vcpu: int) -> bool | None:
        """KVM's own flag of one of its vCPUs, by index within the VM; None if it was not read."""
        return self.body.vcpus[vcpu].active

    @property
    def limits(self) -> tuple[Limit, ...]:
        return self.body.limits

    @property
    def notes(self) -> tuple[str, ...]:
        return self.body.notes

    @property
    def contradictions(self) -> tuple[str, ...]:
        return self.body.contradictions

    @property
    def would_tell(self) -> tuple[str, ...]:
        return self.body.would_tell

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return self.body.evidence


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The verdict on every VM of a sample, in its order, and the host by which they were judged."""

    host: HostApicv
    vms: tuple[VmVerdict, ...]
    interval_s: float | None = None

    @property
    def by_vcpu(self) -> Mapping[int, VcpuVerdict]:
        """The verdict on every vCPU, by its row."""
        return {vcpu.row: vcpu for vm in self.vms for vcpu in vm.vcpus}

    @property
    def active(self) -> list[bool | None]:
        """KVM's own flag of every vCPU, in the order of the sample; None if it was not read."""
        return [vcpu.active for vm in self.vms for vcpu in vm.body.vcpus]
