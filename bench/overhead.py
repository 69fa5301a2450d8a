"""How much slower a guest gets while something looks at it: spans with and without, in turn, of one guest that runs on.

The guest's pace is that of its exits by KVM's own statistic, read through the BPF iterator, which does nothing between
two reads; not by the clock but by the CPU time of the guest's process, so that others who use the machine take little
part in it. Each span with is compared to the mean of the spans without before and after it; the result is the median of
those ratios. What one run of a program takes is measured in further spans, by the kernel's run statistics of BPF
programs, which themselves slow the guest down.
Also a script, for emulated kernels: ``python3 -m bench.overhead SECONDS ROUNDS [perf]``.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from kvmscope.analysis.window import Window
from kvmscope.errors import Unavailable
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.schema import Scope
from kvmscope.sources.bpf import libbpf
from kvmscope.sources.bpf.groups.loaded import LoadedGroup, open_group
from kvmscope.sources.bpf.source import BpfSource

MEASURED = 4
"""Rounds in which programs are measured."""
Ran = Callable[[], tuple[int, int]]
"""Runs of programs so far, and the nanoseconds that they took."""
Looking = Callable[[], AbstractContextManager[Ran]]
"""Something that looks at guests for as long as its block runs."""


@dataclass(frozen=True, slots=True)
class Overhead:
    """``slower``: by what share. ``exits_per_s``: without. ``runs``, ``exits``, ``time_ns``: of the measured spans."""

    slower: float
    exits_per_s: float
    runs: int
    exits: float
    time_ns: int

    @property
    def ns_per_run(self) -> float | None:
        return self.time_ns / self.runs if self.runs else None

    @property
    def ns_per_exit(self) -> float:
        return self.time_ns / self.exits


def measure(spec: LabSpec, looking: Mapping[str, Looking], *, span_s: float, rounds: int) -> dict[str, Overhead]:
    """What each does to one guest."""
    with closing(BpfSource()) as source, process.start(spec) as guest:
        guest.go()
        pace = partial(_span, source, guest.pid)
        pace(span_s)
        return {name: _measure(look, partial(pace, span_s), rounds) for name, look in looking.items()}


def _measure(look: Looking, pace: Callable[[], _Span], rounds: int) -> Overhead:
    without, within, runs, exits, time_ns = [pace()], [], 0, 0.0, 0
    for number in range(rounds):
        with look() as ran:
            within.append(pace())
            if number < MEASURED:
                with libbpf.run_statistics():
                    before = ran()
                    exits += pace().exits
                    after = ran()
                runs, time_ns = runs + after[0] - before[0], time_ns + after[1] - before[1]
        without.append(pace())
    ratios = [
        (before.per_cpu_s + after.per_cpu_s) / 2 / on.per_cpu_s
        for on, (before, after) in zip(within, pairwise(without), strict=True)
    ]
    per_s = statistics.median(span.exits / span.seconds for span in without)
    return Overhead(1 - 1 / statistics.median(ratios), per_s, runs, exits, time_ns)


@dataclass(frozen=True, slots=True)
class _Span:
    """How often a guest exited, in how much CPU time of its process and by the clock."""

    exits: float
    cpu_s: float
    seconds: float

    @property
    def per_cpu_s(self) -> float:
        return self.exits / self.cpu_s


def _span(source: BpfSource, pid: int, span_s: float) -> _Span:
    """Until the guest has had so much CPU time."""
    began_ns, previous = _cpu_time_ns(pid), source.read()
    deadline = time.monotonic() + 60 * span_s
    while _cpu_time_ns(pid) < began_ns + span_s * 1e9:
        if time.monotonic() > deadline:
            raise Unavailable("the guest gets no CPU time")
        time.sleep(span_s / 5)
    window, ended_ns = Window(previous, source.read()), _cpu_time_ns(pid)
    sample = window.current
    of_guest = sample.vms.pid[sample.vcpus.vm] == pid
    exits = float(window.delta("kvm", Scope.VCPU, "exits")[of_guest].sum())
    return _Span(exits, (ended_ns - began_ns) / 1e9, window.interval_s)


def _cpu_time_ns(pid: int) -> int:
    """Of all threads of a process, from /proc/PID/task/TID/schedstat."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


@contextmanager
def counting(name: str) -> Iterator[Ran]:
    """A group of statistics. Raises Unavailable if it cannot be had."""
    if name == "apicv":
        with closing(BpfSource(groups=(name,))) as source:
            hooks = source.hooks.chosen if source.hooks else ()
            yield lambda: _summed(libbpf.ran(source.program.fd(hook.program)) for hook in hooks)
        return
    with closing(open_group(name, vms=8, vcpus=64)) as group:
        if not isinstance(group, LoadedGroup):
            raise Unavailable(f"group {name} cannot be had here")
        yield group.ran


def _summed(ran: Iterator[tuple[int, int]]) -> tuple[int, int]:
    runs, times = zip(*ran, strict=True)
    return sum(runs), sum(times)


@contextmanager
def perf(sizes: list[int]) -> Iterator[Ran]:
    """``perf kvm stat record`` of the whole host; its time is the recorder's. ``sizes`` gets the bytes recorded."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "perf.data")
        recorder = subprocess.Popen(
            ["perf", "kvm", "stat", "record", "-a", "-o", str(data)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            _wait_for_header(recorder, data)
            yield lambda: (0, _cpu_time_ns(recorder.pid))
        finally:
            recorder.send_signal(signal.SIGINT)
            recorder.communicate()
            sizes.append(data.stat().st_size if data.exists() else 0)


def _wait_for_header(recorder: subprocess.Popen[bytes], data: Path) -> None:
    """perf writes the header just before it begins."""
    deadline = time.monotonic() + 60
    while not (data.exists() and data.stat().st_size):
        if recorder.poll() is not None or time.monotonic() > deadline:
            said = recorder.stderr.read().decode(errors="replace") if recorder.stderr else ""
            raise Unavailable(f"perf kvm stat record does not record: {said.strip()[-200:]}")
        time.sleep(0.05)


def main(arguments: Sequence[str]) -> None:
    """Inside of an emulated kernel: group exits, and perf if asked for, on guests that exit as fast as they can."""
    span_s, rounds, more = float(arguments[0]), int(arguments[1]), arguments[2:]
    looking: dict[str, Looking] = {"exits": partial(counting, "exits")}
    if "perf" in more:
        looking["perf"] = partial(perf, [])
    groups: dict[str, Looking] = {name: partial(counting, name) for name in ("exits", "userspace")}
    found = {
        "yield": measure(LabSpec(workload="yield"), looking, span_s=span_s, rounds=rounds),
        "pio": measure(LabSpec(workload="pio"), groups, span_s=span_s, rounds=2),
    }
    print(json.dumps({workload: {name: asdict(each) for name, each in of.items()} for workload, of in found.items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
