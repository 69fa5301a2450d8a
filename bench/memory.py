"""Memory, on a host with 128 VMs and 1,024 vCPUs.

The peak is how far the resident memory of a process that has opened the source grows over its first ten reads, each
sample let go before the next (VmHWM less VmRSS). With source bpf the kernel's arrays that were made for it are added,
used or not, by BPF's own account (`memlock` in fdinfo); what `attach` holds is for all readers, and stands below.
Source bpf has two slots of records instead of a copy of one, which makes a read faster. Each slot has room for a few
more VMs than there are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bench.guests import bare_vms
from bench.readers import ROOT, attached, running_reader
from bench.result import Row, at_most
from kvmscope.sources.bpf import pins
from kvmscope.sources.bpf.layout import Layout
from kvmscope.units import format_bytes


def bench() -> Sequence[Row]:
    rows = []
    with bare_vms(128, 8) as guests:
        guests.wait_for_ready()
        with running_reader("--source", "bpf") as reader:
            rows.append(_peak("bpf", reader.read(10), with_arrays=True))
        with attached():
            with running_reader("--root", str(ROOT)) as reader:
                rows.append(_peak("pinned", reader.read(10), with_arrays=False))
            layout, held = _pinned()
    rows.append(
        Row(
            f"held in the kernel by `kvmscope attach` ({layout.vm_room:,} VMs and {layout.vcpu_room:,} vCPUs,"
            f" {layout.slots} readers at a time)",
            format_bytes(held),
        )
    )
    return rows


def _peak(source: str, answer: dict[str, int], *, with_arrays: bool) -> Row:
    raw, grown, arrays = answer["bytes"], answer["grown_bytes"], answer["map_bytes"] if with_arrays else 0
    note = f"{format_bytes(grown)} and {format_bytes(arrays)} of arrays, for {format_bytes(raw)}"
    return at_most(f"peak memory of a reader, source {source} ÷ raw bytes", (grown + arrays) / raw, 3, note=note)


def _pinned() -> tuple[Layout, int]:
    pinned = pins.open_pinned(ROOT)
    try:
        return pinned.meta.layout, sum(_memlock(fd) for fd in pinned.fds.values())
    finally:
        pinned.close()


def _memlock(fd: int) -> int:
    for line in Path(f"/proc/{os.getpid()}/fdinfo/{fd}").read_text(encoding="ascii").splitlines():
        if line.startswith("memlock:"):
            return int(line.split()[1])
    raise RuntimeError("the kernel does not say what a BPF map costs")
