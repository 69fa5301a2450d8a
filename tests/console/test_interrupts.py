"""Ctrl-C and SIGTERM at random moments of real commands: each ends soon, quietly, with its exit code.

``KVMSCOPE_SIGNALS`` is how many signals each command gets; every moment comes from a seed that a failure shows. The
moments begin once the handlers are installed: before that the process is the interpreter's, see docs/commands.md.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

KVMSCOPE = [sys.executable, "-m", "kvmscope"]
SIGNALS = int(os.environ.get("KVMSCOPE_SIGNALS", "3"))
MUST_END_WITHIN_S = 2.0
AT_ITS_END_S = 0.1
"""A command that ends by itself within this time had nothing left to interrupt."""

NORMAL_END, INTERRUPTED, TERMINATED = 0, 130, 143
CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


@dataclass(frozen=True)
class Ending:
    """How a process ended after a signal; ``was_over``: it had ended by itself before."""

    was_over: bool
    after_s: float
    exit_code: int
    stderr: str


def interrupted(arguments: Sequence[str], number: signal.Signals, delay_s: float) -> Ending:
    """Run a command and send it a signal so long after its handlers were installed."""
    with subprocess.Popen(
        [*KVMSCOPE, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for_handlers(process)
        time.sleep(delay_s)  # the moment is what is tried
        was_over = process.poll() is not None
        sent = time.monotonic()
        process.send_signal(number)
        try:
            _, stderr = process.communicate(timeout=20)
        finally:
            process.kill()
        return Ending(was_over, time.monotonic() - sent, process.returncode, stderr)


def wait_for_handlers(process: subprocess.Popen[str]) -> None:
    """Until the process has a handler of SIGTERM, as the kernel says."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8", errors="replace")
        caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.0005)


def faults_of(ending: Ending, number: signal.Signals, *, ends_normally: bool) -> list[str]:
    """What is wrong with an ending, empty if nothing is."""
    was_at_its_end = ending.was_over or ending.after_s < AT_ITS_END_S
    expected = {CODES[number], *([NORMAL_END] if ends_normally or was_at_its_end else [])}
    noise = [line for line in ending.stderr.splitlines() if "Traceback" in line or "ignored" in line or "Error" in line]
    return [
        *([f"ended after {ending.after_s:.2f} s"] if ending.after_s > MUST_END_WITHIN_S else []),
        *([f"exit code {ending.exit_code}"] if ending.exit_code not in expected and not ending.was_over else []),
        *noise,
    ]


def try_moments(arguments: Sequence[str], *, longest_s: float, ends_normally: bool = False) -> None:
    """Signals at random moments up to ``longest_s``; all that ended badly are told together."""
    seed = int(os.environ.get("KVMSCOPE_SEED", str(time.time_ns() % 10**6)))
    rng = random.Random(seed)
    bad = []
    for n in range(SIGNALS):
        number = (signal.SIGINT, signal.SIGTERM)[n % 2]
        delay_s = rng.uniform(0, longest_s)
        ending = interrupted(arguments, number, delay_s)
        faults = faults_of(ending, number, ends_normally=ends_normally)
        if faults:
            bad.append(f"{number.name} after {delay_s * 1e3:.1f} ms: {faults} {ending.stderr[-500:]}")
    assert not bad, f"{len(bad)} of {SIGNALS} (seed {seed}):\n" + "\n".join(bad)


@pytest.fixture(scope="module", autouse=True)
def sigint_is_not_ignored() -> Iterator[None]:
    """A shell has its background jobs ignore SIGINT, and what they start ignores it too."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def simulated() -> Iterator[None]:
    from kvmscope.lab import simulate

    with simulate.start(vms=3):
        yield


FROM = ("--source", "published")
ONCE = [
    ["status", "--interval", "1s", *FROM],
    ["doctor", "--for", "2s", "--interval", "1s", *FROM],
    ["read", *FROM],
    ["explain", "exits", *FROM],
    ["check"],
    ["schema", "diff", "6.1", "6.12"],
    ["groups", *FROM],
    ["--help"],
]
ONGOING = [
    ["status", "--watch", "--interval", "50ms", *FROM],
    ["apicv", "--watch", "--interval", "50ms", "--json", *FROM],
    ["doctor", "--watch", "--interval", "100ms", *FROM],
    ["lab", "simulate", "--vms", "2"],
]


@pytest.mark.parametrize("arguments", ONCE, ids=" ".join)
@pytest.mark.usefixtures("simulated")
def test_a_signal_at_any_moment_ends_a_command_with_a_code_of_its_own(arguments: list[str]) -> None:
    try_moments(arguments, longest_s=0.6 if arguments[0] in ("status", "doctor", "explain") else 0.2)


@pytest.mark.parametrize("arguments", ONGOING, ids=" ".join)
@pytest.mark.usefixtures("simulated")
def test_a_signal_ends_what_goes_on_until_it_is_ended(arguments: list[str]) -> None:
    try_moments(arguments, longest_s=0.8, ends_normally=True)


def python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)


def test_an_exception_that_a_callback_of_c_code_drops_is_raised_again() -> None:
    done = python("""
import ctypes, os, signal, sys
from kvmscope.console import interrupts
handlers = interrupts.install()
def compare(a, b):
    if not handlers.exit_code:
        signal.raise_signal(signal.SIGINT)
    return 0
kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
try:
    ctypes.CDLL(None).qsort((ctypes.c_int * 8)(), 8, 4, kind(compare))
    signal.pause()
except interrupts.Interruption as error:
    sys.exit(error.exit_code)
""")
    assert (done.returncode, done.stderr) == (INTERRUPTED, "")


def test_an_import_is_not_interrupted_halfway(tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text(
        "import os, signal, time\nsignal.raise_signal(signal.SIGTERM)\ntime.sleep(0.2)\nDONE = True\n", encoding="ascii"
    )
    done = python(f"""
import sys, time
from kvmscope.console import interrupts
interrupts.install()
sys.path.insert(0, {str(tmp_path)!r})
try:
    import slow_module
    time.sleep(20)
except interrupts.Interruption as error:
    sys.exit(error.exit_code if sys.modules["slow_module"].DONE else 1)
""")
    assert (done.returncode, done.stderr) == (TERMINATED, "")


def test_a_wait_that_no_signal_ends_does_not_keep_the_process() -> None:
    """The main thread is in C code that goes back to waiting at each signal, as the kernel's killable waits do."""
    done = python("""
import ctypes, signal, threading
from kvmscope.console import interrupts
interrupts.install()
threading.Timer(0.1, lambda: signal.raise_signal(signal.SIGINT)).start()
libc, word = ctypes.CDLL(None), ctypes.c_int(0)
lock = (ctypes.c_char * 64)()
libc.sem_init(lock, 0, 0)
class Spec(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))
wait = libc.pthread_mutex_lock
wait(lock := (ctypes.c_char * 64)())
wait(lock)
""")
    assert (done.returncode, done.stderr) == (INTERRUPTED, "")


def test_an_ignored_signal_stays_ignored() -> None:
    done = python("""
import signal
from kvmscope.console import interrupts
signal.signal(signal.SIGINT, signal.SIG_IGN)
interrupts.install()
signal.raise_signal(signal.SIGINT)
print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
""")
    assert (done.returncode, done.stdout) == (0, "True\n")


def test_importing_the_package_leaves_the_handlers_alone() -> None:
    done = python("""
import signal, sys
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook
import kvmscope, kvmscope.collect, kvmscope.cli.group, kvmscope.cli.status
print(before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook))
""")
    assert (done.returncode, done.stdout) == (0, "True\n")
