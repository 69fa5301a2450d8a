"""The governor of halt polling on this host's KVM: a VMM's own VM, and the command, which changes nothing here.

The command changes the parameter of an emulated kernel in tests/kernels/test_govern.py, and files in tests/linux.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.linux.halt_poll import read_halt_poll_ns

pytestmark = pytest.mark.live

EXAMPLE = Path(__file__).parents[2] / "examples" / "govern_vmm.py"
LINE = re.compile(r"(\d+) ns, polled ([0-9.]+) CPU: (\w+): ")
BUSY_CPUS = 0.02


@pytest.mark.needs("kvm")
def test_a_vmm_governs_its_own_vm_by_the_same_controller() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--for", "8"], capture_output=True, text=True, check=True, timeout=60
    )
    steps = [(int(limit), float(cpus), what) for limit, cpus, what in LINE.findall(done.stdout)]
    assert len(steps) == len(done.stdout.splitlines()) > 5
    first = steps[0][1]
    if not any(what == "lower" for _, _, what in steps) and first < BUSY_CPUS:
        pytest.skip(f"the CPUs are too busy for polling: {first:.4f} CPU of it")
    assert steps[-1][0] < steps[0][0]
    assert steps[-1][1] <= first / 2


@pytest.mark.needs("kvm", "bpf", "root")
def test_a_dry_run_shows_the_evidence_and_changes_nothing() -> None:
    before = read_halt_poll_ns()
    command = [sys.executable, "-m", "kvmscope", "govern", "polling", "--dry-run", "--json", "--interval", "500ms"]
    with process.start(LabSpec(workload="halt", period_us=2000)) as guests:
        guests.go()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as governor:
            assert governor.stdout is not None
            steps = [json.loads(governor.stdout.readline()) for _ in range(2)]
            governor.send_signal(signal.SIGINT)
            assert governor.wait(20) == 0
    assert steps[1]["obeying_vms"] >= 1
    assert steps[1]["net_cpus"] is not None
    assert {step["is_dry_run"] for step in steps} == {True}
    assert read_halt_poll_ns() == before
