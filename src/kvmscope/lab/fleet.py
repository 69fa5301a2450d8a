"""``kvmscope lab fleet``: the recording of a simulated fleet with planted troubles, and the list of them.

The layout and the tables are those of ``store``, whose code writes them. Every scene is marked as simulated.
Rule: the recording is a pure function of the size and the seed, so two runs write the same rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..errors import UsageError
from ..host.process import VmmProcess
from ..sample import Block, Origin, Sample, Vcpus, Vms
from ..scene import Scene, VmIdentity
from ..store.columns import tables_of
from ..store.epochs import EpochTracker
from ..store.layout import ABOUT, SegmentPlace, about_text
from ..store.segment import write_segment
from ..store.storage import Storage
from .fleet_plan import FleetSize, PlannedHost, PlannedVm, plan_fleet
from .fleet_words import HostWords

ANSWERS: Final = "answers.json"
"""The file with the planted troubles, in the directory of the recording."""
BEGAN_NS: Final = int(datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp()) * 10**9
_UP_NS: Final = 40 * 86_400 * 10**9
"""Uptime of a host when its recording begins."""
_SILENT_S: Final = 5.0
_ALONE: Final = 32
"""Up to this many hosts, one process is faster than starting others."""


@dataclass(frozen=True, slots=True)
class FleetWritten:
    """A description of the written recording."""

    directory: str
    hosts: int
    vms: int
    vcpus: int
    samples: int
    planted: int
    answers: str


def write_fleet(directory: Path, size: FleetSize) -> FleetWritten:
    """Writes the recording of a fleet into a directory, which must be new or empty. Raises UsageError, OSError."""
    size.check()
    if directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{str(directory)!r} is not empty; a fleet needs a directory of its own")
    directory.mkdir(parents=True, exist_ok=True)
    hosts = list(plan_fleet(size))
    (directory / ABOUT).write_text(about_text())
    write = partial(_write_host, directory, size)
    if len(hosts) <= _ALONE:
        for host in hosts:
            write(host)
    else:  # one process per CPU, none of which inherits threads
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            for _ in pool.map(write, hosts, chunksize=8):
                pass
    answers = answer_key(hosts, size)
    (directory / ANSWERS).write_text(json.dumps(answers, indent=1) + "\n")
    return FleetWritten(
        directory=str(directory),
        hosts=size.hosts,
        vms=size.hosts * size.vms,
        vcpus=size.hosts * size.vms * size.vcpus,
        samples=size.samples,
        planted=len(answers["planted"]),
        answers=str(directory / ANSWERS),
    )


def answer_key(hosts: list[PlannedHost], size: FleetSize) -> dict[str, Any]:
    """The planted troubles: every finding and every reason that inhibits APICv or AVIC, and the list of hosts."""
    return {
        "format": "kvmscope-fleet-answers",
        "version": 1,
        "size": asdict(size),
        "hosts": [
            {"host": host.id, "name": host.name, "kind": host.kind.name, "kernel": host.kind.release} for host in hosts
        ],
        "planted": [
            {
                "host": host.id,
                "host_name": host.name,
                "vm": f"{vm.id:016x}",
                "name": vm.name,
                "trouble": vm.trouble.name,
                "rule": vm.trouble.rule,
                "inhibit": vm.trouble.inhibit,
            }
            for host in hosts
            for vm in host.vms
            if vm.trouble is not None
        ],
    }


def _write_host(directory: Path, size: FleetSize, host: PlannedHost) -> None:
    scenes = list(host_scenes(host, size))
    place = SegmentPlace.of(0, host.id, BEGAN_NS)
    write_segment(Storage(str(directory)), place, tables_of(scenes, EpochTracker()))


def host_scenes(host: PlannedHost, size: FleetSize) -> Iterator[Scene]:
    """The scenes of one host, in order."""
    steps_ns = np.round(np.arange(size.samples) * size.interval_s * 1e9).astype(np.int64)
    times_s = steps_ns / 1e9
    blocks = list(HostWords(host, times_s, size.seed).blocks())
    machine = host.kind.machine(host.name)
    identities = tuple(_identity(vm, row) for row, vm in enumerate(host.vms))
    vms = Vms(
        np.array([vm.id for vm in host.vms], dtype=np.uint64),
        np.array([_pid(row) for row in range(len(host.vms))], dtype=np.int64),
        np.array([BEGAN_NS - int(vm.age_s * 1e9) for vm in host.vms], dtype=np.int64),
        tuple("" for _ in host.vms),
    )
    owners = np.repeat(np.arange(len(host.vms), dtype=np.int64), [vm.vcpus for vm in host.vms])
    ids = np.concatenate([np.arange(vm.vcpus, dtype=np.int64) for vm in host.vms])
    vcpus = Vcpus(owners, ids, 100_000 + np.arange(len(owners), dtype=np.int64))
    for at, step_ns in enumerate(steps_ns.tolist()):
        sample = Sample(
            taken_ns=BEGAN_NS + step_ns,
            monotonic_ns=_UP_NS + step_ns,
            source="published",
            simulated=True,
            vms=vms,
            vcpus=vcpus,
            blocks=tuple(Block(schema, words[at], rows) for schema, words, rows in blocks),
            origin=Origin(host.id, host.boot),
        )
        yield Scene(sample, tuple(_silent(host, identities, step_ns / 1e9)), machine, {})


def _pid(row: int) -> int:
    return 2000 + 10 * row


def _identity(vm: PlannedVm, row: int) -> VmIdentity:
    process = VmmProcess(
        pid=_pid(row),
        vmm=vm.vmm.name,
        name=vm.name,
        uuid=vm.uuid,
        managed_by=vm.vmm.managed_by,
        command=vm.vmm.command,
        argv=tuple(_argv(vm)),
        start_ticks=1000 + row,
    )
    return VmIdentity(vm.name, process)


def _argv(vm: PlannedVm) -> Iterator[str]:
    """The VMM's arguments, as far as they affect the VM's statistics."""
    flags = frozenset[str]() if vm.trouble is None else vm.trouble.flags
    yield vm.vmm.command
    if vm.vmm.name != "qemu":
        return
    yield from ("-name", vm.name, "-uuid", vm.uuid, "-smp", str(vm.vcpus))
    yield from ("-machine", "q35" if "pit_in_kernel" in flags else "q35,kernel-irqchip=split")
    if "hlt_exits_disabled" in flags:
        yield from ("-overcommit", "cpu-pm=on")
    if "synic_auto_eoi_used" in flags:
        yield from ("-cpu", "host,hv-vpindex=on,hv-synic=on")


def _silent(host: PlannedHost, identities: tuple[VmIdentity, ...], elapsed_s: float) -> Iterator[VmIdentity]:
    """The identities at a moment; the silence of a hung VMM grows from moment to moment."""
    for vm, identity in zip(host.vms, identities, strict=True):
        hangs = vm.trouble is not None and vm.trouble.rule == "vmm-not-answering"
        yield VmIdentity(identity.name, identity.process, None, _SILENT_S + elapsed_s) if hangs else identity
