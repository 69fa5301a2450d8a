"""Members of the group that read all the time, in the class that gets a CPU last, beside a process that wants it: how
root and another member fare meanwhile. Where the kernel is preemptible, such a reader holds its slot while it is
descheduled.

Run as root; prints JSON.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvmscope.codec.snapshot import SnapshotFlag, parse_header
from kvmscope.errors import Busy
from kvmscope.lab.abi import KVM_CREATE_VCPU, KVM_CREATE_VM
from kvmscope.sources.bpf.attach import attach, detach
from kvmscope.sources.bpf.source import PinnedSource

NOBODY = GROUP = 65534
READERS, SLOTS = 6, 2
RUNS, READS = 40, 5
PAUSE_S = 0.02
VMS, VCPUS = 4, 120


def make_vms() -> list[int]:
    """So that a run takes a while; their files."""
    kvm = os.open("/dev/kvm", os.O_RDWR)
    vms = [fcntl.ioctl(kvm, KVM_CREATE_VM, 0) for _ in range(VMS)]
    return vms + [fcntl.ioctl(vm, KVM_CREATE_VCPU, number) for vm in vms for number in range(VCPUS)]


def child_that(does: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            does()
        finally:
            os._exit(1)
    return pid


def want_the_cpu() -> None:
    while True:
        pass


def become_member() -> None:
    os.setgroups([GROUP])
    os.setresgid(GROUP, GROUP, GROUP)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def read_for_ever(iterator: Path, started: int) -> None:
    become_member()
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        fd = os.open(iterator, os.O_RDONLY)
        os.read(fd, 4096)
        os.close(fd)
        os.write(started, b"!")


def try_reads(root: Path, iterator: Path) -> dict[str, Any]:
    """How many runs of this process found no slot, how many reads were given up, and how long the longest took."""
    refused = sum(run_is_refused(iterator) for _ in range(RUNS))
    given_up, longest_s = 0, 0.0
    source = PinnedSource(root)
    for _ in range(READS):
        began = time.monotonic()
        try:
            source.read()
        except Busy:
            given_up += 1
        longest_s = max(longest_s, time.monotonic() - began)
    return {"runs": RUNS, "refused": refused, "reads": READS, "given up": given_up, "longest_s": longest_s}


def run_is_refused(iterator: Path) -> bool:
    time.sleep(PAUSE_S)
    fd = os.open(iterator, os.O_RDONLY)
    try:
        return SnapshotFlag.BUSY in parse_header(os.read(fd, 4096)).flags
    finally:
        os.close(fd)


def try_reads_as_member(root: Path, iterator: Path) -> dict[str, Any]:
    reader, writer = os.pipe()

    def report() -> None:
        become_member()
        os.write(writer, json.dumps(try_reads(root, iterator)).encode())

    os.waitpid(child_that(report), 0)
    answer: dict[str, Any] = json.loads(os.read(reader, 4096))
    return answer


def main() -> None:
    root = Path(f"/run/kvmscope-starve-{os.getpid()}")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    held = make_vms()
    children: list[int] = []
    try:
        iterator = attach(gid=GROUP, root=root, vms=16, vcpus=512, slots=SLOTS).directory / "read"
        sys.stdout.flush()
        reader, writer = os.pipe()
        children += [child_that(lambda: read_for_ever(iterator, writer)) for _ in range(READERS)]
        for _ in range(RUNS):
            os.read(reader, 1)  # they are all at it, and of one class, so some are descheduled in a run
        children.append(child_that(want_the_cpu))
        print(json.dumps({"member": try_reads_as_member(root, iterator), "root": try_reads(root, iterator)}))
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        detach(root)
        for fd in held:
            os.close(fd)


if __name__ == "__main__":
    main()
