"""The interface of a store of many hosts: the protocol of fleets, and its rows as plain values.

A store is a directory of recordings (DuckDB), ClickHouse, or Prometheus. It aggregates over time and vCPUs where the
data is; sums over hosts, and answers for people, are in ``view.fleet``.
Rules: a row is of one host or one VM, never of a scene. Unknown is None. What a store cannot say it says by name, as a
refusal, and leaves out of its rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Protocol, Self

from ..errors import KvmscopeError
from ..host.facts import Machine
from ..schema import Schema
from .refusal import EngineRefusal, QueryEngine


@dataclass(frozen=True, slots=True)
class FleetHost:
    """A host as it was last seen. ``host``: the id by which all rows name it; None where a fact is not known.

    ``parameters``: those of KVM's modules that matter here, as ``kvm_amd.avic`` and as the kernel writes their values.
    ``first_ns``, ``last_ns``: CLOCK_REALTIME of its first and last sample. ``machine``: all that was recorded of it, if
    the store keeps that.
    """

    host: str
    name: str | None
    kernel: str | None
    architecture: str | None
    module: str | None
    cpu: str | None
    parameters: Mapping[str, str]
    simulated: bool
    vms: int
    vcpus: int
    first_ns: int
    last_ns: int
    machine: Machine | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class FleetFinding:
    """What a rule found of one VM. ``rule``: its slug. ``vm``: 16 hexadecimal digits.

    ``since_ns``, ``until_ns``: beginning of the first window and end of the last in which it stood. ``windows``: in how
    many it did. ``stands``: whether it did in the host's last window. ``cost_cpus``, ``lost_vcpus``: in the mean over
    those windows, None where the rule gives none or it is not known. ``evidence``: metrics in the window in which it
    cost most; empty if the store does not keep them.
    """

    rule: str
    host: str
    vm: str
    name: str | None
    since_ns: int
    until_ns: int
    windows: int
    stands: bool
    cost_cpus: float | None
    lost_vcpus: float | None
    evidence: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FleetFindings:
    """All findings, the rules that were judged, and those that this store cannot judge. ``windows``: of how many
    seconds, 0 if each is from one sample to the next."""

    findings: Sequence[FleetFinding]
    judged: Sequence[str]
    refused: Sequence[EngineRefusal]
    window_s: float


@dataclass(frozen=True, slots=True)
class FleetVm:
    """Who runs a VM, as was last seen. ``vmm``, ``managed_by``: as in ``VmmProcess``. ``domain_xml``: libvirt's, where
    the store keeps it."""

    host: str
    vm: str
    vmm: str | None
    managed_by: str | None
    domain_xml: bytes | None = None


class AccelerationState(Enum):
    """How a VM's interrupts reach it, as far as its last sample says."""

    ACTIVE = "active"
    BLOCKED = "blocked"
    OFF = "off"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class FleetAcceleration:
    """One VM's APICv or AVIC. ``reasons``: the kernel's names of what blocks it, in lower case.

    ``injections_per_s``: interrupts that KVM injected in software. ``cost_cpus``: what the rules for interrupts that
    are not accelerated count for them; None if that is not known.
    """

    host: str
    vm: str
    name: str | None
    vmm: str | None
    vcpus: int
    state: AccelerationState
    reasons: tuple[str, ...]
    injections_per_s: float | None
    cost_cpus: float | None


@dataclass(frozen=True, slots=True)
class FleetMetric:
    """A metric of one host, in the mean over time. ``value``: all its VMs together, as for ``status``."""

    host: str
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class FleetSchema:
    """A schema that a host's statistics had. ``key``: of its document; the same schema has the same key everywhere."""

    host: str
    key: str
    schema: Schema


class FleetStore(Protocol):
    """Many hosts behind one engine. Close when done.

    ``place``: what to call it. ``damage``: what of it cannot be read. Methods raise Unavailable if the store does not
    answer, and QueryError if it does not take a query.
    """

    engine: QueryEngine
    place: str
    damage: Sequence[KvmscopeError]

    def hosts(self) -> Sequence[FleetHost]:
        """Every host, in the order of names."""
        ...

    def findings(self, *, rule: str | None = None, host: str | None = None) -> FleetFindings:
        """What the rules of the catalogue find; of one rule, or on the host with this id, if given."""
        ...

    def vms(self, chosen: Collection[tuple[str, str]]) -> Sequence[FleetVm]:
        """Who runs these VMs, each a host's id and a VM's. Those of which the store knows nothing are left out."""
        ...

    def acceleration(self, *, has_rates: bool = True) -> Sequence[FleetAcceleration]:
        """Every VM of every host; without ``has_rates``, injections and costs are None, which takes less time."""
        ...

    def metrics(self, names: Sequence[str]) -> tuple[Sequence[FleetMetric], Sequence[EngineRefusal]]:
        """These metrics of every host that has them, and those that this store cannot say."""
        ...

    def schemas(self) -> Sequence[FleetSchema]:
        """Every schema of every host. Raises Unavailable if the store keeps none."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
