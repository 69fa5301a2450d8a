"""The governor of halt polling on this host's KVM: a VMM's own VM, and the command, which changes nothing here.

The command changes the parameter of an emulated kernel in tests/kernels/test_govern.py, and files in tests/linux.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.linux.halt_poll import read_halt_poll_ns

pytestmark = pytest.mark.live

EXAMPLE = Path(__file__).parents[2] / "examples" / "govern_vmm.py"
LINE = re.compile(r"(\d+) ns, polled ([0-9.]+) CPU: (\w+): ")
BUSY_CPUS = 0.02
PATIENCE_S = 40
"""For a moment in which the guest has a CPU to itself."""


@pytest.mark.needs("kvm")
@pytest.mark.usefixtures("favoured")
def test_a_vmm_governs_its_own_vm_by_the_same_controller() -> None:
    steps: list[tuple[int, float, str]] = []
    command = [sys.executable, str(EXAMPLE), "--for", str(PATIENCE_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as example:
        assert example.stdout is not None
        for line in example.stdout:
            (step,) = LINE.findall(line)
            steps.append((int(step[0]), float(step[1]), step[2]))
            if _has_settled(steps):
                break
        example.send_signal(signal.SIGINT)
    most = max(cpus for _, cpus, _ in steps)
    if not any(what == "lower" for _, _, what in steps) and most < BUSY_CPUS:
        pytest.skip(f"the CPUs were too busy for polling, for {PATIENCE_S} s: {most:.4f} CPU of it at most")
    assert _has_settled(steps), steps


def _has_settled(steps: Sequence[tuple[int, float, str]]) -> bool:
    """Whether a lower limit has halved what polling took with the one that it began with.

    KVM does not poll on a CPU that others want too, so it can take a while before there is something to lower.
    """
    begun_ns = steps[0][0]
    at_first = max(cpus for limit_ns, cpus, _ in steps if limit_ns == begun_ns)
    limit_ns, cpus, _ = steps[-1]
    return limit_ns < begun_ns and at_first >= BUSY_CPUS and cpus <= at_first / 2


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
