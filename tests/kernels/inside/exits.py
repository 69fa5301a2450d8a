"""Runs inside an emulated x86 kernel: guests that exit in several ways, by group ``exits`` and by the kernel's trace.

Both begin before there is a VM and end when every guest is still, so each exit is in both. The output is one JSON
object; what it should be is said in tests/kernels/test_exits.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kvmscope.lab import process
from kvmscope.lab.kvm import Kvm
from kvmscope.lab.spec import LabSpec
from kvmscope.lab.workloads import GuestPit
from kvmscope.sample import Block, Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf.attach import attach, detach
from kvmscope.sources.bpf.groups import exits
from kvmscope.sources.bpf.groups.base import GroupShape, Part
from kvmscope.sources.bpf.groups.kernel import KernelFacts
from kvmscope.sources.bpf.groups.loaded import LoadedGroup
from kvmscope.sources.bpf.source import BpfSource, PinnedSource

from .guests import Guest

TRACE = Path("/sys/kernel/tracing")
ROOT = Path("/run/kvmscope-exits")
MEMBER = 60_001
_WORKLOADS = {"pio": 2, "halt": 1}  # vCPUs of each
_EVENT = re.compile(r"-(\d+) +\[\d+\] +\S+ +([\d.]+): (kvm_exit|kvm_entry): (?:.*?reason (\S+) )?")

Counts = dict[str, dict[str, list[Any]]]
"""By thread, then ``reason`` -> [count, nanoseconds, histogram]."""


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    (TRACE / "tracing_on").write_text("0")
    (TRACE / "buffer_size_kb").write_text("16384")
    (TRACE / "trace_clock").write_text("mono")
    (TRACE / "trace").write_text("")
    for event in ("kvm_exit", "kvm_entry"):
        (TRACE / f"events/kvm/{event}/enable").write_text("1")
    (TRACE / "tracing_on").write_text("1")
    try:
        yield
    finally:
        (TRACE / "tracing_on").write_text("0")


def traced() -> Counts:
    """By thread: how often each reason came, and how long until the thread's next entry."""
    found: dict[str, Any] = defaultdict(lambda: defaultdict(lambda: [0, 0, [0] * 32]))
    pending: dict[str, tuple[str, float]] = {}
    for line in (TRACE / "trace").read_text(encoding="ascii", errors="replace").splitlines():
        assert "LOST" not in line
        match = None if line.startswith("#") else _EVENT.search(line)
        if match is None:
            continue
        thread, at, event, reason = match.groups()
        if event == "kvm_exit":
            name = re.sub(r"[^a-z0-9]+", "_", reason.lower()).strip("_")
            found[thread][name][0] += 1
            pending[thread] = name, float(at)
        elif thread in pending:
            name, began = pending.pop(thread)
            ns = round((float(at) - began) * 1e9)
            found[thread][name][1] += ns
            found[thread][name][2][min(ns.bit_length(), 31)] += 1
    return found


def block_of(sample: Sample) -> Block:
    block = sample.block(exits.NAME, Scope.VCPU)
    assert block is not None, sample.gaps
    return block


def counted(sample: Sample) -> Counts:
    """The same from the group, for reasons that came at all."""
    block = block_of(sample)
    names = [name for name in block.schema.names if not name.endswith(("_ns", "_hist"))]
    return {
        str(sample.vcpus.tid[row]): {
            name.removeprefix("exit_"): [
                block.column(stat)[place].tolist() for stat in (name, f"{name}_ns", f"{name}_hist")
            ]
            for name in names
            if block.column(name)[place]
        }
        for place, row in enumerate(block.rows)
    }


def read_still(source: BpfSource) -> Sample:
    """A sample of a moment in which nothing happens, in the trace neither once it is off."""
    before: Counts = {}
    deadline = time.monotonic() + 60
    while True:
        sample = source.read()
        if (now := counted(sample)) == before:
            return sample
        before = now
        assert time.monotonic() < deadline, "the guests did not come to rest"
        time.sleep(0.3)


def compare() -> dict[str, Any]:
    """Guests of the lab, in processes of their own, and a VM whose vCPU never runs."""
    source = BpfSource(groups=("exits",))
    answer: dict[str, Any] = {"before": counted(source.read())}
    with contextlib.ExitStack() as stack, tracing():
        for workload, vcpus in _WORKLOADS.items():
            spec = LabSpec(
                workload=workload, vcpus=vcpus, count=100, pit=GuestPit.REINJECT
            )  # no AVIC: emulation has none
            guests = stack.enter_context(process.start(spec))
            guests.go()
            guests.wait_for_done(60)
        stack.enter_context(contextlib.closing(Guest(Kvm(), 0).vm))
        still = read_still(source)
        (TRACE / "tracing_on").write_text("0")
        last = source.read()
        answer |= {
            "still": counted(still) == counted(last),
            "counted": counted(last),
            "traced": traced(),
            "gaps": [gap.reason for gap in last.gaps],
            "vcpus": len(last.vcpus),
            "words": block_of(last).schema.words,
        }
    source.close()
    return answer


