"""A sample: the raw data of one read of a host, in columns, with nothing derived.

A ``Sample`` has two tables of subjects (``Vms``, ``Vcpus``) and blocks of raw words, one block per schema.
Row ``i`` of a block belongs to row ``block.rows[i]`` of the subjects' table. A source that sees only some subjects
leaves the other rows out and adds a ``Gap``; it never writes a zero. Rates and verdicts are in ``analysis``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .schema import Descriptor, Schema, Scope

U64Array: TypeAlias = npt.NDArray[np.uint64]
I64Array: TypeAlias = npt.NDArray[np.int64]

NOT_KNOWN = -1
"""In an identity column (pid, tid, created_ns): the source does not know it. Shown as null, never as a number."""


@dataclass(frozen=True, slots=True, order=True)
class VmId:
    """Identifies one VM for as long as it lives; opaque, and not reused for another VM of this boot.

    All readers of ``bpf`` and ``pinned`` give a VM the same id; other sources do where they can read the data from
    which it is made (docs/explanation/sources.md, Identity).
    """

    value: int

    def __hash__(self) -> int:
        """Takes half the time of a dataclass's own hash; screens look VMs up by their ids often."""
        return self.value

    def __str__(self) -> str:
        return f"{self.value:016x}"


@dataclass(frozen=True, slots=True, order=True)
class VcpuId:
    """Identifies one vCPU: its VM and the id that the VMM gave it (on x86 its APIC id at creation)."""

    vm: VmId
    id: int

    def __str__(self) -> str:
        return f"{self.vm}/{self.id}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a sample was taken: ids of the host and of its boot, opaque, to be compared only."""

    host: str
    boot: str

    def __str__(self) -> str:
        return f"host {self.host[:8]}, boot {self.boot[:8]}"


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that could not be read, and why. ``None`` means "all": all vCPUs, all stats of the provider."""

    reason: str
    vm: VmId | None = None
    vcpu: int | None = None
    provider: str | None = None
    stat: str | None = None


def gaps_of(gaps: Iterable[Gap], vm: VmId | None) -> tuple[Gap, ...]:
    """The gaps of one VM, including those of all VMs; all gaps for None."""
    return tuple(gap for gap in gaps if vm is None or gap.vm in (None, vm))


_KERNEL_LABEL = re.compile(r"kvm-\d+")
"""Source: kvm_create_vm in virt/kvm/kvm_main.c (stats_id), Linux 5.14 to 7.3."""


@dataclass(frozen=True)
class Vms:
    """One row a VM, in order of creation as far as the source knows it; all columns have the same length.

    ``id``: u64, see ``VmId``. ``pid``: process id of the VMM as this reader sees it, or NOT_KNOWN.
    ``created_ns``: CLOCK_REALTIME nanoseconds at creation, or NOT_KNOWN.
    ``label``: the name that the source itself has for the VM (the id string of a stats file), or "" if it has none.
    """

    id: U64Array
    pid: I64Array
    created_ns: I64Array
    label: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.id)

    def vm_id(self, row: int) -> VmId:
        return self.ids[row]

    @cached_property
    def ids(self) -> tuple[VmId, ...]:
        return tuple(map(VmId, self.id.tolist()))

    @cached_property
    def row_of(self) -> Mapping[VmId, int]:
        """The row of each VM, by its id."""
        return {vm: row for row, vm in enumerate(self.ids)}

    def given_label(self, row: int) -> str:
        """The label, or "" if it is the kernel's default, ``kvm-PID``."""
        label = self.label[row]
        return "" if _KERNEL_LABEL.fullmatch(label) else label


