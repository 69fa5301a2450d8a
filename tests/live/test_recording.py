"""Recording this host: what the thread that looks touches."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.store.recording import Recording

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf")]

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
