"""Source ``qmp``: reads the statistics of a VM from QEMU, by ``query-stats`` over given QMP sockets (QEMU 7.1 on).

It sees the kernel's statistics of the VMs behind these sockets, including those of scope VM, whose fd no VMM keeps
open. It cannot see other VMs; nor stats of a type, unit or base that this QEMU does not know (QEMU silently omits
them); nor the process behind a socket if QEMU runs in another pid namespace.
It disturbs what it measures: QEMU 7.1 to 8.0 interrupts every vCPU for each query. A QMP socket serves one client at a
time: this source occupies it from the first read to ``close``, and cannot read it while libvirt or another client
holds it.
Rule: values are assigned to a vCPU by the QOM path that QEMU gives with them, if these paths are right; if they are not
(7.1 and early 7.2 give one path for all), each vCPU is queried by its own path, so the assignment is certain too.
Source: qapi/stats.json, qapi/machine.json of QEMU 7.2 and 10.0. Needs the extra ``kvmscope[qmp]``.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..closing import Closable
from ..codec.qmp import (
    BucketOrder,
    QmpCpu,
    QmpEntry,
    QmpSchema,
    parse_apic_id,
    parse_cpus,
    parse_entries,
    parse_name,
    parse_schemas,
    votes_for_order,
)
from ..errors import FormatError, SourceError, Unavailable
from ..linux.procfs import has_thread, start_ticks
from ..sample import NOT_KNOWN, Gap, Sample, VmId
from ..schema import Schema, Scope
from .files import StatsOf, VcpuStats, VmStats, assemble
from .vm_ids import vm_id_in_process

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

NAME = "qmp"

_monitors = itertools.count(1)


class QmpSource(Closable):
    """Reads the VMs behind some QMP sockets; must be closed, which releases the sockets.

    ``timeout_s``: per socket and read. A socket that cannot be read is a gap with the reason, and is tried again by the
    next read. ``read`` must not be called inside a running asyncio event loop.
    Raises Unavailable if the package qemu.qmp is not installed.
    """

    name = NAME

    def __init__(self, sockets: Iterable[str | Path], *, timeout_s: float = 5.0) -> None:
        try:
            import qemu.qmp  # noqa: F401
        except ModuleNotFoundError as error:
            raise Unavailable("the package qemu.qmp is not installed", remedy="pip install 'kvmscope[qmp]'") from error
        self._timeout_s = timeout_s
        self._monitors = [_Monitor(str(path)) for path in sockets]
        self._loop = asyncio.new_event_loop()

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas of the values read so far."""
        return tuple(dict.fromkeys(schema for monitor in self._monitors for schema in monitor.laid_out))

    def read(self) -> Sample:
        """One sample of all sockets, which are queried concurrently."""
        taken_ns, monotonic_ns = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        answers = self._loop.run_until_complete(self._ask_all())
        return assemble(
            [vm for vm, _ in answers if vm is not None],
            source=NAME,
            taken_ns=taken_ns,
            monotonic_ns=monotonic_ns,
            gaps=[gap for _, gaps in answers for gap in gaps],
        )

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.run_until_complete(self._close_all())
            self._loop.close()

    async def _close_all(self) -> None:
        await asyncio.gather(*(monitor.close() for monitor in self._monitors))

    async def _ask_all(self) -> list[tuple[VmStats | None, list[Gap]]]:
        return await asyncio.gather(*(self._ask(monitor) for monitor in self._monitors))

    async def _ask(self, monitor: _Monitor) -> tuple[VmStats | None, list[Gap]]:
        try:
            return await asyncio.wait_for(monitor.read(), self._timeout_s)
        except TimeoutError:
            reason = monitor.why_no_answer()
        except SourceError as error:
            reason = error.reason
        except FormatError as error:
            reason = str(error)
        vm = monitor.vm
        await monitor.close()
        return None, [Gap(f"{monitor.path}: {reason}", vm=vm.id if vm else None)]


@dataclass(frozen=True, slots=True)
class _QemuVcpu:
    """A vCPU: its QOM path, KVM's id, and its thread id as this reader sees it."""

    qom_path: str
    id: int
    tid: int


@dataclass(frozen=True, slots=True)
class _QemuVm:
    """The properties of a VM that do not change during one connection."""

    id: VmId
    pid: int
    label: str
    schemas: tuple[QmpSchema, ...]


