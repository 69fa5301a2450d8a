"""What a hostile member of the group can get out of the iterator: it makes and destroys VMs, fills the memory that they
leave with words of its own, and looks for such words in everything that it may map.

Run as root; prints as JSON what was found. ``hostile.py [ROUNDS]``
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from kvmscope.codec import snapshot
from kvmscope.lab.abi import KVM_CREATE_VCPU, KVM_CREATE_VM
from kvmscope.sources.bpf import libbpf
from kvmscope.sources.bpf.attach import attach, detach

NOBODY = GROUP = 65534
MARK = 0x5A5A_1234_5A5A_9876  # the address of nothing
VCPUS, CHURNERS = 100, 1
SPRAYED_BYTES = 2 << 20
SOCKETS, SOCKET_BYTES = 40, 128 << 10
"""What a socket sends waits in blocks of 32 KiB, which is how the kernel allocates vCPUs."""
PID_LIMIT = 1 << 22
HOG_S = 0.05
LONGEST_WAIT_S = 0.03
SCANNED_EVERY = 10
"""Also where no VM was lost; a look takes longer than a run, and VMs are to go in runs."""


def churn(kvm: int, address: int, seed: int) -> None:
    """VMs that never run, so none of their vCPUs has a thread; after each, whatever memory is free gets our words."""
    random = Random(seed)
    words = np.full(SPRAYED_BYTES // 8, MARK, np.uint64)
    words[::2] = address or MARK
    tell_hog = start_hog()
    pairs = [socket.socketpair() for _ in range(SOCKETS)]
    for pair in pairs:
        pair[0].setblocking(False)
        pair[1].setblocking(False)
    sent = words.data.cast("B")[:SOCKET_BYTES]
    while True:
        vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
        for vcpu in [fcntl.ioctl(vm, KVM_CREATE_VCPU, number) for number in range(VCPUS)]:
            os.close(vcpu)
        time.sleep(random.uniform(0, LONGEST_WAIT_S))  # in which the reader comes to some point of its run
        os.write(tell_hog, b"!")  # there it stays, where the kernel is preemptible, until the VM's memory is ours
        os.close(vm)
        for sender, _ in pairs:
            with contextlib.suppress(BlockingIOError):
                sender.send(sent)
        with mmap.mmap(-1, SPRAYED_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            memory[:] = words.data.cast("B")
            os.sched_yield()
        for _, receiver in pairs:
            with contextlib.suppress(BlockingIOError):
                receiver.recv(SOCKET_BYTES)


def start_hog() -> int:
    """A process that keeps the CPU for a while at each byte that is written to this fd."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(writer)
        while os.read(reader, 1):
            until = time.monotonic() + HOG_S
            while time.monotonic() < until:
                pass
        os._exit(0)
    os.close(reader)
    return writer


class Arrays:
    """All that a member of the group can map, whether a header says that it holds records or not."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mapped = {name: self._map(name) for name in ("control", "vms", "vcpus")}

    def _map(self, name: str) -> mmap.mmap:
        fd = libbpf.open_pinned_map(self._directory / name)
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
        info = dict(line.split(":", 1) for line in lines)
        self._record_words = -(-int(info["value_size"]) // 8)
        size = 8 * self._record_words * int(info["max_entries"])
        try:
            return mmap.mmap(fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, prot=mmap.PROT_READ)
        finally:
            os.close(fd)

    def run(self) -> snapshot.SnapshotHeader:
        fd = os.open(self._directory / "read", os.O_RDONLY)
        try:
            return snapshot.parse_header(os.read(fd, mmap.PAGESIZE))
        finally:
            os.close(fd)

    def words(self, name: str) -> npt.NDArray[np.uint64]:
        return np.frombuffer(self._mapped[name], np.uint64)

    def tids(self) -> npt.NDArray[np.int32]:
        """Of every record of ``vcpus``, the array that was mapped last."""
        words = self.words("vcpus")
        whole = len(words) // self._record_words * self._record_words
        return words[:whole].reshape(-1, self._record_words)[:, 1].astype(np.uint32).view(np.int32)


def look(arrays: Arrays, address: int) -> Counter[str]:
    """How many words there are in the arrays that should not be."""
    found: Counter[str] = Counter()
    for name in ("control", "vms", "vcpus"):
        words = arrays.words(name)
        is_ours = (words == MARK) | ((words == address) & (address != 0))
        is_kernels = (words >= 0xFFFF_8000_0000_0000) & (words < 0xFFFF_FFFF_FF60_0000)
        found["sprayed words"] += int(np.count_nonzero(is_ours))
        found["kernel pointers"] += int(np.count_nonzero(is_kernels & ~is_ours))
    tids = arrays.tids()
    found["tids that are none"] += int(np.count_nonzero((tids < 0) | (tids > PID_LIMIT)))
    return found


def read_as_member(directory: Path, address: int, rounds: int) -> dict[str, Any]:
    arrays = Arrays(directory)
    found: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    for number in range(rounds):
        header = arrays.run()
        runs["with VMs"] += header.vms > 0
        runs["that lost VMs"] += header.vanished > 0
        runs["cut short"] += snapshot.SnapshotFlag.UNFINISHED in header.flags
        if header.vanished or number % SCANNED_EVERY == 0:
            found += look(arrays, address)
    return {"found": dict(found), "runs": dict(runs), "uid": os.getuid(), "capabilities": capabilities()}


def capabilities() -> int:
    """The effective ones."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("CapEff:")), 16)


def attack(directory: Path, rounds: int) -> dict[str, Any]:
    """As a member of the group that has /dev/kvm. All on one CPU, and the reader is of the lowest class, so others come
    before it in the middle of its runs where the kernel is preemptible."""
    kvm, address = os.open("/dev/kvm", os.O_RDWR), address_of("schedule")
    os.setgroups([GROUP])
    os.setresgid(GROUP, GROUP, GROUP)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    churners = [start_churner(kvm, address, seed) for seed in range(CHURNERS)]
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        return read_as_member(directory, address, rounds)
    finally:
        for churner in churners:
            os.kill(churner, signal.SIGKILL)
            os.waitpid(churner, 0)


def start_churner(kvm: int, address: int, seed: int) -> int:
    child = os.fork()
    if child == 0:
        churn(kvm, address, seed)
    return child


def address_of(function: str) -> int:
    """Of the kernel; 0 if it is not told."""
    with open("/proc/kallsyms", encoding="ascii") as lines:  # noqa: PTH123
        return next((int(line.split()[0], 16) for line in lines if line.split()[2] == function), 0)


def main(rounds: int) -> None:
    root = Path(f"/run/kvmscope-hostile-{os.getpid()}")
    try:
        directory = attach(gid=GROUP, root=root, vms=8, vcpus=256, slots=1).directory
        sys.stdout.flush()
        child = os.fork()
        if child == 0:  # this process keeps its privileges, to tidy up
            try:
                print(json.dumps(attack(directory, rounds)), flush=True)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    finally:
        detach(root)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
