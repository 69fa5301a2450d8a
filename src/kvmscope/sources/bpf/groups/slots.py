"""The arrays of a group, mapped read-only, and the join of their slots to the subjects of a sample.

The other side of groups/common.h. A subject without a slot reads as 0 only if the kernel is known to report such events
and the subject is known never to have had a slot. The first is known from the kernel, or from any event ever seen. The
second is known for every subject until a slot is taken over or refused, and afterwards for VMs created later. A subject
whose counts are unknown has no row.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from ....sample import NOT_KNOWN, Block, Gap, I64Array, Sample, U64Array
from ....schema import Scope
from .base import WHO_SIZE, GroupShape, Part
from .logged import logged_vms

ARRAYS = ("who", "data", "state")
NO_VCPU = 0xFFFF_FFFF
_WHO = np.dtype(
    [("vm", "u8"), ("vcpu", "u4"), ("generation", "u4"), ("last_ns", "u8"), ("pending", "u8"), ("reserved", "u8", 4)]
)
_STATE = np.dtype([("used", "u8"), ("lost_ns", "u8"), ("taken_over", "u8"), ("refused", "u8"), ("reserved", "u8", 4)])
assert _WHO.itemsize == WHO_SIZE
_CLOCK_SLACK_NS = 1_000_000_000  # the creation time of a VM is from a tick-based clock
_SUBJECTS = {Scope.VM: "VMs", Scope.VCPU: "vCPUs"}


class Slots:
    """The counts of a group. ``fds``: of the arrays ``ARRAYS``; may be closed afterwards."""

    def __init__(self, shape: GroupShape, fds: Mapping[str, int]) -> None:
        self.shape = shape
        sizes = {
            "who": shape.slots * _WHO.itemsize,
            "data": shape.slots * shape.schema.data_size,
            "state": _STATE.itemsize,
        }
        self._maps = {name: mmap.mmap(fds[name], _pages(sizes[name]), prot=mmap.PROT_READ) for name in ARRAYS}
        self._words = shape.schema.words

    def close(self) -> None:
        for mapped in self._maps.values():
            mapped.close()

    def read(self, sample: Sample) -> Part:
        """The group's block for the subjects of ``sample``, and their gaps."""
        used = min(int(self._state()["used"]), self.shape.slots)
        rows, values = self._counted(sample, used)
        # Read last, so it includes every loss before the slots were read.
        state = self._state()
        subjects = len(sample.vms if self._scope is Scope.VM else sample.vcpus)
        whole = np.zeros((subjects, self._words), np.uint64)
        has_slot = np.zeros(subjects, np.bool_)
        has_slot[rows] = True
        if len(rows) == np.count_nonzero(has_slot):
            whole[rows] = values
        else:  # threads of one subject took slots at the same moment: their counts are added
            np.add.at(whole, rows, values)
        sees = not self.shape.silent or bool(state["used"])
        known = has_slot | (self._is_zero(sample, int(state["lost_ns"])) if sees else False)
        gaps = [*self._gaps(sees, int(np.count_nonzero(~known)), subjects)]
        if not sees:
            return Part((), tuple(gaps))
        if self.shape.while_logged:
            logged = logged_vms(sample)
            gaps += _gaps_without_log(self.shape.name, logged)
            known &= False if logged is None else logged
        known_rows = np.flatnonzero(known)
        block = Block(self.shape.schema, whole if len(known_rows) == subjects else whole[known_rows], known_rows)
        return Part((block,), tuple(gaps))

    @property
    def _scope(self) -> Scope:
        return self.shape.schema.scope

    def _state(self) -> np.void:
        state: np.void = np.frombuffer(self._maps["state"], _STATE, 1).copy()[0]
        return state

    def _who(self, used: int) -> npt.NDArray[np.void]:
        return np.frombuffer(self._maps["who"], _WHO, used).copy()

    def _counted(self, sample: Sample, used: int) -> tuple[I64Array, U64Array]:
        """The rows in the sample of the subjects that have slots, and their counts."""
        who = self._who(used)
        rows = rows_of(sample, self._scope, who["vm"], who["vcpu"])
        rows[(who["generation"] & 1 != 0) | (who["vm"] == 0)] = NOT_KNOWN
        slots = np.flatnonzero(rows != NOT_KNOWN)
        array = np.frombuffer(self._maps["data"], np.uint64, used * self._words).reshape(used, self._words)
        values = array[slots]
        del array
        steady = self._who(used)["generation"][slots] == who["generation"][slots]
        return rows[slots][steady], values if steady.all() else values[steady]

    def _is_zero(self, sample: Sample, lost_ns: int) -> npt.NDArray[np.bool_]:
        """Which subjects, if they have no slot, are known never to have had one."""
        vms = np.ones(len(sample.vms), np.bool_)
        if lost_ns:
            lost_at = lost_ns + time.time_ns() - time.monotonic_ns()
            vms = (sample.vms.created_ns != NOT_KNOWN) & (sample.vms.created_ns > lost_at + _CLOCK_SLACK_NS)
        return vms if self._scope is Scope.VM else vms[sample.vcpus.vm]

    def _gaps(self, sees: bool, unknown: int, subjects: int) -> Iterator[Gap]:
        name = self.shape.name
        for stat, reason in self.shape.missing:
            yield Gap(reason, provider=name, stat=stat)
        if not sees:
            yield Gap(self.shape.silent, provider=name)
        elif unknown:
            room = f"group {name} has room for {self.shape.slots} {_SUBJECTS[self._scope]}"
            yield Gap(f"{room}: {unknown} of {subjects} have no place in it", provider=name)


def _gaps_without_log(name: str, logged: npt.NDArray[np.bool_] | None) -> Iterator[Gap]:
    if logged is None:
        yield Gap("this kernel does not show for which VMs KVM logs dirty pages", provider=name)
    elif without := int(np.count_nonzero(~logged)):
        who = "its VM" if len(logged) == 1 else f"{without} of {len(logged)} VMs"
        yield Gap(f"KVM does not log the memory of {who}, so the pages written to are unknown", provider=name)


def rows_of(sample: Sample, scope: Scope, vm_ids: U64Array, vcpu_ids: npt.NDArray[np.uint32]) -> I64Array:
    """The row of each subject in the sample's table, NOT_KNOWN for subjects that the sample lacks."""
    vms = _lookup(sample.vms.id, vm_ids)
    if scope is Scope.VM:
        return np.where(vcpu_ids == NO_VCPU, vms, NOT_KNOWN)
    there = _key(sample.vcpus.vm, sample.vcpus.id)
    return np.where(vms == NOT_KNOWN, NOT_KNOWN, _lookup(there, _key(vms, vcpu_ids.astype(np.int64))))


def _key(vm_rows: I64Array, vcpu_ids: I64Array) -> U64Array:
    return vm_rows.astype(np.uint64) << np.uint64(32) | vcpu_ids.astype(np.uint64)


def _lookup(there: U64Array, wanted: U64Array) -> I64Array:
    """The place of each of ``wanted`` in ``there``, NOT_KNOWN if it has none."""
    if not len(there):
        return np.full(len(wanted), NOT_KNOWN, np.int64)
    order = np.argsort(there, kind="stable")
    places = order[np.minimum(np.searchsorted(there[order], wanted), len(there) - 1)]
    return np.where(there[places] == wanted, places, NOT_KNOWN)


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
