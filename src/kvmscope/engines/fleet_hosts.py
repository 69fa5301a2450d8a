"""The hosts of recordings and the state of their VMs' interrupts, by SQL over the relations of ``tables``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..host.apicv import host_apicv
from ..host.facts import Machine
from ..scene import VmIdentity
from ..schema import Scope
from ..store.names import column_names
from .engine import SqlStore
from .fleet import AccelerationState, FleetHost, FleetVm
from .recorded_documents import RecordedDocuments
from .spelling import SPELLINGS, Spelling, quote
from .stat_columns import RecordedSchema, ViewColumn, stat_columns

INHIBIT: Final = "apicv.apicv_inhibit_"
_HAS_APICV: Final = "simulated_host.cpu_has_apicv"


def is_inhibit(name: str) -> bool:
    """Whether a statistic of VMs is an inhibit reason."""
    return name.startswith(INHIBIT) and not name.startswith(f"{INHIBIT}unchanged_")


@dataclass(frozen=True, slots=True)
class SeenHost:
    """A host with the last seen facts of its machine; None if the document is missing."""

    row: FleetHost
    machine: Machine | None


@dataclass(frozen=True, slots=True)
class VmInterrupts:
    """The state of a VM's interrupts in its last sample."""

    host: str
    vm: str
    name: str | None
    vmm: str | None
    vcpus: int
    state: AccelerationState
    reasons: tuple[str, ...]


def read_hosts(store: SqlStore, schema: str, documents: RecordedDocuments) -> tuple[SeenHost, ...]:
    """Every host by name. ``schema``: of the relations to read, whose scenes include the first and the last of all."""
    spelling = SPELLINGS[store.dialect]
    counts = _counts(store, schema)
    found = store.query(f"""
        SELECT host, {spelling.last}(machine, time), {spelling.last}(simulated, time), min(time), max(time)
        FROM {schema}.scenes GROUP BY host""")
    rows = list(found.rows())
    reader = documents.reader({key for _, key, *_ in rows if key})
    hosts = []
    for host, key, simulated, first_ns, last_ns in rows:
        machine = reader.get(Machine, key) if key else None
        size = counts.get(("vms", host), 0), counts.get(("vcpus", host), 0)
        hosts.append(SeenHost(_host(host, machine, bool(simulated), size, (first_ns, last_ns)), machine))
    return tuple(sorted(hosts, key=lambda host: (host.row.name or "", host.row.host)))


def _counts(store: SqlStore, schema: str) -> Mapping[tuple[str, str], int]:
    """VMs and vCPUs of each host's last scene, by relation and host."""
    spelling = SPELLINGS[store.dialect]
    return {
        (table, str(host)): int(count)
        for table in ("vms", "vcpus")
        for host, count in store.query(f"""
            SELECT r.host, count(*) FROM {schema}.{table} AS r
            JOIN ({_last_scenes(schema, spelling)}) AS l ON l.host = r.host AND l.boottime_ns = r.boottime_ns
            GROUP BY r.host""").rows()
    }


def _last_scenes(schema: str, spelling: Spelling) -> str:
    return f"SELECT host, {spelling.last}(boottime_ns, time) AS boottime_ns FROM {schema}.scenes GROUP BY host"


def _host(
    host: str, machine: Machine | None, simulated: bool, size: tuple[int, int], seen_ns: tuple[int, int]
) -> FleetHost:
    """``size``: number of VMs and of vCPUs. ``seen_ns``: time of the first and of the last scene."""
    return FleetHost(
        host=host,
        name=machine.hostname.value if machine else None,
        kernel=machine.kernel_release.value if machine else None,
        architecture=machine.architecture.value if machine else None,
        module=machine.kvm_vendor.value.name if machine and machine.kvm_vendor.value else None,
        cpu=machine.cpu.value.model if machine and machine.cpu.value else None,
        parameters=dict(_parameters(machine)) if machine else {},
        simulated=simulated,
        vms=size[0],
        vcpus=size[1],
        first_ns=seen_ns[0],
        last_ns=seen_ns[1],
        machine=machine,
    )


