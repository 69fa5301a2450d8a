"""The question behind an answer over many hosts, and the hosts that it covers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypedDict

from ...engines.fleet import FleetHost, FleetStore
from ...errors import RecordingError, UsageError
from ...host.text import printable
from ...units import format_seconds, rfc3339
from ..text import SIMULATED, counted, fill
from ..values import Answer, Moment

UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetAnswer(Answer):
    """The answer of a command about many hosts."""

    engine: Annotated[str, "What answered: DuckDB, ClickHouse or Prometheus."]
    place: Annotated[str, "Directory or URL that was asked."]
    begin: Annotated[Moment, "When the first sample was taken."]
    end: Annotated[Moment, "When the last sample was taken."]
    simulated: Annotated[bool, "Whether some of the hosts are simulated."]
    host_count: Annotated[int, "How many hosts there are."]
    vm_count: Annotated[int, "How many VMs the hosts had."]
    vcpu_count: Annotated[int, "How many vCPUs the VMs had."]
    damage: Annotated[Sequence[str], "What could not be read."]


class FleetHead(TypedDict):
    """The first fields of a ``FleetAnswer``."""

    engine: str
    place: str
    begin: Moment
    end: Moment
    simulated: bool
    host_count: int
    vm_count: int
    vcpu_count: int
    damage: Sequence[str]


def fleet_head(store: FleetStore, hosts: Sequence[FleetHost]) -> FleetHead:
    """The first fields of a ``FleetAnswer``. Raises RecordingError if there is no host."""
    if not hosts:
        raise RecordingError("it has no host", path=store.place)
    return {
        "engine": store.engine.value,
        "place": store.place,
        "begin": Moment(min(host.first_ns for host in hosts)),
        "end": Moment(max(host.last_ns for host in hosts)),
        "simulated": any(host.simulated for host in hosts),
        "host_count": len(hosts),
        "vm_count": sum(host.vms for host in hosts),
        "vcpu_count": sum(host.vcpus for host in hosts),
        "damage": tuple(str(error) for error in store.damage),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetHostTitle:
    """The identity of a host. Name and CPU are untrusted text."""

    host: Annotated[str, "Identifies the host."]
    name: Annotated[str | None, "Its name."]
    kernel: Annotated[str | None, "Release of its kernel."]
    architecture: Annotated[str | None, "Architecture, as uname -m names it."]
    module: Annotated[str | None, "The KVM module that runs its VMs."]
    vms: Annotated[int, "How many VMs it had."]
    vcpus: Annotated[int, "How many vCPUs they had."]


class FleetHostHead(TypedDict):
    """The fields of a ``FleetHostTitle``."""

    host: str
    name: str | None
    kernel: str | None
    architecture: str | None
    module: str | None
    vms: int
    vcpus: int


def host_head(host: FleetHost) -> FleetHostHead:
    """The identity of a host, as fields."""
    return {
        "host": host.host,
        "name": host.name,
        "kernel": host.kernel,
        "architecture": host.architecture,
        "module": host.module,
        "vms": host.vms,
        "vcpus": host.vcpus,
    }


def find_host(hosts: Sequence[FleetHost], text: str) -> FleetHost:
    """The host with this name, id or beginning of an id. Raises UsageError if there is none or more than one."""
    found = [host for host in hosts if text in (host.name, host.host)]
    found = found or [host for host in hosts if len(text) >= _PREFIX and host.host.startswith(text)]
    if len(found) != 1:
        several = ", ".join(host.host for host in found[:4])
        raise UsageError(f"{text!r} names several hosts: {several}" if found else f"there is no host {text!r}")
    return found[0]


_PREFIX = 4


def properties(by: str) -> Callable[[FleetHost], str | None]:
    """The property to group hosts by: kernel, module, cpu, architecture, or a module parameter such as kvm_amd.avic.

    Raises UsageError for any other name.
    """
    named: Mapping[str, Callable[[FleetHost], str | None]] = {
        "kernel": lambda host: host.kernel,
        "module": lambda host: host.module,
        "cpu": lambda host: host.cpu,
        "architecture": lambda host: host.architecture,
    }
    if by in named:
        return named[by]
    if "." in by:
        return lambda host: host.parameters.get(by)
    raise UsageError(f"hosts differ by {', '.join(named)} or a parameter such as kvm_amd.avic, not by {by!r}")


def head_lines(answer: FleetAnswer, *, width: int) -> Iterator[str]:
    """The place, the hosts and the time that the answer covers."""
    if answer.simulated:
        yield SIMULATED
    lasted_s = (answer.end.ns - answer.begin.ns) / 1e9
    parts = (
        f"{printable(answer.place)} ({answer.engine})",
        counted(answer.host_count, "host"),
        counted(answer.vm_count, "VM"),
        counted(answer.vcpu_count, "vCPU"),
        f"{format_seconds(lasted_s)} until {rfc3339(answer.end.ns, has_ms=False)}",
    )
    yield from fill(" · ".join(parts), width=width)


def host_name(name: str | None, host: str) -> str:
    """The printed name of a host."""
    return printable(name or host[:12], max_length=64)
