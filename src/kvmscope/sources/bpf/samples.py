"""Makes samples of the output of iterator runs: subjects, a block of words for each schema, gaps.

The subjects seldom change between two runs, and on a small host describing them costs more than reading them. So
samples share these read-only columns as long as the identities in the records are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ...codec import apicv, cgroup, sched, settings
from ...codec.apicv import Reasons
from ...codec.records import VcpuRecords, VmRecords
from ...codec.snapshot import (
    HAS_CREATED,
    HAS_EVENTS,
    HAS_SCHED,
    Feature,
    SnapshotFlag,
    SnapshotHeader,
)
from ...errors import Unavailable
from ...linux.namespaces import SHARE_PIDS
from ...sample import NOT_KNOWN, Block, Gap, I64Array, Sample, U64Array, Vcpus, Vms
from ...schema import Schema
from ..kvm_schema import KvmSchemas
from .arena import Run

if TYPE_CHECKING:
    from .group import Hooks

_Column = TypeVar("_Column", I64Array, U64Array)


@dataclass(frozen=True, slots=True)
class RecordedSubjects:
    """The subjects of a run's records, and the blocks in which each has a row."""

    identities: tuple[bytes, bytes]
    vms: Vms
    vcpus: Vcpus
    vm_rows: I64Array
    vcpu_rows: I64Array
    apicv_vm_rows: I64Array
    apicv_vcpu_rows: I64Array
    cgroup_rows: I64Array
    sched_vm_rows: I64Array
    sched_vcpu_rows: I64Array
    gaps: tuple[Gap, ...]
    """The stats of them that cannot be read."""


