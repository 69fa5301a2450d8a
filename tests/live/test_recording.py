"""Recording this host: no gap while it is in trouble, and what the thread that looks touches."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from os import cpu_count
from pathlib import Path

import pytest
from stuck import stuck_vmm

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.store.recording import Recording

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf")]

INTERVAL_S = 0.5
LOOKS = 30

LOOKING = """
import sys
from pathlib import Path
from kvmscope import collect
from kvmscope.store.recorder import Recorder
recorder = Recorder(collect.open_host("bpf"), Path(sys.argv[1]), interval_s=0.1, for_s=4)
recorder.start()
print(recorder.looking_thread, flush=True)
recorder.done.wait()
recorder.stop()
"""


@contextmanager
def busy_cpus() -> Iterator[None]:
    """A process that never waits for each CPU, at the usual priority."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cpu_count() or 1)]
    try:
        yield
    finally:
        for one in spinning:
            one.kill()
            one.wait()


def test_no_gap_is_longer_than_two_intervals_while_all_cpus_are_busy_and_a_vmm_hangs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kvmscope", "record", str(tmp_path / "recording"), "--realtime"]
    command += ["--source", "bpf", "--interval", f"{INTERVAL_S}s", "--for", f"{LOOKS * INTERVAL_S}s"]
    (tmp_path / "fuse").mkdir()
    with stuck_vmm(tmp_path / "fuse") as (pid, _page), busy_cpus():
        subprocess.run(command, check=True, timeout=120)
    scenes = list(Recording(str(tmp_path / "recording")).scenes())
    assert all(pid in scene.sample.vms.pid for scene in scenes)
    assert any(each.silent_s is not None for each in scenes[-1].identities), "the VMM answered"
    steps_s = [(b.sample.monotonic_ns - a.sample.monotonic_ns) / 1e9 for a, b in pairwise(scenes)]
    assert max(steps_s) <= 2 * INTERVAL_S, steps_s
    assert len(scenes) >= LOOKS - 2


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_thread_that_looks_opens_nothing_of_a_vmm(tmp_path: Path) -> None:
    """strace sees every path that a thread names; the threads beside it, which ask who the VMMs are, name theirs."""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=%file", "-o", str(trace)]
    command += [sys.executable, "-c", LOOKING, str(tmp_path / "recording")]
    with process.start(LabSpec(workload="bare", vms=2)) as guests:
        guests.wait_for_ready()
        done = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    looking = done.stdout.strip()
    scenes = list(Recording(str(tmp_path / "recording")).scenes())
    pids = {int(pid) for scene in scenes for pid in scene.sample.vms.pid}
    assert len(scenes) > 2
    named = {int(pid): set[str]() for pid in pids}
    for line in trace.read_text(errors="replace").splitlines():
        thread = line.split()[0]
        for found in re.findall(r'"/proc/(\d+)(?:/|")', line):
            if int(found) in named:
                named[int(found)].add(thread)
    assert all(named.values()), "nobody asked who the VMMs are"
    assert not any(looking in threads for threads in named.values())
