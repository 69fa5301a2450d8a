"""The interface of a store of many hosts: the protocol of fleets, and its rows as plain values.

A store is a directory of recordings (DuckDB), ClickHouse, or Prometheus. It aggregates over time and vCPUs where the
data is; sums over hosts and answers for users are in ``view.fleet``.
Rules: a row is of one host or one VM, never of a scene. Unknown is None. A store names what it cannot express in a
refusal, and leaves it out of its rows.
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
    """A host as it was last seen. ``host``: its id in all rows. None: unknown.

    ``parameters``: relevant parameters of KVM's modules by names such as ``kvm_amd.avic``, with values as the kernel
    writes them. ``first_ns``, ``last_ns``: CLOCK_REALTIME of its first and last sample. ``machine``: its whole
    document, if the store keeps that.
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
    """A finding about one VM. ``rule``: slug of the rule. ``vm``: 16 hexadecimal digits.

    ``since_ns``, ``until_ns``: beginning of the first and end of the last window in which the finding stood.
    ``windows``: number of these windows. ``stands``: whether it stood in the host's last window. ``cost_cpus``,
    ``lost_vcpus``: mean over these windows, None if unknown or not given by the rule. ``evidence``: metrics in the
    window with the highest cost; empty if the store does not keep them.
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
    """All findings, the rules that were judged, and the rules that this store cannot judge. ``windows``: their length
    in seconds, 0 if each is from one sample to the next."""

    findings: Sequence[FleetFinding]
    judged: Sequence[str]
    refused: Sequence[EngineRefusal]
    window_s: float


@dataclass(frozen=True, slots=True)
class FleetVm:
    """The VMM of a VM, as last seen. ``vmm``, ``managed_by``: as in ``VmmProcess``. ``domain_xml``: libvirt's, if the
    store keeps it."""

    host: str
    vm: str
    vmm: str | None
    managed_by: str | None
    domain_xml: bytes | None = None


class AccelerationState(Enum):
    """How interrupts reach a VM, according to its last sample."""

    ACTIVE = "active"
    BLOCKED = "blocked"
    OFF = "off"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class FleetAcceleration:
    """APICv or AVIC of one VM. ``reasons``: the kernel's names of the reasons that inhibit it, in lower case.

    ``injections_per_s``: interrupts that KVM injected in software. ``cost_cpus``: their cost by the rules for
    interrupts that are not accelerated; None if unknown.
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
    """A metric of one host, as a mean over time. ``value``: for all its VMs together, as in ``status``."""

    host: str
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class FleetSchema:
    """A schema of a host's statistics. ``key``: of its document; equal schemas have the same key on all hosts."""

    host: str
    key: str
    schema: Schema


class FleetStore(Protocol):
    """Many hosts behind one engine. Close when done.

    ``place``: its name in messages. ``damage``: the parts that cannot be read. Methods raise Unavailable if the store
    does not answer, and QueryError if it rejects a query.
    """

    engine: QueryEngine
    place: str
    damage: Sequence[KvmscopeError]

    def hosts(self) -> Sequence[FleetHost]:
        """Every host, in the order of names."""
        ...

    def findings(self, *, rule: str | None = None, host: str | None = None) -> FleetFindings:
        """The findings of the catalogue's rules; only of one rule, or only on the host with this id, if given."""
        ...

    def vms(self, chosen: Collection[tuple[str, str]]) -> Sequence[FleetVm]:
        """The VMMs of these VMs, each given by the ids of its host and of the VM. Unknown VMs are left out."""
        ...

    def acceleration(self, *, has_rates: bool = True) -> Sequence[FleetAcceleration]:
        """Every VM of every host; without ``has_rates``, injections and costs are None, which takes less time."""
        ...

    def metrics(self, names: Sequence[str]) -> tuple[Sequence[FleetMetric], Sequence[EngineRefusal]]:
        """These metrics of every host that has them, and refusals for metrics that this store cannot express."""
        ...

    def schemas(self) -> Sequence[FleetSchema]:
        """Every schema of every host. Raises Unavailable if the store keeps none."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
