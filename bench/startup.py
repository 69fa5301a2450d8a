"""What starting costs, each time in a fresh process: the interpreter alone, the package, and whole commands.

`import kvmscope` is the difference of the medians of the processes with and without it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from statistics import median

from bench.guests import bare_vms
from bench.result import Row
from bench.timing import duration, pairs, repeat, timed

ROUNDS = 5


def bench() -> Sequence[Row]:
    empty = timed(_process("-c", "pass"))
    package = pairs(timed(_process("-c", "import kvmscope")), empty, rounds=ROUNDS)
    added = median(package.first) - median(package.second)
    rows = [
        Row("the interpreter, doing nothing", duration(median(package.second))),
        Row("`import kvmscope` adds", duration(added), target="< 50 ms", holds=added < 50e6),
        _command("`kvmscope --version`", "--version"),
    ]
    with bare_vms(16, 4) as guests:
        guests.wait_for_ready()
        rows.append(_command("`kvmscope read --json` of 16 VMs with 64 vCPUs, loading the iterator", "read", "--json"))
    return rows


def _command(what: str, *arguments: str) -> Row:
    run = _process("-m", "kvmscope", *arguments)
    try:
        taken = repeat(timed(run), rounds=ROUNDS)
    except subprocess.CalledProcessError as error:
        return Row(what, f"fails with status {error.returncode}", holds=False)
    return Row(what, f"{duration(median(taken))} (fastest {duration(min(taken))})")


class _process:
    """``python ARGUMENTS``, to its end."""

    def __init__(self, *arguments: str) -> None:
        self._command = [sys.executable, *arguments]

    def __call__(self) -> None:
        subprocess.run(self._command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
