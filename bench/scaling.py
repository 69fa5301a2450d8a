"""What one vCPU costs as hosts grow, and what the rest of the host adds.

Cost per vCPU is the time of a whole read divided by the vCPUs in it: on a small host mostly what a read costs however
little there is, on a large one mostly the way to memory that is in no cache any more. The C loop of preads beside it
has to go that way as well, so it is the cost beside that of the loop which must stay flat. The 50,000 files are open
in five other processes that have nothing to do with KVM; reads with and without them alternate.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median

from bench.guests import bare_vms, vms_with_vcpus
from bench.preads import c_loop
from bench.result import Row
from bench.timing import Pairs, duration, pairs, repeat, timed
from kvmscope.collect import open_host

SIZES = (64, 1024, 8192)
FLAT = 1.25
HOLDERS, FILES_EACH = 5, 10_000
TURNS, ROUNDS_A_TURN = 8, 5

_HOLDER = """
import os, resource, sys
count = int(sys.argv[1])
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
one = os.open("/dev/null", os.O_RDONLY)
held = [os.open("/etc/passwd", os.O_RDONLY) for _ in range(count)]
print(len(held), flush=True)
sys.stdin.read()
"""


def bench() -> Sequence[Row]:
    return [*_per_vcpu(), _unrelated_files()]


def _per_vcpu() -> list[Row]:
    rows, costs, loops = [], {}, {}
    for vcpus in SIZES:
        with vms_with_vcpus(vcpus) as fds, open_host("bpf") as host:
            loop, _ = c_loop(fds)
            taken = pairs(timed(host.read), loop, rounds=max(10, 50_000 // vcpus))
        costs[vcpus] = median(taken.first) / vcpus
        loops[vcpus] = median(taken.second) / vcpus
        of_loop = duration(loops[vcpus])
        rows.append(
            Row(f"read ÷ vCPUs at {vcpus:,} vCPUs", f"{duration(costs[vcpus])} (C loop {of_loop}, {taken.ratio:.2f})")
        )
    growth = costs[SIZES[-1]] / costs[SIZES[0]]
    beside = growth / (loops[SIZES[-1]] / loops[SIZES[0]])
    what = f"cost of a vCPU at {SIZES[-1]:,} vCPUs ÷ at {SIZES[0]}"
    flat = Row(f"{what}, beside the C loop", f"{beside:.2f}", target=f"flat: ≤ {FLAT}", holds=beside <= FLAT)
    return [*rows, Row(what, f"{growth:.2f}"), flat]


def _unrelated_files() -> Row:
    taken = Pairs([], [])
    with bare_vms(128, 8) as guests, open_host("bpf") as host:
        guests.wait_for_ready()
        for _ in range(TURNS):
            taken.second.extend(repeat(timed(host.read), rounds=ROUNDS_A_TURN))
            with held_files():
                taken.first.extend(repeat(timed(host.read), rounds=ROUNDS_A_TURN))
    added = taken.ratio - 1
    return Row(
        f"{HOLDERS * FILES_EACH:,} unrelated open files in {HOLDERS} processes add",
        f"{added:+.1%} (of the minima {taken.ratio_of_minima - 1:+.1%})",
        target="< 20 %",
        holds=added < 0.2,
    )


@contextmanager
def held_files() -> Iterator[None]:
    """Other processes with many open files each."""
    with ExitStack() as processes:
        holders = [
            processes.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _HOLDER, str(FILES_EACH)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(HOLDERS)
        ]
        try:
            for holder in holders:
                assert holder.stdout is not None
                assert int(holder.stdout.readline()) == FILES_EACH
            yield
        finally:
            for holder in holders:
                os.kill(holder.pid, signal.SIGKILL)
