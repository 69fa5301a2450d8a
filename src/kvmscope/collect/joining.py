"""Joins published stats of VMMs to another source's sample of the same VMs: one VM, with blocks of all providers.

Stats that a process publishes belong to its VM. If it has several VMs, or publishes for several, the assignment is
unknown: it is a gap, not a guess. Nothing here reads; a join is a function of two samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..sample import NOT_KNOWN, Block, Gap, I64Array, Sample
from ..schema import Scope


def join(sample: Sample, published: Sample) -> Sample:
    """``sample`` with the blocks of ``published`` for VMs and vCPUs that are in both, and with its gaps."""
    vms, gaps = _match_vms(sample, published)
    vcpus, missing = _match_vcpus(sample, published, vms)
    places = {Scope.VM: vms, Scope.VCPU: vcpus}
    joined = [_moved(block, places[block.schema.scope]) for block in published.blocks]
    return replace(
        sample,
        blocks=(*sample.blocks, *(block for block in joined if len(block.rows))),
        gaps=(*sample.gaps, *published.gaps, *gaps, *missing),
    )


def published_names(sample: Sample, published: Sample) -> Mapping[int, str]:
    """By process id, the name in a VMM's publications of its only VM; untrusted text."""
    vms, _ = _match_vms(sample, published)
    return {
        int(published.vms.pid[row]): published.vms.label[row]
        for row, place in enumerate(vms.tolist())
        if place != NOT_KNOWN and published.vms.label[row]
    }


def _match_vms(sample: Sample, published: Sample) -> tuple[I64Array, list[Gap]]:
    """The row in ``sample`` of each VM of ``published``, NOT_KNOWN if it is uncertain; and gaps."""
    theirs, ours = _rows_by_pid(published), _rows_by_pid(sample)
    places = np.full(len(published.vms), NOT_KNOWN, dtype=np.int64)
    gaps: list[Gap] = []
    for pid, rows in theirs.items():
        there = ours.get(pid, [])
        if len(rows) == len(there) == 1:
            places[rows[0]] = there[0]
        else:
            gaps += _ambiguous(sample, there, len(rows))
    return places, gaps


def _rows_by_pid(sample: Sample) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row, pid in enumerate(sample.vms.pid.tolist()):
        if pid != NOT_KNOWN:
            found.setdefault(pid, []).append(row)
    return found


def _ambiguous(sample: Sample, rows: Sequence[int], published: int) -> Iterator[Gap]:
    reason = (
        f"its process has {len(rows)} VMs and publishes statistics of {published}; "
        "they cannot be matched, because nothing shows which VM a file belongs to"
    )
    return (Gap(reason, vm=sample.vms.vm_id(row)) for row in rows)


def _match_vcpus(sample: Sample, published: Sample, vms: I64Array) -> tuple[I64Array, list[Gap]]:
    """The row in ``sample`` of each vCPU of ``published``, NOT_KNOWN if there is none; and gaps."""
    places = np.full(len(published.vcpus), NOT_KNOWN, dtype=np.int64)
    gaps = []
    for vm, place in enumerate(vms.tolist()):
        if place == NOT_KNOWN:
            continue
        there = sample.vcpus_of_vm[place]
        rows = dict(zip(sample.vcpus.id[there].tolist(), range(there.start, there.stop), strict=True))
        theirs = published.vcpus_of_vm[vm]
        for row, vcpu in enumerate(published.vcpus.id[theirs].tolist(), start=theirs.start):
            places[row] = rows.get(vcpu, NOT_KNOWN)
            if vcpu not in rows:
                reason = f"its process publishes statistics of vCPU {vcpu}, which source {sample.source} does not see"
                gaps.append(Gap(reason, vm=sample.vms.vm_id(place)))
    return places, gaps


def _moved(block: Block, places: I64Array) -> Block:
    """The block with its rows renumbered by ``places``, without rows that have none."""
    rows = places[block.rows]
    order = np.argsort(rows, kind="stable")
    order = order[rows[order] != NOT_KNOWN]
    return Block(block.schema, block.values[order], rows[order])