@dataclass(frozen=True)
class Vcpus:
    """One row a vCPU, those of a VM adjacent and in order of creation; all columns have the same length.

    ``vm``: row in ``Vms``. ``id``: vCPU id. ``tid``: thread that last ran it as this reader sees it, or NOT_KNOWN.
    """

    vm: I64Array
    id: I64Array
    tid: I64Array

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True, eq=False)
class WordColumns:
    """The places of several one-word stats in the rows of a block. Blocks cache their copies by this object.

    ``places``: the indices of the words. ``shifts`` and ``masks``: shape (stats, 1), they extract a bit from its word;
    None if none of the stats is a bit.
    """

    places: npt.NDArray[np.intp]
    shifts: U64Array | None
    masks: U64Array | None

    @classmethod
    def of(cls, stats: Sequence[Descriptor]) -> WordColumns:
        places = np.array([stat.offset // 8 for stat in stats], dtype=np.intp)
        bits = [stat.bit for stat in stats]
        if all(bit is None for bit in bits):
            return cls(places, None, None)
        shifts = np.array([[bit or 0] for bit in bits], dtype=np.uint64)
        masks = np.array([[_ALL_BITS if bit is None else 1] for bit in bits], dtype=np.uint64)
        return cls(places, shifts, masks)


_ALL_BITS = 2**64 - 1


@dataclass(frozen=True, init=False)
class Block:
    """The raw words of one schema.

    ``values``: shape (subjects, schema.words), u64, native byte order, possibly a strided view of the bytes as read.
    ``rows``: shape (subjects,), the row of each subject in ``Vms`` or ``Vcpus``, ascending.
    """

    schema: Schema
    values: U64Array
    rows: I64Array

    def __init__(self, schema: Schema, values: U64Array, rows: I64Array) -> None:
        own = self.__dict__  # a read makes five blocks; the __init__ of a frozen dataclass takes twice as long
        own["schema"], own["values"], own["rows"] = schema, values, rows

    def column(self, name: str) -> U64Array:
        """Raw words of one stat: shape (subjects,) for a scalar, otherwise (subjects, size).

        A view without a copy, except for a boolean that is one bit of its word: an array of 0 and 1.
        """
        descriptor = self.schema[name]
        first = descriptor.offset // 8
        if descriptor.bit is not None:
            return self.values[:, first] >> np.uint64(descriptor.bit) & np.uint64(1)
        if descriptor.size == 1:
            return self.values[:, first]
        return self.values[:, first : first + descriptor.size]

    @cached_property
    def everybody(self) -> npt.NDArray[np.bool_]:
        """True for each row."""
        everybody = np.ones(len(self.values), dtype=np.bool_)
        everybody.flags.writeable = False
        return everybody

    def compact_column(self, name: str) -> U64Array:
        """The same as ``column``; the column of a one-word stat is copied once, to be contiguous."""
        if self.schema[name].size != 1:
            return self.column(name)
        found = self._compact.get(name)
        if found is None:
            found = self._compact[name] = np.ascontiguousarray(self.column(name))
        return found

    def words_of(self, columns: WordColumns) -> U64Array:
        """Several stats, each contiguous: shape (stats, subjects). They are copied once."""
        found = self._copied.get(columns)
        if found is None:
            found = np.ascontiguousarray(self.values.T[columns.places])
            if columns.shifts is not None and columns.masks is not None:
                found = found >> columns.shifts & columns.masks
            self._copied[columns] = found
        return found

    @cached_property
    def _copied(self) -> dict[WordColumns, U64Array]:
        return {}

    @cached_property
    def _compact(self) -> dict[str, U64Array]:
        return {}

    @cached_property
    def single_words(self) -> Mapping[str, U64Array]:
        """The ``compact_column`` of every one-word stat, for callers that need all: one pass copies them."""
        stats = [stat for stat in self.schema.descriptors if stat.size == 1]
        copied = np.ascontiguousarray(self.values[:, [stat.offset // 8 for stat in stats]].T)
        return {
            stat.name: words if stat.bit is None else words >> np.uint64(stat.bit) & np.uint64(1)
            for stat, words in zip(stats, copied, strict=True)
        }


@dataclass(frozen=True, init=False)
class Sample:
    """One read of a host.

    ``taken_ns``: CLOCK_REALTIME when the values were taken. ``monotonic_ns``: CLOCK_BOOTTIME at the same moment, for
    intervals. ``source``: name of the source. ``simulated``: true if the numbers are not from a kernel.
    ``origin``: host and boot, None if they are unknown.
    """

    taken_ns: int
    monotonic_ns: int
    source: str
    simulated: bool
    vms: Vms
    vcpus: Vcpus
    blocks: tuple[Block, ...]
    gaps: tuple[Gap, ...] = ()
    origin: Origin | None = None

    def __init__(  # noqa: PLR0917 - the fields, in their order
        self,
        taken_ns: int,
        monotonic_ns: int,
        source: str,
        simulated: bool,
        vms: Vms,
        vcpus: Vcpus,
        blocks: tuple[Block, ...],
        gaps: tuple[Gap, ...] = (),
        origin: Origin | None = None,
    ) -> None:
        own = self.__dict__  # as in a block: each read makes two samples
        own["taken_ns"], own["monotonic_ns"] = taken_ns, monotonic_ns
        own["source"], own["simulated"], own["origin"] = source, simulated, origin
        own["vms"], own["vcpus"], own["blocks"], own["gaps"] = vms, vcpus, blocks, gaps

    def of_origin(self, origin: Origin | None) -> Sample:
        """The same sample with this origin; dataclasses.replace() would take as long as all the columns of a read."""
        sample = Sample.__new__(Sample)
        sample.__dict__.update(self.__dict__)  # cached properties too: none depends on the origin
        sample.__dict__["origin"] = origin
        return sample

    def block(self, provider: str, scope: Scope) -> Block | None:
        """The block of one schema, or None if this sample has none."""
        return next(iter(self.blocks_from(provider, scope)), None)

    def blocks_from(self, provider: str, scope: Scope) -> Sequence[Block]:
        """The blocks of one provider and scope: several if its subjects have different schemas."""
        return self._by_provider.get((provider, scope), ())

    @cached_property
    def _by_provider(self) -> Mapping[tuple[str, Scope], Sequence[Block]]:
        found: dict[tuple[str, Scope], list[Block]] = {}
        for block in self.blocks:
            found.setdefault((block.schema.provider, block.schema.scope), []).append(block)
        return found

    def blocks_of(self, scope: Scope) -> Iterator[Block]:
        return (block for block in self.blocks if block.schema.scope is scope)

    @cached_property
    def vcpus_of_vm(self) -> tuple[slice, ...]:
        """The rows in ``vcpus`` of each VM."""
        edges = np.searchsorted(self.vcpus.vm, np.arange(len(self.vms) + 1))
        return tuple(slice(int(a), int(b)) for a, b in pairwise(edges))
