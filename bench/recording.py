"""Recordings: bytes and CPU time for a vCPU in a scene, and memory over a simulated day.

Size: real lab guests, a scene a second for two minutes, closed as a recording, all its files counted. A recording has
some 50 KiB for each of its segments (10 minutes by default), whatever is in them. Beside it are the same values as JSON
through gzip -6, and as CSV, a line a vCPU with every value. CPU: the scenes of the busy guests, multiplied to 1,024
vCPUs in 128 VMs; CPU time of the thread that writes, and of compaction, for each scene. Day: 86,400 scenes of 16 vCPUs
written one after another to a ring with its default tiers; resident memory after the second hour and at the end.
"""

from __future__ import annotations

import csv
import gc
import gzip
import io
import json
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from bench.result import Row, at_most
from kvmscope.collect import open_host
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.sample import Block, Vcpus, Vms
from kvmscope.scene import Scene, VmIdentity
from kvmscope.schema import Scope
from kvmscope.store.ring import DEFAULT_TIERS, RingLimits
from kvmscope.store.writer import RecordingWriter
from kvmscope.units import format_bytes

_LOOKS = 120
_VCPUS = 1024
_DAY = 86_400
_HOUR = 3_600
_SECOND_NS = 10**9


def bench() -> Sequence[Row]:
    busy = _looked_at(LabSpec(workload="halt", period_us=10_000, vms=16, vcpus=8))
    idle = _looked_at(LabSpec(workload="idle", vms=16, vcpus=8))
    rows = [*_sizes("busy", busy, 40), *_sizes("idle", idle, 6)]
    rows += _cpu_times([_multiplied(scene, _VCPUS // len(scene.sample.vcpus)) for scene in busy])
    return [*rows, *_day(_multiplied(_cut(busy[0], 2), 1))]


def _looked_at(spec: LabSpec) -> list[Scene]:
    """A scene a second of guests that all do the same."""
    found = []
    with process.start(spec) as guests:
        guests.wait_for_ready()
        guests.go()
        host = open_host("bpf")
        try:
            due_s = time.monotonic()
            for _ in range(_LOOKS):
                due_s += 1
                time.sleep(max(0.0, due_s - time.monotonic()))
                found.append(host.look())
        finally:
            host.close()
    return found


# --- size -------------------------------------------------------------------------------------------------------------


def _sizes(name: str, scenes: Sequence[Scene], limit: float) -> Iterator[Row]:
    with _recorded(scenes) as directory:
        size = _size(directory)
    vcpus = sum(len(scene.sample.vcpus) for scene in scenes)
    raw = sum(block.values.nbytes for scene in scenes for block in scene.sample.blocks)
    note = f"{len(scenes[0].sample.vcpus)} vCPUs × {len(scenes)} scenes in {format_bytes(size)}; raw {raw / vcpus:.0f}"
    yield at_most(f"bytes a vCPU and scene, {name} guests", size / vcpus, limit, note=note)
    lines = [json.dumps(_values(scene)).encode() for scene in scenes]
    yield Row("the same as JSON, gzip -6", f"{len(gzip.compress(b''.join(lines), 6)) / vcpus:.1f}")
    yield Row("the same as CSV", f"{len(_csv(scenes)) / vcpus:.1f}")


@contextmanager
def _recorded(scenes: Sequence[Scene]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place, "recording")
        writer = RecordingWriter(directory)
        for scene in scenes:
            writer.append(scene)
        writer.close()
        yield directory


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _values(scene: Scene) -> dict[str, object]:
    """All values of a scene by subject and name."""
    sample = scene.sample
    found: dict[str, dict[str, object]] = {}
    for block in sample.blocks:
        for place, row in enumerate(block.rows.tolist()):
            vm = row if block.schema.scope is Scope.VM else int(sample.vcpus.vm[row])
            subject = scene.identities[vm].name
            subject += "" if block.schema.scope is Scope.VM else f"/{sample.vcpus.id[row]}"
            stats = found.setdefault(subject, {})
            for stat in block.schema.descriptors:
                stats[stat.name] = block.column(stat.name)[place].tolist()
    return {"time": sample.taken_ns, "stats": found}


def _csv(scenes: Sequence[Scene]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    for scene in scenes:
        block = scene.sample.block("kvm", Scope.VCPU)
        assert block is not None
        for row, words in zip(block.rows.tolist(), block.values.tolist(), strict=True):
            vm = int(scene.sample.vcpus.vm[row])
            writer.writerow([scene.sample.taken_ns, scene.identities[vm].name, scene.sample.vcpus.id[row], *words])
    return out.getvalue()


# --- CPU --------------------------------------------------------------------------------------------------------------


def _cut(scene: Scene, vms: int) -> Scene:
    """The first VMs of a scene alone."""
    sample = scene.sample
    vcpus = int(np.searchsorted(sample.vcpus.vm, vms))
    there = {Scope.VM: vms, Scope.VCPU: vcpus}
    blocks = []
    for block in sample.blocks:
        is_in = block.rows < there[block.schema.scope]
        blocks.append(Block(block.schema, block.values[is_in], block.rows[is_in]))
    names = Vms(sample.vms.id[:vms], sample.vms.pid[:vms], sample.vms.created_ns[:vms], sample.vms.label[:vms])
    cpus = Vcpus(sample.vcpus.vm[:vcpus], sample.vcpus.id[:vcpus], sample.vcpus.tid[:vcpus])
    return Scene(
        replace(sample, vms=names, vcpus=cpus, blocks=tuple(blocks)),
        scene.identities[:vms],
        scene.machine,
        scene.why_not,
    )


def _multiplied(scene: Scene, times: int) -> Scene:
    """The same VMs several times over, each with an id and a name of its own."""
    sample = scene.sample
    count = len(sample.vms)
    owners = np.concatenate([sample.vcpus.vm + turn * count for turn in range(times)])
    blocks = []
    for block in sample.blocks:
        limit = count if block.schema.scope is Scope.VM else len(sample.vcpus)
        rows = np.concatenate([block.rows + turn * limit for turn in range(times)])
        blocks.append(Block(block.schema, np.tile(block.values, (times, 1)), rows))
    ids = np.concatenate([sample.vms.id + np.uint64(turn) for turn in range(times)])
    vms = Vms(ids, np.tile(sample.vms.pid, times), np.tile(sample.vms.created_ns, times), sample.vms.label * times)
    vcpus = Vcpus(owners, np.tile(sample.vcpus.id, times), np.tile(sample.vcpus.tid, times))
    return Scene(
        replace(sample, vms=vms, vcpus=vcpus, blocks=tuple(blocks)), _names(scene, times), scene.machine, scene.why_not
    )


_NAMES: dict[tuple[str, int], VmIdentity] = {}


def _names(scene: Scene, times: int) -> tuple[VmIdentity, ...]:
    """Who they are: the same objects in each scene, as a host hands them out."""
    return tuple(
        _NAMES.setdefault((who.name, turn), replace(who, name=f"{who.name}-{turn}"))
        for turn in range(times)
        for who in scene.identities
    )


def _cpu_times(scenes: Sequence[Scene]) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as place:
        writer = RecordingWriter(Path(place, "recording"), segment_bytes=1 << 40, on_cut=lambda: None)
        each = []
        for scene in scenes:
            began = time.thread_time()
            writer.append(scene)
            each.append(time.thread_time() - began)
        raw = sum(block.values.nbytes for scene in scenes for block in scene.sample.blocks)
        writer.close()
        gc.collect()
        resident = _resident()
        began = time.process_time()
        writer.compactor.run()
        took = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - resident
    vms = len(scenes[0].sample.vms)
    yield at_most(f"ms of CPU to write a scene of {_VCPUS:,} vCPUs in {vms} VMs (median)", median(each[1:]) * 1e3, 3)
    yield Row("ms of CPU to compact it, in another thread", f"{took * 1e3 / len(scenes):.2f}")
    yield Row(
        f"peak memory of compaction ÷ {format_bytes(raw)} of raw values", f"{peak / raw:.1f} ({format_bytes(peak)})"
    )


# --- memory -----------------------------------------------------------------------------------------------------------


def _day(scene: Scene) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as place:
        writer = RecordingWriter(Path(place, "recording"), limits=RingLimits(tiers=DEFAULT_TIERS), flush_s=1e9)
        resident = []
        began = time.process_time()
        for second in range(_DAY):
            writer.append(_later(scene, second))
            if second % _HOUR == _HOUR - 1:
                resident.append(_resident())
        took = time.process_time() - began
        writer.close()
        size = _size(Path(place))
    note = f"{format_bytes(resident[1])} after the 2nd hour, {format_bytes(resident[-1])} after the 24th"
    yield at_most("resident memory after 24 hours ÷ after 2", resident[-1] / resident[1], 1.1, note=note)
    yield Row("size of the ring then", f"{format_bytes(size)}, {took:.0f} s of CPU time in all")


def _later(scene: Scene, second: int) -> Scene:
    sample, later_ns = scene.sample, second * _SECOND_NS
    blocks = tuple(Block(block.schema, block.values + np.uint64(second), block.rows) for block in sample.blocks)
    moved = replace(
        sample, taken_ns=sample.taken_ns + later_ns, monotonic_ns=sample.monotonic_ns + later_ns, blocks=blocks
    )
    return replace(scene, sample=moved)


def _resident() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not say how much memory is resident")
