"""Long recordings: what `doctor --from DIR --between A B` takes where DuckDB judges the intervals, or numpy does.

Recordings of one simulated host of `kvmscope lab fleet`, a scene every two seconds in segments of ten minutes, each
interval from one scene to the next: 160 vCPUs for an hour, and 1,000 vCPUs for 40 minutes. A process of its own gives
each answer; its CPU time is user and system time of all its threads, less of two runs. The answers are compared byte
for byte.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from bench.result import Row, at_most
from kvmscope.lab.fleet import host_scenes
from kvmscope.lab.fleet_plan import FleetSize, plan_fleet
from kvmscope.store.columns import tables_of
from kvmscope.store.epochs import EpochTracker
from kvmscope.store.layout import ABOUT, SegmentPlace, about_text
from kvmscope.store.segment import write_segment
from kvmscope.store.storage import Storage

_SIZES = (FleetSize(hosts=1, samples=1800, interval_s=2.0), FleetSize(hosts=1, vms=125, samples=1200, interval_s=2.0))
_SCENES = 300
_RUNS = 2
_PART = 1.0
"""Of the CPU time of numpy, at most."""

_ASK = """
import json, resource, sys
from kvmscope.cli import main
from kvmscope.tasks import long_recordings
long_recordings.LONG = int(sys.argv[1])
between = ("--between", "2026-11-02T12:00:00Z", "2026-11-02T14:00:00Z")
try:
    main(["doctor", "--from", sys.argv[2], *between, "--json"])
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "resident": used.ru_maxrss << 10}), file=sys.stderr)
"""


def bench() -> Sequence[Row]:
    return [row for size in _SIZES for row in _rows(size)]


def _rows(size: FleetSize) -> Iterator[Row]:
    what = f"{size.vms * size.vcpus:,} vCPUs over {size.samples - 1:,} intervals"
    with tempfile.TemporaryDirectory(prefix="kvmscope-bench-") as place:
        directory = Path(place) / "r"
        _write(directory, size)
        by_duckdb, ours = _least(directory, 1)
        by_numpy, theirs = _least(directory, 1 << 60)
    note = f"{by_duckdb['cpu_s']:.1f} s by {by_numpy['cpu_s']:.1f} s"
    yield at_most(f"CPU time of DuckDB by numpy, {what}", by_duckdb["cpu_s"] / by_numpy["cpu_s"], _PART, note=note)
    memory = " and ".join(f"{used['resident'] / 2**30:.2f} GiB" for used in (by_duckdb, by_numpy))
    yield Row(f"memory of both, {what}", memory)
    yield Row(f"answers, {what}", "equal" if ours == theirs else "differ", target="equal", holds=ours == theirs)


def _write(directory: Path, size: FleetSize) -> None:
    """In segments as a recorder makes them; `lab fleet` writes one for each host."""
    [host] = plan_fleet(size)
    directory.mkdir()
    (directory / ABOUT).write_text(about_text())
    scenes, epochs = host_scenes(host, size), EpochTracker()
    for number in range(math.ceil(size.samples / _SCENES)):
        part = list(islice(scenes, _SCENES))
        place = SegmentPlace.of(number, host.id, part[0].sample.taken_ns)
        write_segment(Storage(str(directory)), place, tables_of(part, epochs))


def _least(directory: Path, long: int) -> tuple[dict[str, float], bytes]:
    """The figures of the cheapest run, and the answer. ``long``: from how many vCPUs on DuckDB is asked."""
    runs = [_ask(directory, long) for _ in range(_RUNS)]
    return min(runs, key=lambda run: run[0]["cpu_s"])


def _ask(directory: Path, long: int) -> tuple[dict[str, float], bytes]:
    command = [sys.executable, "-c", _ASK, str(long), str(directory)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=1200)
    return json.loads(done.stderr.splitlines()[-1]), done.stdout
