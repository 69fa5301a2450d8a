"""What starting costs, each time in a fresh process: the interpreter alone, the package, and whole commands.

`import kvmscope` is the median of the differences of adjacent processes with and without it. A command is timed from
its start to its end; its CPU time stands beside that, as on a machine with other work it waits for its turn.
"""

from __future__ import annotations

import os
import resource
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
        _command("`kvmscope --help`", "--help", most_ms=100),
        _command("`kvmscope read --help`", "read", "--help", most_ms=100),
        _command("completion of a command", most_ms=100, completes="kvmscope re"),
        _command("completion of an option", most_ms=100, completes="kvmscope read --so"),
        _command("`kvmscope read`, loading the iterator, where no VM runs", "read", most_ms=250),
    ]
    with bare_vms(16, 4) as guests:
        guests.wait_for_ready()
        rows.append(
            _command(
                "`kvmscope read --json` of 16 VMs with 64 vCPUs, loading the iterator", "read", "--json", most_ms=250
            )
        )
    return rows


def _command(what: str, *arguments: str, most_ms: float | None = None, completes: str | None = None) -> Row:
    run = _process("-m", "kvmscope", *arguments, completes=completes)
    try:
        before = _cpu_ns()
        taken = [timed(run)() for _ in range(ROUNDS)]
        cpu_ns = (_cpu_ns() - before) / ROUNDS
    except subprocess.CalledProcessError as error:
        return Row(what, f"fails with status {error.returncode}", holds=False)
    shown = f"{duration(median(taken))} (fastest {duration(min(taken))}; {duration(cpu_ns)} of CPU time)"
    if most_ms is None:
        return Row(what, shown)
    return Row(what, shown, target=f"<= {most_ms:g} ms", holds=median(taken) <= most_ms * 1e6)


def _cpu_ns() -> float:
    """Of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1e9


class _process:
    """``python ARGUMENTS``, to its end, with compiled modules as an installed package has them."""

    def __init__(self, *arguments: str, completes: str | None = None) -> None:
        self._command = [sys.executable, *arguments]
        self._environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        if completes is not None:
            words = {"COMP_WORDS": completes, "COMP_CWORD": str(completes.count(" "))}
            self._environment |= {"_KVMSCOPE_COMPLETE": "bash_complete", **words}

    def __call__(self) -> None:
        subprocess.run(
            self._command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self._environment
        )
