"""Runs inside an emulated kernel: the governor of halt polling on the real parameter, which may be written there.

The busy guest is that of ``findings``: its polls are long, as the emulated CPU is slow. The output is one JSON object:
each step that the governor wrote; the parameter while it ran and after kill -9; and how it ends where a contract does
not hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec

from .findings import parameter

BEGUN_NS = 3_000_000
GUESTS = (
    LabSpec(workload="uneven", name="uneven", period_us=1000),
    LabSpec(workload="halt", name="calm", period_us=50_000),
    LabSpec(workload="idle", name="own", halt_poll_ns=0),
)
COMMAND = [sys.executable, "-m", "kvmscope", "govern", "polling", "--interval", "1s", "--patience", "1", "--json"]
BOUNDS = ["--min", "8192", "--wakeup-p99", "1ms"]
STEPS = 10
CONTRACT = 'name = "changed"\n[[stat]]\nname = "halt_wait_hist"\nscope = "vcpu"\nkind = "peak"\n'
_FILE = Path("/sys/module/kvm/parameters/halt_poll_ns")
_CHANGED = Path("/root/changed.toml")
_RESTORED_S = 20.0


def main() -> None:
    """Print what happened."""
    begun = str(BEGUN_NS)
    with parameter("halt_poll_ns_shrink", "2"), parameter("halt_poll_ns", begun), contextlib.ExitStack() as guests:
        for spec in GUESTS:
            guests.enter_context(process.start(spec)).go()
        with governor() as running:
            steps = [json.loads(running.stdout.readline()) for _ in range(STEPS)]
            while_it_ran = value()
            running.kill()
        after_kill = wait_for(BEGUN_NS)
        _CHANGED.write_text(CONTRACT, encoding="utf-8")
        refused = subprocess.run([*COMMAND, "--contract", _CHANGED], capture_output=True, text=True, check=False)
    print(
        json.dumps(
            {
                "steps": steps,
                "while_it_ran": while_it_ran,
                "after_kill": after_kill,
                "refusal": [refused.returncode, refused.stderr],
            }
        )
    )


@contextlib.contextmanager
def governor() -> Iterator[Any]:
    """The command, which is killed if it still runs after the block.

    It runs only while no vCPU wants to: there is one CPU, on which vCPUs would wait for the governor, up to 14 ms.
    """
    with subprocess.Popen([*COMMAND, *BOUNDS], stdout=subprocess.PIPE, text=True) as running:
        os.sched_setscheduler(running.pid, os.SCHED_IDLE, os.sched_param(0))
        try:
            yield running
        finally:
            running.kill()


def value() -> int:
    return int(_FILE.read_text(encoding="ascii"))


def wait_for(wanted: int) -> int:
    """The value, as soon as it is the wanted one, or at last."""
    deadline = time.monotonic() + _RESTORED_S
    while value() != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return value()


if __name__ == "__main__":
    main()