class _Monitor:
    """One socket. ``vm`` is None while there is no connection."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.vm: _QemuVm | None = None
        self.laid_out: dict[Schema, Schema] = {}
        self._client: QMPClient | None = None
        self._peer = NOT_KNOWN
        self._cpus: list[_QemuVcpu] = []
        self._votes = dict.fromkeys(BucketOrder, 0)

    async def read(self) -> tuple[VmStats, list[Gap]]:
        vm = self.vm or await self._connect()
        of_vm = parse_entries(await self._execute("query-stats", target="vm"))
        of_vcpus = await self._read_vcpus(vm)
        of_all_vcpus = [entry for entries in of_vcpus.values() for entry in entries]
        self._vote(vm.schemas, of_all_vcpus)
        gaps: list[Gap] = []
        vm_layout = self._lay_out(vm, Scope.VM, of_vm, gaps)
        vcpu_layout = self._lay_out(vm, Scope.VCPU, of_all_vcpus, gaps)
        vcpus = [VcpuStats(cpu.id, self._stats(vcpu_layout, of_vcpus[cpu.qom_path]), cpu.tid) for cpu in self._cpus]
        stats = VmStats(vm.id, self._stats(vm_layout, of_vm), vcpus, pid=vm.pid, label=vm.label)
        self._forget_events()
        return stats, gaps

    async def close(self) -> None:
        """Release the socket. Never raises: the other side may be gone."""
        client, self._client, self.vm = self._client, None, None
        if client is not None:
            with suppress(Exception):
                await client.disconnect()

    def why_no_answer(self) -> str:
        if self.vm is None:
            return "it sent no greeting: it serves one client at a time, and another one is connected"
        return "QEMU did not answer in time; its main loop may be stuck"

    # Connection.

    async def _connect(self) -> _QemuVm:
        from qemu.qmp import QMPClient

        sock = _connected(self.path)
        self._peer = _peer_pid(sock)
        self._client = QMPClient("kvmscope")
        try:
            await self._client.connect(sock)
        except Exception as error:  # an arbitrary peer can break the client in any way (RecursionError)
            raise SourceError(f"no QMP monitor answers there: {_said(error)}", path=self.path) from error
        schemas = parse_schemas(await self._execute("query-stats-schemas"))
        await self._read_cpus()
        pid = self._peer if any(cpu.tid != NOT_KNOWN for cpu in self._cpus) else NOT_KNOWN
        label = parse_name(await self._execute("query-name"))
        self.vm = _QemuVm(_vm_id(pid), pid, label, schemas)
        return self.vm

    async def _execute(self, command: str, **arguments: object) -> object:
        from qemu.qmp import ExecuteError

        assert self._client is not None
        try:
            return await self._client.execute(command, arguments or None)
        except ExecuteError as error:
            missing = error.error_class == "CommandNotFound"
            reason = f"this QEMU has no {command} (7.1 is the first with statistics)" if missing else f"{error}"
            raise SourceError(reason, path=self.path) from error
        except Exception as error:  # as above
            raise SourceError(f"the connection ended during {command}: {_said(error)}", path=self.path) from error

    # vCPUs.

    async def _read_cpus(self) -> None:
        vcpus = []
        for cpu in parse_cpus(await self._execute("query-cpus-fast")):
            tid = cpu.thread if _is_thread_of(cpu.thread, self._peer) else NOT_KNOWN
            vcpus.append(_QemuVcpu(cpu.qom_path, await self._vcpu_id(cpu), tid))
        if len({vcpu.id for vcpu in vcpus}) != len(vcpus):
            raise SourceError("it reports the same id for two vCPUs", path=self.path)
        self._cpus = vcpus

    async def _vcpu_id(self, cpu: QmpCpu) -> int:
        """KVM's id of a vCPU: on x86 its APIC id, which is not QEMU's index in every topology; elsewhere the index."""
        if cpu.is_x86:
            return parse_apic_id(await self._execute("qom-get", path=cpu.qom_path, property="apic-id"))
        return cpu.index

    async def _read_vcpus(self, vm: _QemuVm) -> dict[str, Sequence[QmpEntry]]:
        """The entries of each vCPU, by its QOM path."""
        entries = parse_entries(await self._execute("query-stats", target="vcpu"))
        paths = {entry.qom_path for entry in entries}
        known = {cpu.qom_path for cpu in self._cpus}
        providers = sum(schema.scope is Scope.VCPU for schema in vm.schemas)
        if not paths <= known or len(entries) != len(known) * providers:
            await self._read_cpus()
            known = {cpu.qom_path for cpu in self._cpus}
        if paths == known:
            by_path: dict[str, list[QmpEntry]] = {path: [] for path in known}
            for entry in entries:
                by_path[entry.qom_path or ""].append(entry)
            return dict(by_path)
        return {cpu.qom_path: await self._read_vcpu(cpu) for cpu in self._cpus}

    async def _read_vcpu(self, cpu: _QemuVcpu) -> Sequence[QmpEntry]:
        return parse_entries(await self._execute("query-stats", target="vcpu", vcpus=[cpu.qom_path]))

    # Values.

    def _vote(self, schemas: Iterable[QmpSchema], entries: Sequence[QmpEntry]) -> None:
        for schema in schemas:
            if schema.scope is Scope.VCPU:
                of_provider = [entry for entry in entries if entry.provider == schema.provider]
                for order, votes in votes_for_order(schema, of_provider).items():
                    self._votes[order] += votes

    @property
    def _order(self) -> BucketOrder | None:
        """The order of buckets that fits all answers of this QEMU so far; None if it is undecided."""
        first, last = self._votes[BucketOrder.FIRST_FIRST], self._votes[BucketOrder.LAST_FIRST]
        if first == last:
            return None
        return BucketOrder.FIRST_FIRST if first > last else BucketOrder.LAST_FIRST

    def _lay_out(self, vm: _QemuVm, scope: Scope, entries: Sequence[QmpEntry], gaps: list[Gap]) -> dict[str, Schema]:
        """The schema of these values for each provider; histograms of unknown bucket order are gaps instead."""
        layout = {}
        for described in vm.schemas:
            if described.scope is scope:
                own = [entry for entry in entries if entry.provider == described.provider]
                unreadable = {name for entry in own for name in entry.needing_order(described)}
                if self._order is not None:
                    unreadable = set()
                gaps += [_order_unknown(vm.id, described.provider, name) for name in sorted(unreadable)]
                schema = described.without(unreadable).laid_out(own)
                layout[described.provider] = self.laid_out.setdefault(schema, schema)
        return layout

    def _stats(self, layout: dict[str, Schema], entries: Iterable[QmpEntry]) -> list[StatsOf]:
        order = self._order or BucketOrder.FIRST_FIRST
        own = [(entry, layout[entry.provider]) for entry in entries if entry.provider in layout]
        return [StatsOf(schema, entry.words(schema, order)) for entry, schema in own]

    def _forget_events(self) -> None:
        # The client queues every event until it is taken.
        if self._client is not None:
            self._client.events.clear()


def _order_unknown(vm: VmId, provider: str, name: str) -> Gap:
    reason = "the values so far do not show in which order QEMU reports its buckets"
    return Gap(reason, vm=vm, provider=provider, stat=name)


def _said(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__


def _connected(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        reason = {
            errno.ENOENT: "there is no such socket",
            errno.ECONNREFUSED: "nothing listens there",
            errno.EACCES: "this user may not connect to it",
            errno.EAGAIN: "it is busy: it serves one client at a time, and others are already waiting",
        }.get(error.errno or 0, str(error))
        raise SourceError(reason, path=path, errno=error.errno) from error
    return sock


def _peer_pid(sock: socket.socket) -> int:
    size = struct.calcsize("3i")
    pid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
    return pid


def _is_thread_of(tid: int, pid: int) -> bool:
    """Whether QEMU's thread id is a thread of the listening process: false in another pid namespace, or if another
    process (libvirt) made the socket and handed it to QEMU."""
    return pid > 0 and has_thread(pid, tid)


def _vm_id(pid: int) -> VmId:
    """The id that ``statsfd`` has for the only VM of a QEMU process; one local to this reader if it is not known."""
    own = os.getpid()
    if pid != NOT_KNOWN:
        try:
            return vm_id_in_process(pid, start_ticks(pid), 0)
        except OSError:
            pass
    return vm_id_in_process(own, start_ticks(own), -(1 << 32) - next(_monitors))
