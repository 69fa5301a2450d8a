"""Provider ``pressure``: the time that a VM's cgroup waited for a CPU and for memory, for ``collect`` to join.

The kernel counts it for cgroups (pressure stall information), so it is available with any source. Each read takes two
files per cgroup, about 15 µs; VMs in one cgroup share its numbers.
Not here: the cgroup of a VMM (``host.naming``, in another thread); the files (``linux.cgroups``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from ..linux.cgroups import read_pressure
from ..linux.facts import Fact
from ..linux.files import PROC
from ..sample import Block, Gap, Sample
from ..schema import Descriptor, Kind, Schema, Scope, Unit

PROVIDER: Final = "pressure"
SCHEMA: Final = Schema(
    PROVIDER,
    Scope.VM,
    tuple(
        Descriptor(name, Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=8 * place)
        for place, name in enumerate(("cpu_some_ns", "cpu_full_ns", "memory_some_ns", "memory_full_ns"))
    ),
    8 * 4,
)
_NS_PER_US: Final = 1000


_NO_PROCESS: Final = Fact[str].unknown("its process is not known")


def with_pressure(sample: Sample, groups: Mapping[int, Fact[str]], *, proc_root: str = PROC) -> Sample:
    """``sample`` with the pressure of its VMs' cgroups. ``groups``: the cgroup directory of each process, by pid."""
    of_vms = [groups.get(pid, _NO_PROCESS) for pid in sample.vms.pid.tolist()]
    read = {folder: _read(folder, proc_root) for folder in dict.fromkeys(group.value for group in of_vms) if folder}
    found = [read.get(group.value or "", Fact.unknown(group.reason or "")) for group in of_vms]
    known = {row: words.value for row, words in enumerate(found) if words.value is not None}
    reasons = {row: words.reason or "" for row, words in enumerate(found) if words.value is None}
    return replace(sample, blocks=(*sample.blocks, *_blocks(known)), gaps=(*sample.gaps, *_gaps(sample, reasons)))


def _read(folder: str, proc_root: str) -> Fact[tuple[int, ...]]:
    """The stats of one cgroup, in the order of the schema."""
    words: tuple[int, ...] = ()
    for resource in ("cpu", "memory"):
        found = read_pressure(folder, resource, proc_root=proc_root)
        if found.value is None:
            return Fact.unknown(found.reason or "")
        words += (_NS_PER_US * found.value.some_us, _NS_PER_US * found.value.full_us)
    return Fact(words)


def _blocks(known: Mapping[int, tuple[int, ...]]) -> Iterator[Block]:
    if known:
        values = np.array(list(known.values()), dtype=np.uint64)
        yield Block(SCHEMA, values, np.fromiter(known, dtype=np.int64, count=len(known)))


def _gaps(sample: Sample, reasons: Mapping[int, str]) -> Iterator[Gap]:
    """Gaps of the VMs, or one for the host if the reason is the same for all VMs."""
    if len(reasons) == len(sample.vms) and len(set(reasons.values())) == 1:
        yield Gap(next(iter(reasons.values())), provider=PROVIDER)
    else:
        yield from (Gap(reason, vm=sample.vms.vm_id(row), provider=PROVIDER) for row, reason in reasons.items())