class Samples:
    """Makes samples of runs."""

    def __init__(
        self,
        source: str,
        kvm: KvmSchemas,
        reasons: Reasons,
        features: Feature,
        *,
        hooks: Hooks | None = None,
        registers: bool = False,
    ) -> None:
        self._source = source
        self._kvm = kvm
        self._named = sum(1 << bit for bit in reasons)
        self._flags = HAS_EVENTS if hooks else 0
        self._settings = settings.vm_schema(features)
        self._cgroup = cgroup.vm_schema(features)
        self._sched = sched.vm_schema(features), sched.vcpu_schema(features)
        self._apicv: tuple[Schema, Schema] | None = None
        counted = hooks.counted if hooks else None
        if Feature.APICV in features:
            self._apicv = (
                apicv.vm_schema(reasons, features, counted, registers=registers),
                apicv.vcpu_schema(counted, registers=registers),
            )
        elif hooks:
            raise Unavailable("this kernel's KVM has no APICv or AVIC, so group apicv has nothing to count")
        self._not_counted = tuple(_gaps_of_group(hooks, reasons)) if hooks else ()
        self._subjects: RecordedSubjects | None = None

    @property
    def schemas(self) -> tuple[Schema, ...]:
        own = (schema for schema in (self._settings, self._cgroup, *self._sched) if schema)
        return self._kvm.vm, self._kvm.vcpu, *own, *(self._apicv or ())

    def make(self, taken_ns: int, run: Run) -> Sample:
        """The columns of one run; stats and states stay views of the records."""
        vms, vcpus = run.vms, run.vcpus
        subjects = self._subjects_of(vms, vcpus)
        blocks = [
            Block(self._kvm.vm, vms.stats, subjects.vm_rows),
            Block(self._kvm.vcpu, vcpus.stats, subjects.vcpu_rows),
        ]
        if self._settings:
            blocks.append(Block(self._settings, vms.settings, subjects.vm_rows))
        if self._cgroup:
            blocks.append(cgroup.block(self._cgroup, vms, subjects.cgroup_rows))
        of_vm, of_vcpu = self._sched
        if of_vm and of_vcpu:
            blocks.append(sched.block(of_vm, vms, subjects.sched_vm_rows))
            blocks.append(sched.block(of_vcpu, vcpus, subjects.sched_vcpu_rows))
        if self._apicv:
            vm_schema, vcpu_schema = self._apicv
            blocks.append(apicv.block(vm_schema, vms, subjects.apicv_vm_rows))
            blocks.append(apicv.block(vcpu_schema, vcpus, subjects.apicv_vcpu_rows))
        return Sample(
            taken_ns=taken_ns,
            monotonic_ns=run.header.boot_ns,
            source=self._source,
            simulated=False,
            vms=subjects.vms,
            vcpus=subjects.vcpus,
            blocks=tuple(blocks),
            gaps=(*subjects.gaps, *self._gaps_of_run(run.header)),
        )

    def _subjects_of(self, vms: VmRecords, vcpus: VcpuRecords) -> RecordedSubjects:
        """The subjects; the objects of the last run if this run has the same ones."""
        identities = vms.identities(), vcpus.identities()
        if self._subjects is None or self._subjects.identities != identities:
            self._subjects = self._describe(identities, vms, vcpus)
        return self._subjects

    def _describe(self, identities: tuple[bytes, bytes], vms: VmRecords, vcpus: VcpuRecords) -> RecordedSubjects:
        created_ns, pid = vms.created_ns, vms.pid
        gaps = tuple(self._gaps_of_subjects(vms, vcpus))
        created_ns[vms.flags & HAS_CREATED == 0] = NOT_KNOWN
        return RecordedSubjects(
            identities,
            Vms(_shared(vms.id), _shared(_known(pid)), _shared(created_ns), ("",) * len(vms)),
            Vcpus(_shared(vcpus.vm), _shared(vcpus.id), _shared(_known(vcpus.tid))),
            vm_rows=_shared(np.arange(len(vms))),
            vcpu_rows=_shared(np.arange(len(vcpus))),
            apicv_vm_rows=_shared(apicv.vm_rows(vms, flags=self._flags)),
            apicv_vcpu_rows=_shared(apicv.vcpu_rows(vcpus, flags=self._flags)),
            cgroup_rows=_shared(cgroup.vm_rows(vms)),
            sched_vm_rows=_shared(sched.rows(vms)),
            sched_vcpu_rows=_shared(sched.rows(vcpus)),
            gaps=gaps,
        )

    def _gaps_of_subjects(self, vms: VmRecords, vcpus: VcpuRecords) -> Iterator[Gap]:
        yield from self._not_counted
        outside = int(np.count_nonzero(vms.pid <= 0))
        if outside:
            who = "1 VM runs in a process" if outside == 1 else f"{outside} VMs run in processes"
            yield Gap(f"{who} outside this pid namespace and cannot be named; {SHARE_PIDS}")
        shared = int(np.count_nonzero(vms.flags & HAS_SCHED == 0))
        if shared and self._sched[0]:
            who = "1 VM shares its process" if shared == 1 else f"{shared} VMs share processes"
            yield Gap(f"{who} with other VMs, so the threads cannot be attributed to one VM", provider=sched.PROVIDER)
        if self._flags and np.any(vcpus.flags & self._flags == 0):
            yield Gap("more vCPUs than the group has room to count", provider=apicv.PROVIDER)

    def _gaps_of_run(self, header: SnapshotHeader) -> tuple[Gap, ...]:
        gaps: tuple[Gap, ...] = ()
        if header.flags and SnapshotFlag.UNFINISHED in header.flags:
            gaps += (Gap("the walk over processes was cut short: VMs are missing"),)
        if header.inhibits & ~self._named:
            gaps += (Gap("an inhibit reason is set that this kernel's BTF has no name for", provider=apicv.PROVIDER),)
        return gaps


def _gaps_of_group(hooks: Hooks, reasons: Reasons) -> Iterator[Gap]:
    for what, reason in hooks.why_not.items():
        for stat in apicv.stats_of(what, reasons):
            yield Gap(reason, provider=apicv.PROVIDER, stat=stat)


def _known(numbers: I64Array) -> I64Array:
    """Replace 0 by NOT_KNOWN: 0 in a record means that the process has no id in the reader's pid namespace."""
    numbers[numbers == 0] = NOT_KNOWN
    return numbers


def _shared(column: _Column) -> _Column:
    """The column made read-only, since several samples share it."""
    column.flags.writeable = False
    return column
