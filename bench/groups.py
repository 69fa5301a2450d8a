"""What each group does to a guest that causes its events as fast as it can, beside `perf kvm stat record`.

Slower is by how much the guest's exits in a second of CPU time of its process fall while the group counts: the median
over spans with and without it in turn, of one guest; the first row says how exact that is. A run is that of one
program, at one event, by the kernel's run statistics; the statistics themselves are in it. The share is what those runs
take of the time of a guest that does nothing else. An emulated kernel (QEMU's TCG, if Debian's 6.1 is in the cache of
kernels) has the exits that kvm_pvm does not report: there times are of no hardware, and only their ratios are given.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.overhead import Overhead, Ran, counting, measure, perf
from bench.result import Row
from kvmscope.errors import SourceError
from kvmscope.lab import kernels, process
from kvmscope.lab.spec import LabSpec
from kvmscope.sources.bpf import libbpf
from kvmscope.sources.bpf.groups.kernel import Isa, KernelFacts
from kvmscope.sources.bpf.groups.loaded import LoadedGroup, open_group

SPAN_S, ROUNDS = 0.15, 12
RING_EVENT_NS = 200
"""What an event of group dirty may cost at most."""
KERNEL, EMULATED_SPAN_S, EMULATED_ROUNDS = "6.1", 0.2, 4
_TIMEOUT_S = 240
_GUESTS: Mapping[str, tuple[str, LabSpec]] = {
    "exits": ("exits for its page tables", LabSpec(workload="retable")),
    "userspace": ("returns to its VMM", LabSpec(workload="hlt")),
    "wakeups": ("sleeps 20 µs and is woken", LabSpec(workload="halt", period_us=20, halt_poll_ns=0)),
    "mmu_lock": ("touches fresh pages with 2 vCPUs", LabSpec(workload="fault", vcpus=2)),
    "dirty": ("dirties pages of a dirty ring", LabSpec(workload="ring")),
    "apicv": ("sends itself interrupts", LabSpec(workload="ipi")),
}


def bench() -> Sequence[Row]:
    return [*_here(), *_event_of_a_ring(), *_emulated()]


def _here() -> Iterator[Row]:
    what, spec = _GUESTS["exits"]
    found = measure(spec, {"": _nobody}, span_s=SPAN_S, rounds=ROUNDS)[""]
    yield Row(f"nothing, to tell how exact this is: a guest that {what}", _slower(found))
    for name, (what, spec) in _GUESTS.items():
        found = measure(spec, {name: partial(counting, name)}, span_s=SPAN_S, rounds=ROUNDS)[name]
        yield Row(f"{name}: a guest that {what}", _slower(found) + (_programs(found) or _nothing()))
    if shutil.which("perf"):
        what, spec = _GUESTS["exits"]
        found = measure(spec, {"perf": partial(perf, [])}, span_s=SPAN_S, rounds=ROUNDS)["perf"]
        is_silent = KernelFacts().isa is Isa.UNKNOWN
        recorder = _nothing() if is_silent else f"; its recorder {found.ns_per_exit:.0f} ns of CPU time an exit"
        yield Row(f"`perf kvm stat record`: a guest that {what}", _slower(found) + recorder)


def _event_of_a_ring() -> Iterator[Row]:
    """Of group dirty its one program for dirty rings; beside it runs one at the end of every system call."""
    spans_ns = []
    with process.start(_GUESTS["dirty"][1]) as guest, libbpf.run_statistics():
        guest.go()
        for _ in range(ROUNDS):
            with closing(open_group("dirty", vms=8, vcpus=64)) as group:
                if not isinstance(group, LoadedGroup) or "push" not in group.plan.programs:
                    return
                before = libbpf.ran(group.fd("push"))
                time.sleep(SPAN_S)
                runs, spent_ns = (b - a for a, b in zip(before, libbpf.ran(group.fd("push")), strict=True))
                if runs:
                    spans_ns.append(spent_ns / runs)
    if spans_ns:
        median = statistics.median(spans_ns)
        measured = f"{median:.0f} ns, at best {min(spans_ns):.0f} ns"
        yield Row("dirty: one page put into a ring", measured, f"≤ {RING_EVENT_NS} ns", holds=median <= RING_EVENT_NS)


@contextmanager
def _nobody() -> Iterator[Ran]:
    yield lambda: (0, 0)


def _slower(found: Overhead) -> str:
    return f"{found.slower:+.1%} slower (of {found.exits_per_s:,.0f} exits/s)"


def _programs(found: Overhead) -> str:
    if found.ns_per_run is None:
        return ""
    return f"; {found.ns_per_run:.0f} ns a run, {found.runs / found.exits:.2g} runs an exit: {_share(found):.1%}"


def _share(found: Overhead) -> float:
    """What the runs at each exit take of the time from exit to exit."""
    return found.ns_per_exit * found.exits_per_s / 1e9


def _nothing() -> str:
    return f"; sees nothing: {KernelFacts().vendor} tells of no exit"


# -- emulated ---------------------------------------------------------------------------------------------------------


def _emulated() -> Iterator[Row]:
    if not (kernels.cache_folder() / f"kernel-{KERNEL}").is_dir():
        return
    has_perf = shutil.which("perf") is not None
    command = f"cd /root && python3 -m bench.overhead {EMULATED_SPAN_S} {EMULATED_ROUNDS} {'perf' * has_perf}"
    put: dict[str, Path | bytes] = {"/root/bench": Path(__file__).parent, **(_perf_files() if has_perf else {})}
    try:
        result = kernels.run(KERNEL, ["sh", "-c", command], put=put, timeout_s=_TIMEOUT_S)
    except SourceError as error:
        yield Row(f"in an emulated {KERNEL}", f"not measured: {error.reason.splitlines()[0]}")
        return
    yield from _emulated_rows(json.loads(result.stdout))


def _emulated_rows(answer: Mapping[str, Any]) -> Iterator[Row]:
    found = {
        workload: {name: Overhead(**overhead) for name, overhead in each.items()} for workload, each in answer.items()
    }
    where = f"emulated Linux {KERNEL}"
    for name, overhead in found["yield"].items():
        what = "`perf kvm stat record`" if name == "perf" else name
        of_time = (
            f"{_shared(overhead):+.0%} with its recorder on the same CPU"
            if name == "perf"
            else f"runs of its programs take {_share(overhead):.0%}"
        )
        yield Row(f"{what}: {where}, a guest that makes hypercalls", f"{overhead.slower:+.0%} slower; {of_time}")
    exits, userspace = (found["pio"][name].ns_per_run for name in ("exits", "userspace"))
    if exits and userspace:
        yield Row(f"exits: {where}, a run ÷ one of group userspace", f"{exits / userspace:.2f}")


def _shared(found: Overhead) -> float:
    """By how much slower a guest is that leaves its CPU to the recorder; alone it would have all of it."""
    alone_ns = 1e9 / found.exits_per_s
    return 1 - alone_ns / (alone_ns / (1 - found.slower) + found.ns_per_exit)


def _perf_files() -> dict[str, Path]:
    """perf of this machine with those of its libraries that the emulated userland has not got."""
    program = Path(os.path.realpath(shutil.which("perf") or ""))
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    tree = kernels.prepare(KERNEL).userland.tree
    assert tree is not None
    libraries = [Path(found) for found in re.findall(r"=> (/\S+)", said)]
    missing = [path for path in libraries if not _is_in(tree, path)]
    return {"/usr/bin/perf": program, **{f"/usr/lib/{path.name}": path.resolve() for path in missing}}


def _is_in(tree: Path, path: Path) -> bool:
    inside = path.relative_to("/")
    return (tree / inside).exists() or (tree / "usr" / inside).exists()
