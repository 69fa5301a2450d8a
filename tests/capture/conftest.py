"""Scenes of a small crafted host, one a second, in which a VM has a storm of MMIO exits at some seconds."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafted import MACHINE, NOON_NS, VcpuSpec, VmSpec, make_sample

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")

from kvmscope.sample import Block, Origin
from kvmscope.scene import Scene, VmIdentity
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Unit

ORIGIN = Origin("0" * 32, "1" * 32)
LOCK = Schema(
    "mmu_lock",
    Scope.VM,
    tuple(
        Descriptor(f"mmu_lock_{side}_{what}", Kind.CUMULATIVE, unit, exponent=exponent, offset=16 * number + offset)
        for number, side in enumerate(("read", "write"))
        for what, unit, exponent, offset in (("contended", Unit.NONE, 0, 0), ("wait_ns", Unit.SECONDS, -9, 8))
    ),
    32,
)
QUIET = {"exits": 1000, "mmio_exits": 3, "fpu_reload": 3, "halt_exits": 10}
STORM = {"exits": 20_000, "mmio_exits": 9_000, "fpu_reload": 9_000, "halt_exits": 10}


@pytest.fixture
def host_with_storms() -> Callable[..., list[Scene]]:
    """The scenes of ``seconds`` seconds; ``storms``: the seconds in which the VM of each name has its storm."""

    def make(seconds: int, **storms: Collection[int]) -> list[Scene]:
        counts = {name: dict.fromkeys(QUIET, 0) for name in storms}
        scenes = []
        for second in range(seconds):
            for name, count in counts.items():
                for stat, moved in (STORM if second in storms[name] else QUIET).items():
                    count[stat] += moved
            vms = [VmSpec(name, [VcpuSpec(0, count)], created_ns=NOON_NS) for name, count in counts.items()]
            sample = replace(make_sample(vms, at_s=second), origin=ORIGIN)
            scenes.append(Scene(sample, tuple(VmIdentity(name, None) for name in sample.vms.label), MACHINE, {}))
        return scenes

    return make


@pytest.fixture
def counted() -> Callable[..., Scene]:
    """A scene with what group mmu_lock counted for each VM until then: waits, and their time."""

    def make(scene: Scene, waits: int, wait_s: float) -> Scene:
        count = len(scene.sample.vms)
        words = np.array([[0, 0, waits, round(wait_s * 1e9)]] * count, dtype=np.uint64)
        block = Block(LOCK, words, np.arange(count))
        return replace(scene, sample=replace(scene.sample, blocks=(*scene.sample.blocks, block)))

    return make


@pytest.fixture
def recording(tmp_path: Path, host_with_storms: Any) -> Path:
    """The directory of a recording."""
    from kvmscope.store.writer import RecordingWriter

    writer = RecordingWriter(tmp_path / "recording")
    writer.append(host_with_storms(1, web=())[0])
    writer.close()
    return tmp_path / "recording"
