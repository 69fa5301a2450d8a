"""Source ``statsfd``: the kernel's own statistics files, one read(2) per subject, without BPF and without querying the
VMM.

It sees VMs whose stats fds were passed to this process (``adopt``) and those whose VMM keeps its stats fds open, by
duplicates of them (``discover``). It cannot see the statistics of other VMs, which are gaps; nor which thread runs a
vCPU, nor when a VM was created. ``discover`` skips VMs of this process itself: adopt their fds.

Rules: the description of a file is read once; a sample then costs one pread of the data block per file, into a buffer
that is copied once. A sample has no data of a VM whose VMM had ended, or had closed it, by the time of the read: both
are checked after the reads. See ``vmms`` for which files are held and for how long.
Source: Documentation/virt/kvm/api.rst 4.133; virt/kvm/binary_stats.c, Linux 5.14 to 7.3.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ..closing import Closable
from ..errors import PermissionNeeded, SourceError
from ..linux.files import PROC
from ..sample import Block, Gap, Sample, U64Array, VmId
from ..schema import Schema, Scope
from .files import StatsOf, VcpuStats, VmStats, assemble
from .heldfiles import PROVIDER, HeldFile
from .vmms import HeldVm, Vmms

NAME = "statsfd"

_FDS_A_MESSAGE = 253
"""The most fds that the kernel allows in one message (SCM_MAX_FD)."""


class StatsFdSource(Closable):
    """Reads stats fds; see the module for what it sees. Must be closed.

    ``discover``: look for VMMs that keep stats fds open. /proc is walked by the first read, then by each
    ``rescan_every``-th, by the read after ``rescan``, and by one that finds that a VMM closed its VM; other reads
    notice VMs that are gone, but not new ones.
    """

    name = NAME

    def __init__(self, *, discover: bool = True, rescan_every: int = 10, proc_root: str = PROC) -> None:
        self._vmms = Vmms(proc_root=proc_root)
        self._discover = discover
        self._rescan_every = rescan_every
        self._until_rescan = 0
        self._plan: _Plan | None = None

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas of the files opened so far."""
        return self._vmms.files.schemas

    def adopt(self, fds: Iterable[int], *, vm: str, pid: int | None = None) -> VmId:
        """Take ownership of these stats fds, all of one VM, even if it raises; ``vm``: any name for that VM.

        More fds of the same VM can follow under the same name. With ``pid``, of its VMM, they are closed when that
        process ends; without it, only ``release`` and ``close`` close them, and until then a VM that is gone reads as
        idle. Raises UsageError if one is not a stats fd, SourceError if there is no process ``pid``.
        """
        self._plan = None
        return self._vmms.adopt(fds, vm=vm, pid=pid)

    def release(self, vm: str) -> None:
        """Close the fds adopted under this name. Raises UsageError if there are none."""
        self._plan = None
        self._vmms.release(vm)

    def rescan(self) -> None:
        """Make the next read walk /proc."""
        self._until_rescan = 0

    def fileno(self) -> int:
        """An fd that is readable once a VMM has ended: for event loops, which should call ``close_dead`` then."""
        return self._vmms.fileno()

    def close_dead(self) -> list[VmId]:
        """Close the files of VMMs that have ended, which frees their VMs in the kernel; every read does so too."""
        dead = self._vmms.close_dead()
        if dead:
            self._plan = None
        return dead

    def check(self) -> None:
        """Look for VMMs now. Raises PermissionNeeded if none was found and some process cannot be seen or inspected."""
        self._rescan()
        if self._vmms.unseen and not any(vmm.vms for vmm in self._vmms):
            reasons = "; ".join(reason for reason, _ in self._vmms.unseen)
            remedies = [remedy for _, remedy in self._vmms.unseen]
            if os.geteuid() != 0:
                remedies = ["sudo kvmscope attach", *remedies]
            raise PermissionNeeded(f"no VMs found, but {reasons}", remedy="; ".join(remedies))

    def read(self) -> Sample:
        """One sample. A VM whose VMM ended before the read is not in it; one whose VMM ended during it is a gap."""
        self.close_dead()
        if self._vmms.close_abandoned():
            self.rescan()
            self._plan = None
        self._rescan_in_time()
        gaps: list[Gap] = []
        while True:
            plan = self._plan or _Plan.of(self._vmms)
            self._plan = plan
            taken_ns, monotonic_ns = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            failed = plan.read()
            lost = [Gap("its VMM closed it while it was read", vm=vm) for vm in self._lost()]
            lost += [self._fail(*failure) for failure in failed]
            if not lost:
                return plan.sample(taken_ns, monotonic_ns, (*self._vmms.gaps, *gaps))
            gaps += lost
            self._plan = None

    def close(self) -> None:
        self._plan = None
        self._vmms.close()

    def _rescan_in_time(self) -> None:
        if not self._discover:
            return
        if self._until_rescan <= 0 or not self._vmms.is_settled:
            self._rescan()
        self._until_rescan -= 1

    def _rescan(self) -> None:
        self._plan = None
        self._vmms.discover()
        self._until_rescan = self._rescan_every

    def _lost(self) -> list[VmId]:
        return self._vmms.close_dead() + self._vmms.close_abandoned()

    def _fail(self, file: HeldFile, vm: HeldVm, reason: str) -> Gap:
        vm.drop([file])
        return Gap(reason, vm=vm.id, vcpu=file.vcpu_id, provider=PROVIDER)


