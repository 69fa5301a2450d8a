"""Scenes of a small crafted host, one a second."""

from __future__ import annotations

from dataclasses import replace

import pytest
from crafted import AFTER, BEFORE, GAPS, MACHINE, identities, make_sample

from kvmscope.sample import Origin
from kvmscope.scene import Scene


@pytest.fixture
def host_scenes() -> list[Scene]:
    """Three scenes: VMs come, go, are cleared, and cannot be read in part."""
    samples = [make_sample(BEFORE), make_sample(BEFORE, at_s=1), make_sample(AFTER, at_s=2, gaps=GAPS)]
    who = [identities(BEFORE), identities(BEFORE), identities(AFTER)]
    origin = Origin("0" * 32, "1" * 32)
    return [
        Scene(replace(sample, origin=origin), names, MACHINE, {"pinned": "nothing is attached"})
        for sample, names in zip(samples, who, strict=True)
    ]
