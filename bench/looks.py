"""Whole looks, in CPU time of the process: read, names, verdicts, findings, overview and its text.

1,280 VMs with 10,240 vCPUs: VMs that never run are read and named, as many as that, of a few processes. They have no
findings, so what is judged and shown are invented values of a host of the same size, one VM in eight in trouble. The
whole is the sum of the two. 10 VMs with 80 vCPUs, of a process each: everything is of this host, and between each two
looks a further VM comes or goes, so that every second look has a VM without rates. As JSON there are some 6,000 numbers
to evaluate and to write, where a screen has 200.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Final

from bench.findings import ONE_IN, VCPUS_EACH, VMS, LargeHost
from bench.guests import vms_with_vcpus
from bench.result import Row
from bench.timing import duration
from kvmscope.collect import open_host
from kvmscope.host.machine import read_machine
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.scene import Scene
from kvmscope.view.jsonout import dump, to_value
from kvmscope.view.overview_text import overview_lines, rows_shown
from kvmscope.view.text import plain
from kvmscope.view.watch import HostView, Watch

WINDOWS, WARM_UP = 20, 3
FEW_VMS = 10
_LARGE_NS: Final = 60e6
_SMALL_NS: Final = 5e6


def bench() -> Sequence[Row]:
    with vms_with_vcpus(VMS * VCPUS_EACH, each=VCPUS_EACH), open_host("bpf") as host:
        scenes = [_timed(host.look) for _ in range(WARM_UP + WINDOWS)]
    read = median(scenes[WARM_UP:])
    judged = _judging()
    return [
        Row(f"reading and naming {VMS:,} VMs with {VMS * VCPUS_EACH:,} vCPUs", duration(read)),
        Row("verdicts, findings, overview and screen of as many", duration(judged)),
        _limited("a whole look at such a host (`status --watch`)", read + judged, _LARGE_NS),
        _few_row(f"a whole look at {FEW_VMS} VMs while others come and go (`status --watch`)", _few(_show)),
        _few_row("the same with every metric of every vCPU as JSON (`--json`)", _few(_write)),
    ]


def _limited(what: str, ns: float, most_ns: float, note: str = "") -> Row:
    return Row(what, f"{duration(ns)} of CPU time{note}", f"≤ {duration(most_ns)}", ns <= most_ns)


def _few_row(what: str, taken: Sequence[int]) -> Row:
    """On a machine with other work, caches are cold in each look; the fastest shows what it takes on its own."""
    return _limited(what, median(taken), _SMALL_NS, f" (fastest {duration(min(taken))})")


def _judging() -> float:
    """What is left of a look when the scene has been read."""
    host, machine, watch, taken = LargeHost(ONE_IN), read_machine(), Watch(), []
    for sample in host.samples(WARM_UP + WINDOWS):
        scene = Scene(sample, host.identities, machine, {})
        gc.collect()
        taken.append(_timed(lambda scene=scene: _show(watch.add(scene))))  # type: ignore[misc]
    return median(taken[WARM_UP:])


def _show(view: HostView | None) -> None:
    if view is not None:
        overview = view.overview
        deque(plain(overview_lines(overview, rows_shown(overview), width=120)), maxlen=0)


def _write(view: HostView | None) -> None:
    if view is not None:
        dump(to_value(view.overview), one_line=True)


def _few(say: Callable[[HostView | None], None]) -> list[int]:
    watch = Watch()
    with process.start(LabSpec(workload="bare", vms=FEW_VMS, vcpus=VCPUS_EACH)) as guests, open_host("bpf") as host:
        guests.wait_for_ready()
        turns = _comings_and_goings(WARM_UP + WINDOWS)
        taken = [_timed(lambda: say(watch.add(host.look()))) for _ in turns]
    return taken[WARM_UP:]


def _comings_and_goings(count: int) -> Iterator[None]:
    """Yields after a VM has come, after it has gone, and so on."""
    with ExitStack() as running:
        for number in range(count):
            if number % 2:
                running.close()
            else:
                running.enter_context(process.start(LabSpec(workload="bare", vms=1, vcpus=1))).wait_for_ready()
            yield


def _timed(call: Callable[[], object]) -> int:
    began = time.process_time_ns()
    result = call()
    took = time.process_time_ns() - began
    del result
    return took
