"""Scenes and readings of them, as ``kvmscope serve`` would make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from crafted import MACHINE, Crafted, VmSpec, identities, make_sample

from kvmscope.analysis.totals import VmTotals
from kvmscope.export.exposition import Reading
from kvmscope.export.held import FindingHolds, HeldFinding
from kvmscope.export.subjects import Subjects
from kvmscope.sample import Sample
from kvmscope.scene import Scene, VmIdentity
from kvmscope.view.watch import Watch

MakeReading = Callable[[Sequence[VmSpec]], Reading]


def reading_of(samples: Sequence[Sample], names: Sequence[VmIdentity]) -> Reading:
    """The last of these samples, after the intervals between them."""
    watch, totals, holds, view = Watch(), VmTotals(), FindingHolds(), None
    held: tuple[HeldFinding, ...] = ()
    for sample in samples:
        scene = Scene(sample, tuple(names[: len(sample.vms)]), MACHINE, {})
        view = watch.add(scene)
        sums = totals.update(sample)
        held = holds.update(view) if view is not None else ()
    return Reading(scene, Subjects(scene), sums, view, held)


@pytest.fixture
def reading(crafted: Crafted) -> Reading:
    """Two seconds of VMs that show every case: busy, cleared, partly unknown, gone, new."""
    return reading_of([crafted.before, crafted.middle, crafted.after], crafted.identities)


@pytest.fixture
def read_vms() -> MakeReading:
    """A first look at some VMs."""

    def read(vms: Sequence[VmSpec]) -> Reading:
        return reading_of([make_sample(vms)], identities(vms))

    return read