def run_often(guest: Guest, times: int) -> None:
    for _ in range(times):
        guest.run()


def own(sample: Sample) -> list[int]:
    """Exits for input and output of the vCPU of this process's only VM, and how many of them came to an end."""
    block = block_of(sample)
    (vm,) = [row for row in range(len(sample.vms)) if sample.vms.pid[row] == os.getpid()]
    (place,) = [place for place, row in enumerate(block.rows) if sample.vcpus.vm[row] == vm]
    return [int(np.sum(block.column(stat)[place])) for stat in ("exit_io", "exit_io_hist")]


def wander() -> dict[str, Any]:
    """A vCPU that one thread runs after the other, and VMs that come where another was, in the same thread."""
    kvm, source = Kvm(), BpfSource(groups=("exits",))
    guest = Guest(kvm, 0)
    for times in (20, 30):
        thread = threading.Thread(target=run_often, args=(guest, times))
        thread.start()
        thread.join()
    answer: dict[str, Any] = {"two threads": own(source.read()), "successors": []}
    late = BpfSource(groups=("exits",))
    run_often(guest, 4)
    answer["two readers"] = own(source.read()), own(late.read())
    late.close()
    answer["after the other reader closed"] = own(source.read())
    guest.vm.close()
    for times in (7, 1, 0):
        guest = Guest(kvm, 0)
        run_often(guest, times)
        answer["successors"].append(own(source.read()))
        guest.vm.close()
    source.close()
    return answer


def squeeze() -> dict[str, Any]:
    """A group with room for two vCPUs, and three that run."""
    kvm, plan = Kvm(), exits.plan(KernelFacts())
    attach(gid=MEMBER, root=ROOT)
    source = PinnedSource(ROOT, groups=())
    group = LoadedGroup(plan, GroupShape(plan.name, plan.schema, slots=2))
    guests = [Guest(kvm, 0) for _ in range(3)]
    for guest, times in zip(guests, (5, 6, 7), strict=True):
        run_often(guest, times)
    answer = {"refused": shown(group.read(source.read()))}
    time.sleep(1.2)  # a slot is taken over after a second
    run_often(guests[1], 1)
    run_often(guests[2], 9)
    answer["taken over"] = shown(group.read(source.read()))
    time.sleep(1.2)
    guests.append(Guest(kvm, 0))
    answer["born later"] = shown(group.read(source.read()))
    for guest in guests:
        guest.vm.close()
    group.close()
    source.close()
    return answer


def shown(part: Part) -> dict[str, Any]:
    (block,) = part.blocks
    return {
        "io": dict(zip(block.rows.tolist(), block.column("exit_io").tolist(), strict=True)),
        "gaps": [gap.reason for gap in part.gaps],
    }


def pin() -> dict[str, Any]:
    """The group attached later than the iterator, and read by a user without privileges."""
    kept = attach(gid=MEMBER, root=ROOT, groups=("exits",)).kept
    guest = Guest(Kvm(), 0)
    run_often(guest, 12)
    answer = {"kept": kept, "member": as_user(MEMBER), "other": as_user(MEMBER + 1)}
    again = attach(gid=MEMBER, root=ROOT)
    answer |= {"again": [again.kept, list(again.groups)], "still": as_user(MEMBER)}
    detach(ROOT, groups=("exits",))
    answer["unpinned"] = as_user(MEMBER)
    guest.vm.close()
    return answer


def as_user(user: int) -> Any:
    """What that user reads of this process's VM through the pins, or the gaps or error there."""
    vmm = os.getpid()
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        try:
            sample = PinnedSource(ROOT).read()
            (row,) = np.flatnonzero(sample.vcpus.vm == np.flatnonzero(sample.vms.pid == vmm)[0])
            block = sample.block(exits.NAME, Scope.VCPU)
            answer: Any = [int(block.column("exit_io")[row])] if block else [gap.reason for gap in sample.gaps]
        except Exception as error:
            answer = {"error": type(error).__name__, "reason": str(error)}
        with os.fdopen(writer, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text)


def programs() -> int:
    libbpf = ctypes.CDLL("libbpf.so.1")
    number, count = ctypes.c_uint32(0), 0
    while libbpf.bpf_prog_get_next_id(number, ctypes.byref(number)) == 0:
        count += 1
    return count


def main() -> None:
    before = programs()
    compared = compare()
    if compared["gaps"]:
        print(json.dumps({"gaps": compared["gaps"], "said": compared["counted"]}))
        return
    answer = {"compared": compared, "wandered": wander(), "squeezed": squeeze(), "pinned": pin()}
    detach(ROOT)
    deadline = time.monotonic() + 10
    while (left := programs() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    print(json.dumps({**answer, "programs left": left}))


if __name__ == "__main__":
    main()