class _Plan:
    """The files to read and the place of each in the buffer, computed once per set of files."""

    def __init__(self, template: Sample, reads: list[_Read], buffers: list[U64Array]) -> None:
        self._template = template
        self._reads = reads
        self._buffers = buffers
        self._calls = [(read.file.fd, [read.into], read.file.data_offset) for read in reads]

    @classmethod
    def of(cls, vmms: Vmms) -> Self:
        """The plan for these VMMs. The tables come from ``assemble``, with each file's number in place of its data."""
        files = [(file, vm) for vmm in vmms for vm in vmm.vms.values() for file in vm.files.values()]
        stands_for = {id(file): _stand_in(file, number) for number, (file, _) in enumerate(files)}
        template = assemble(
            [_vm_stats(vm, vmm.pid, stands_for) for vmm in vmms for vm in vmm.vms.values()],
            source=NAME,
            taken_ns=0,
            monotonic_ns=0,
            gaps=[gap for vmm in vmms for vm in vmm.vms.values() for gap in vm.gaps],
        )
        buffers = [np.zeros(block.values.shape, dtype=np.uint64) for block in template.blocks]
        reads = []
        for block, buffer in zip(template.blocks, buffers, strict=True):
            for row, number in enumerate(block.values[:, 0]):
                reads.append(_Read(*files[int(number)], into=memoryview(buffer[row]).cast("B")))
        return cls(template, reads, buffers)

    def read(self) -> list[tuple[HeldFile, HeldVm, str]]:
        """Read every file into its place; returns those that failed, with the reason."""
        preadv = os.preadv
        failed = []
        for index, (fd, into, offset) in enumerate(self._calls):
            try:
                size = preadv(fd, into, offset)
            except OSError as error:
                failed.append((index, error.strerror or str(error)))
                continue
            if size != into[0].nbytes:
                failed.append((index, f"its data block became {size} bytes of {into[0].nbytes}"))
        return [(self._reads[index].file, self._reads[index].vm, reason) for index, reason in failed]

    def sample(self, taken_ns: int, monotonic_ns: int, gaps: tuple[Gap, ...]) -> Sample:
        """A sample of a copy of the data of the last read."""
        blocks = tuple(
            Block(block.schema, buffer.copy(), block.rows)
            for block, buffer in zip(self._template.blocks, self._buffers, strict=True)
        )
        return replace(
            self._template,
            taken_ns=taken_ns,
            monotonic_ns=monotonic_ns,
            blocks=blocks,
            gaps=(*self._template.gaps, *gaps),
        )


@dataclass(frozen=True, slots=True)
class _Read:
    file: HeldFile
    vm: HeldVm
    into: memoryview


def _stand_in(file: HeldFile, number: int) -> StatsOf:
    return StatsOf(file.schema, np.full(file.schema.words, number, dtype=np.uint64))


def _vm_stats(vm: HeldVm, pid: int, stands_for: dict[int, StatsOf]) -> VmStats:
    def stats_of(scope: Scope, vcpu: int | None) -> list[StatsOf]:
        file = vm.files.get((scope, vcpu))
        return [stands_for[id(file)]] if file else []

    return VmStats(
        vm.id,
        stats=stats_of(Scope.VM, None),
        vcpus=[VcpuStats(vcpu, stats_of(Scope.VCPU, vcpu)) for vcpu in vm.vcpu_ids],
        pid=pid,
        label=vm.label,
    )


def receive(sock: socket.socket, *, limit: int = 65536) -> tuple[bytes, list[int]]:
    """One message with its fds (SCM_RIGHTS), close-on-exec; the caller must adopt or close them.

    ``limit``: bytes of text. Blocks if the socket does; empty text and no fds mean that the sender closed it.
    Raises SourceError if the kernel dropped fds, after closing those that were received.
    """
    text, fds, flags, _ = socket.recv_fds(sock, limit, _FDS_A_MESSAGE, socket.MSG_CMSG_CLOEXEC)
    if flags & socket.MSG_CTRUNC:
        for fd in fds:
            os.close(fd)
        raise SourceError("some fds of a message could not be received", remedy="raise the limit of open files")
    return text, fds