def _parameters(machine: Machine) -> Iterator[tuple[str, str]]:
    for fact in (machine.kvm, machine.kvm_vendor):
        if fact.value is not None:
            for name, parameter in fact.value.parameters.items():
                if parameter.value is not None:
                    yield f"{fact.value.name}.{name}", parameter.value


def read_interrupts(
    store: SqlStore, schema: str, schemas: Sequence[RecordedSchema], hosts: Sequence[SeenHost]
) -> Iterator[VmInterrupts]:
    """Every VM of each host's last scene. ``schemas``: all schemas of the store."""
    spelling = SPELLINGS[store.dialect]
    columns = _recorded(schemas)
    flags = [name for name in columns if is_inhibit(name) or name == _HAS_APICV]
    shown = "".join(f", {columns[name].expression(spelling)} AS {quote(name)}" for name in flags)
    found = store.query(f"""
        SELECT v.host, {spelling.vm_id("v.vm")}, v.name, v.vmm, c.vcpus{shown}
        FROM {schema}.vms AS v
        JOIN ({_last_scenes(schema, spelling)}) AS l ON l.host = v.host AND l.boottime_ns = v.boottime_ns
        LEFT JOIN (
            SELECT host, boottime_ns, vm, count(*) AS vcpus FROM {schema}.vcpus GROUP BY host, boottime_ns, vm
        ) AS c ON c.host = v.host AND c.boottime_ns = v.boottime_ns AND c.vm = v.vm""")
    supported = {host.row.host: host_apicv(host.machine).supported.value for host in hosts if host.machine is not None}
    reason_of = {name: name.removeprefix(INHIBIT) for name in flags if name != _HAS_APICV}
    for host, vm, name, vmm, vcpus, *values in found.rows():
        said = dict(zip(flags, values, strict=True))
        claimed = said.pop(_HAS_APICV, None)
        inhibits = {reason_of[flag]: value for flag, value in said.items() if value is not None}
        state, reasons = _state(inhibits, supported.get(host) if claimed is None else bool(claimed))
        yield VmInterrupts(host, vm, name, vmm, int(vcpus or 0), state, reasons)


def read_vms(
    store: SqlStore, schema: str, documents: RecordedDocuments, chosen: Collection[tuple[str, str]]
) -> Sequence[FleetVm]:
    """The VMMs of these VMs, each given by the ids of its host and of the VM, from the last document of each."""
    spelling = SPELLINGS[store.dialect]
    found = store.query(f"""
        SELECT host, {spelling.vm_id("vm")}, {spelling.last}(identity, time)
        FROM {schema}.vms WHERE identity IS NOT NULL GROUP BY host, vm""")
    keys = {(host, vm): key for host, vm, key in found.rows() if (host, vm) in chosen}
    reader = documents.reader(set(keys.values()))
    identities = {vm: reader.get(VmIdentity, key) for vm, key in keys.items()}
    return [
        FleetVm(*vm, identity.process.vmm, identity.process.managed_by, identity.domain_xml)
        for vm, identity in identities.items()
        if identity.process is not None
    ]


def _recorded(schemas: Sequence[RecordedSchema]) -> Mapping[str, ViewColumn]:
    """The statistics of VMs for which any recording has a column."""
    words = {column for its in schemas for column, _ in column_names(its.schema, its.lane)}
    found = stat_columns(schemas, Scope.VM)
    return {name: column for name, column in found.items() if column.raw is None or column.raw in words}


def _state(inhibits: Mapping[str, Any], is_supported: bool | None) -> tuple[AccelerationState, tuple[str, ...]]:
    """The state and the active reasons. ``inhibits``: the known flags by reason. ``is_supported``: by the VM's host, or
    by the host that it pretends to run on."""
    reasons = tuple(sorted(reason for reason, holds in inhibits.items() if holds))
    if is_supported is False:
        return AccelerationState.UNSUPPORTED, reasons
    if not inhibits:
        return AccelerationState.UNKNOWN, ()
    if "disabled" in reasons:
        return AccelerationState.OFF, reasons
    return (AccelerationState.BLOCKED, reasons) if reasons else (AccelerationState.ACTIVE, ())
