"""What starting costs, each time in a fresh process: the interpreter alone, the package, and whole commands.

`import kvmscope` is the median of the differences of adjacent processes with and without it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from statistics import median

from bench.guests import bare_vms
from bench.result import Row
from bench.timing import duration, timed

ROUNDS = 12


def bench() -> Sequence[Row]:
    empty = timed(_process("-c", "pass"))
    package = timed(_process("-c", "import kvmscope"))
    both = [(empty(), package()) for _ in range(ROUNDS)]
    added = median(b - a for a, b in both)
    rows = [
        Row("the interpreter, doing nothing", duration(median(a for a, _ in both))),
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
        taken = [timed(run)() for _ in range(ROUNDS)]
    except subprocess.CalledProcessError as error:
        return Row(what, f"fails with status {error.returncode}", holds=False)
    return Row(what, f"{duration(median(taken))} (fastest {duration(min(taken))})")


class _process:
    """``python ARGUMENTS``, to its end."""

    def __init__(self, *arguments: str) -> None:
        self._command = [sys.executable, *arguments]

    def __call__(self) -> None:
        subprocess.run(self._command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
