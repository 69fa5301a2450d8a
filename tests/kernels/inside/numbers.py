"""Runs inside an emulated kernel: what the BPF source says of known VMs beside what their stats fds say, and attached.

The output is one JSON object; what it should be is said in tests/kernels/test_bpf_on_kernels.py.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kvmscope.errors import KvmscopeError
from kvmscope.lab import process
from kvmscope.lab.spec import BARE, LabSpec
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf.attach import attach, detach
from kvmscope.sources.bpf.source import BpfSource, PinnedSource

from .arm import ArmVm

MEMBER, STRANGER = 65534, 1000
_ROOT = Path("/run/attached")  # the usual place is where the harness keeps its answer
_WAIT_S = 120


@dataclass(frozen=True)
class StillGuests:
    """Some VMs that stand still, in order of creation, and what they did: vCPU id -> how often, and by which thread."""

    name: str
    pids: list[int]
    did: list[dict[int, int]]
    tids: list[dict[int, int]]
    fds: dict[tuple[int, int | None], int]


@contextmanager
def lab(spec: LabSpec) -> Iterator[StillGuests]:
    """Guests of the lab (x86)."""
    with process.start(spec) as guests:
        guests.go()
        if spec.workload == BARE:
            guests.stop()
        report = guests.wait_for_done(_WAIT_S)
        assert not report.errors, report.errors
        yield StillGuests(
            spec.workload,
            [vm.pid for vm in report.vms],
            [{vcpu.id: vcpu.did for vcpu in vm.vcpus} for vm in report.vms],
            [{vcpu.id: vcpu.tid for vcpu in vm.vcpus} for vm in report.vms],
            dict(guests.stats_fds()),
        )


@contextmanager
def arm() -> Iterator[StillGuests]:
    """Three VMs of this process (arm64)."""
    did = [{0: 20, 1: 30}, {5: 40}, {2: 0, 0: 7, 1: 1}]
    with ExitStack() as stack:
        vms = [stack.enter_context(ArmVm(*each)) for each in did]
        for vm, each in zip(vms, did, strict=True):
            for vcpu_id, times in each.items():
                vm.run(vcpu_id, times)
        fds = {(index, key): fd for index, vm in enumerate(vms) for key, fd in vm.stats_fds().items()}
        tids = [{vcpu_id: os.getpid() for vcpu_id, times in each.items() if times} for each in did]
        yield StillGuests("mmio", [os.getpid()] * len(vms), did, tids, fds)
        for fd in fds.values():
            os.close(fd)


def groups() -> list[AbstractContextManager[StillGuests]]:
    """What this machine can run."""
    if platform.machine() != "x86_64":
        return [arm()]
    return [
        lab(LabSpec(workload="bare", vms=3, vcpu_ids=(7, 0, 200), one_process=True)),
        lab(LabSpec(workload="pio", vms=2, vcpus=2, count=50)),
        lab(LabSpec(workload="mmio", count=30)),
        lab(LabSpec(workload="fault", count=64)),
        lab(LabSpec(workload="pic", count=20)),
    ]


def main() -> None:
    """Print what was read."""
    programs = _programs()
    source = BpfSource()
    answers: dict[str, Any] = {
        "release": platform.release(),
        "schemas": [[schema.provider, schema.scope.value, len(schema.descriptors)] for schema in source.schemas],
        "vms of nobody": len(source.read().vms),
        "groups": [],
    }
    for group in groups():
        started_ns = time.time_ns()
        with group as known:
            answers["groups"].append({"made ns": [started_ns, time.time_ns()], **_read(source, known)})
            if "attached" not in answers:
                answers["attached"] = _try_attached(source, known)
    source.close()
    answers["left loaded"] = _wait_for(lambda: _programs() == programs)
    json.dump(answers, sys.stdout)


def _read(source: BpfSource, known: StillGuests) -> dict[str, Any]:
    first, second = source.read(), source.read()
    return {
        "name": known.name,
        "pids": known.pids,
        "did": known.did,
        "tids": known.tids,
        "vms": _as_json(first, known.pids),
        "ids again": [vm["id"] for vm in _as_json(second, known.pids)],
        "files": [[*key, base64.b64encode(os.pread(fd, 1 << 16, 0)).decode()] for key, fd in known.fds.items()],
    }


def _as_json(sample: Sample, pids: list[int]) -> list[dict[str, Any]]:
    """The VMs of some processes, in the order of the sample."""
    gaps = [gap for gap in sample.gaps if gap.provider != "sched"]  # the VMs of this process share its threads
    assert not gaps, gaps
    return [
        {
            "id": int(sample.vms.id[row]),
            "pid": int(sample.vms.pid[row]),
            "created_ns": int(sample.vms.created_ns[row]),
            "stats": _stats(sample, Scope.VM, row),
            "vcpus": [
                {
                    "id": int(sample.vcpus.id[place]),
                    "tid": int(sample.vcpus.tid[place]),
                    "stats": _stats(sample, Scope.VCPU, place),
                }
                for place in range(sample.vcpus_of_vm[row].start, sample.vcpus_of_vm[row].stop)
            ],
        }
        for row in range(len(sample.vms))
        if int(sample.vms.pid[row]) in pids
    ]


def _stats(sample: Sample, scope: Scope, row: int) -> dict[str, list[int]]:
    block = sample.block("kvm", scope)
    assert block is not None
    return {name: np.atleast_1d(block.column(name)[row]).tolist() for name in block.schema.names}


def _try_attached(source: BpfSource, known: StillGuests) -> dict[str, Any]:
    def read() -> Any:
        pinned = PinnedSource(_ROOT)
        try:
            return _as_json(pinned.read(), known.pids)
        finally:
            pinned.close()

    seen: dict[str, Any] = {"before": _as_user(MEMBER, read)}
    try:
        seen["kept"] = [attach(gid=MEMBER, root=_ROOT).kept, attach(gid=MEMBER, root=_ROOT).kept]
        seen["root"] = _as_json(source.read(), known.pids)
        seen["member"] = _as_user(MEMBER, read)
        seen["stranger"] = _as_user(STRANGER, read)
    finally:
        seen["detached"] = [detach(_ROOT), detach(_ROOT)]
    seen["after"] = _as_user(MEMBER, read)
    seen["directory left"] = _ROOT.exists()
    return seen


def _as_user(user: int, work: Callable[[], Any]) -> Any:
    """What ``work`` returns, or the error that it raises, in a process without privileges."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        try:
            answer = work()
        except (KvmscopeError, OSError) as error:
            answer = {"error": type(error).__name__, "reason": str(error)}
        with os.fdopen(writer, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text)


def _programs() -> int:
    libbpf = ctypes.CDLL("libbpf.so.1")
    number, count = ctypes.c_uint32(0), 0
    while libbpf.bpf_prog_get_next_id(number, ctypes.byref(number)) == 0:
        count += 1
    return count


def _wait_for(holds: Callable[[], bool]) -> bool:
    """False once it holds; True if it does not come to hold in time."""
    deadline = time.monotonic() + 10
    while not holds():
        if time.monotonic() > deadline:
            return True
        time.sleep(0.01)
    return False


if __name__ == "__main__":
    main()
