"""Ctrl-C and SIGTERM at random moments of every command: each ends soon, quietly, with its exit code.

``KVMSCOPE_SIGNALS`` is how many signals each command gets; every moment comes from a seed that a failure shows. The
moments begin when the process has become Python. Until ``kvmscope/__main__.py`` begins to run, the process is Python's
alone (docs/reference/commands.md), which the kernel tells from the signals that it catches; a traceback from then on is
a fault.
"""

from __future__ import annotations

import contextlib
import os
import pty
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from commands import leaves, vm_published_by
from processes import run_queue_s

import kvmscope
from kvmscope.cli.group import main

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

KVMSCOPE = [sys.executable, "-m", "kvmscope"]
PACKAGE = str(Path(kvmscope.__file__).parent)
DATA = Path(__file__).parents[1] / "data"
SIGNALS = int(os.environ.get("KVMSCOPE_SIGNALS", "2"))
MUST_END_WITHIN_S = 2.0
AT_ITS_END_S = 0.1
"""A command that ends by itself within this time had nothing left to interrupt."""

NORMAL_END, INTERRUPTED, TERMINATED = 0, 130, 143
CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
FROM = ("--source", "published")
KVM, BPF, ROOT, KERNELS = ("kvm",), ("kvm", "bpf"), ("kvm", "bpf", "root", "unshare"), ("kernels", "qemu")


@dataclass(frozen=True)
class CommandLine:
    """One command, and how it is tried: moments up to ``longest_s``; ``needs``: see tests/support/machine.py.

    ``ends_normally``: a signal is its normal end. ``may_die``: for a while the kernel ends it. ``before``: is run
    first. ``as_root``: in a mount namespace whose /run is its own. ``on_terminal``: it draws on one. ``exit_codes``:
    others that it may end with by itself.
    """

    text: str
    longest_s: float = 0.3
    ends_normally: bool = False
    needs: tuple[str, ...] = ()
    as_root: bool = False
    before: str = ""
    on_terminal: bool = False
    exit_codes: tuple[int, ...] = ()
    may_die: bool = False

    @property
    def words(self) -> list[str]:
        return self.text.split()


def watching(text: str, **facts: Any) -> CommandLine:
    return CommandLine(text, longest_s=0.9, ends_normally=True, **facts)


RECORD = "record {scratch}/a --for 300ms --interval 50ms --source published"
LONG_QUERY = "SELECT/**/count(*)/**/FROM/**/range(99999999)a,range(99999999)b"
COMMAND_LINES = [
    CommandLine("--help"),
    CommandLine("status --interval 1s --source published", longest_s=0.8),
    CommandLine("read --source published"),
    CommandLine("read --source bpf", needs=BPF),
    CommandLine("hist {vm} halt_wait_hist --interval 1s --source published", longest_s=0.8),
    CommandLine("apicv --source published"),
    CommandLine("doctor --for 2s --interval 1s --source published", longest_s=0.8),
    CommandLine("explain exits --source published", longest_s=0.8),
    CommandLine("list --source published"),
    CommandLine("diff {scratch}/a {scratch}/a/../a", longest_s=0.6, before=RECORD),
    CommandLine("report {scratch}/a", longest_s=0.6, before=RECORD),
    CommandLine("episodes {scratch}/a", before=RECORD),
    CommandLine("dump --from {scratch}/a", before=RECORD),
    *(
        CommandLine(f"fleet {what} {{scratch}}/a", longest_s=1.5, before=RECORD)
        for what in ("status", "doctor", "apicv", "schemas")
    ),
    CommandLine("fleet diff {scratch}/a", longest_s=1.5, before=RECORD, exit_codes=(2,)),  # one host is one side
    CommandLine("fleet index {scratch}/a", longest_s=0.6, before=RECORD),
    CommandLine("fleet load --clickhouse chdb://{scratch}/c {scratch}/a", longest_s=3, before=RECORD, may_die=True),
    CommandLine(f"sql --from {{scratch}}/a {LONG_QUERY}", longest_s=1.5, before=RECORD),
    CommandLine("replay {scratch}/a", longest_s=0.6, ends_normally=True, on_terminal=True, before=RECORD),
    CommandLine("snapshot - --source published", longest_s=0.8),
    CommandLine("check"),
    CommandLine("schema dump", needs=KVM),
    CommandLine("schema diff 6.1 6.12", exit_codes=(1,)),
    CommandLine("schema check {examples}/contract.toml --stated"),
    CommandLine("schema review {data}/review/rfc-2024-02.toml", exit_codes=(1,)),
    CommandLine("groups list --source published"),
    CommandLine("groups try exits --for 1s", longest_s=1.2, needs=ROOT, exit_codes=(3,)),
    CommandLine("groups pin wakeups", longest_s=0.8, needs=ROOT, as_root=True),
    CommandLine("groups unpin wakeups", longest_s=0.4, needs=ROOT, as_root=True, before="groups pin wakeups"),
    CommandLine("attach --readers 0", longest_s=0.8, needs=ROOT, as_root=True),
    CommandLine("detach", longest_s=0.4, needs=ROOT, as_root=True, before="attach --readers 0"),
    CommandLine("demo", longest_s=4, needs=KVM),
    CommandLine("lab fleet {scratch}/fleet --hosts 4", longest_s=1.5, exit_codes=(2,)),  # where one was begun before
    CommandLine("lab kernel 6.12 -- sleep 60", longest_s=8, needs=KERNELS),
    watching("status --watch --interval 50ms --source published"),
    watching("apicv --watch --interval 50ms --json --source published"),
    watching("doctor --watch --interval 100ms --source published"),
    watching("record {scratch}/recording --interval 20ms --source published"),
    watching("top --source published", on_terminal=True),
    watching("top --source bpf", on_terminal=True, needs=BPF),
    watching("serve --web.listen-address 127.0.0.1:0 --source published"),
    watching("govern polling --dry-run --interval 50ms", needs=BPF),
    watching("lab simulate --vms 2"),
    watching("lab run --workload spin --vms 2", needs=KVM),
]


def test_every_command_gets_signals() -> None:
    tried = {tuple(line.words[: len(path)]) for line in COMMAND_LINES for path, _ in leaves(main)}
    assert [path for path, _ in leaves(main) if path not in tried] == []


@dataclass(frozen=True)
class Ending:
    """How a process ended after a signal; ``was_over``: it had ended by itself before; ``was_handled``: our handlers
    were there when the signal was sent; ``after_s``: how long it took, without the time that its main thread waited for
    a CPU; ``orphans``: processes that it had started and that did not end with it."""

    was_over: bool
    was_handled: bool
    after_s: float
    exit_code: int
    stderr: str
    orphans: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Terminal:
    """What a program may take for a terminal, and what it has written there."""

    fd: int
    written: list[bytes] = field(default_factory=list)


@contextlib.contextmanager
def terminal() -> Iterator[Terminal]:
    """One that somebody reads."""
    ours, theirs = pty.openpty()
    there = Terminal(theirs)

    def read_on() -> None:
        with contextlib.suppress(OSError):  # the terminal ends with the last process on it
            while more := os.read(ours, 65536):
                there.written.append(more)

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        yield there
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)


def interrupted(
    command: Sequence[str], number: signal.Signals, delay_s: float, screen: Terminal | None = None
) -> Ending:
    """Run a command and send it a signal so long after its process has become Python."""
    place = subprocess.DEVNULL if screen is None else screen.fd
    said = subprocess.PIPE if screen is None else screen.fd
    with subprocess.Popen(command, stdin=place, stdout=place, stderr=said, text=True) as process:
        time.sleep(delay_s)  # the moment is what is tried
        was_over = process.poll() is not None
        was_handled = is_handling(process.pid)
        started = descendants(process.pid)
        sent, waited_s = time.monotonic(), run_queue_s(process.pid)
        process.send_signal(number)
        stderr = read_to_end(process)
        after_s = time.monotonic() - sent - (run_queue_s(process.pid) - waited_s)
        process.wait()
        orphans = tuple(name for pid, name in started.items() if outlives(pid, name))
        return Ending(was_over, was_handled, after_s, process.returncode, stderr, orphans)


def read_to_end(process: subprocess.Popen[str], timeout_s: float = 20) -> str:
    """What it still says on stderr, once it has ended; it stays a zombie, whose figures can be read."""
    killer = threading.Timer(timeout_s, process.kill)
    killer.start()
    try:
        said = "" if process.stderr is None else process.stderr.read()
        if process.returncode is None:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    finally:
        killer.cancel()
    return said


def is_handling(pid: int) -> bool:
    """Whether the process has a handler of SIGTERM, as the kernel says; Python itself has none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def descendants(pid: int) -> dict[int, str]:
    """What a process has started, and what these have, by pid; ``start_of`` tells each from later processes."""
    found: dict[int, str] = {}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, children.read_text(encoding="ascii").split()):
                found[child] = start_of(child)
                found |= descendants(child)
    return found


def start_of(pid: int) -> str:
    """Command and start of a process; empty if it is gone or a zombie, which holds nothing."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    name, _, rest = text.rpartition(")")
    fields = rest.split()
    return "" if fields[0] in "ZX" else f"{name}) {fields[19]}"


def outlives(pid: int, start: str) -> bool:
    """Whether a process goes on for longer than a command may take to end."""
    deadline = time.monotonic() + MUST_END_WITHIN_S
    while start and start_of(pid) == start:
        if time.monotonic() > deadline:
            return True
        time.sleep(0.005)
    return False


def faults_of(ending: Ending, number: signal.Signals, line: CommandLine) -> list[str]:
    """What is wrong with an ending, empty if nothing is."""
    noise = [text for text in ending.stderr.splitlines() if "Traceback" in text or "ignored" in text or "Error" in text]
    late = [f"ended after {ending.after_s:.2f} s"] if ending.after_s > MUST_END_WITHIN_S else []
    orphans = [f"left behind {', '.join(ending.orphans)}"] if ending.orphans else []
    if not (ending.was_handled or ending.was_over or f'File "{PACKAGE}' in ending.stderr):
        return late + orphans  # only Python's own code ran
    was_at_its_end = ending.was_over or ending.after_s < AT_ITS_END_S
    by_itself = (NORMAL_END, *line.exit_codes) if was_at_its_end else (NORMAL_END,) if line.ends_normally else ()
    is_expected = ending.exit_code in (CODES[number], *by_itself) or (line.may_die and ending.exit_code == -number)
    return [*late, *orphans, *([] if is_expected else [f"exit code {ending.exit_code}"]), *noise]


def try_moments(line: CommandLine, command: Sequence[str], *, after: Callable[[], str] = str) -> None:
    """Signals at random moments; all that ended badly are told together. ``after``: what is wrong after each."""
    seed = int(os.environ.get("KVMSCOPE_SEED", str(time.time_ns() % 10**6)))
    rng = random.Random(seed)
    bad = []
    for n in range(SIGNALS):
        number = (signal.SIGINT, signal.SIGTERM)[n % 2]
        delay_s = rng.uniform(0, line.longest_s)
        with terminal() if line.on_terminal else contextlib.nullcontext() as screen:
            ending = interrupted(command, number, delay_s, screen)
        if screen is not None:
            ending = replace(ending, stderr=b"".join(screen.written).decode(errors="replace"))
        faults = faults_of(ending, number, line) + list(filter(None, [after()]))
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
def simulated() -> Iterator[str]:
    """A simulated host; the id of one of its VMs."""
    from kvmscope.lab import simulate

    with simulate.start(vms=3) as host:
        yield vm_published_by(host.pid)


@pytest.fixture
def own_run() -> Iterator[list[str]]:
    """What is put before a command so that it has a /run of its own, where nothing is attached."""
    keep = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && echo && exec cat"]
    with subprocess.Popen(keep, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"\n", "no mount namespace could be made"
        yield ["nsenter", f"--mount=/proc/{keeper.pid}/ns/mnt"]
        keeper.kill()


def parameters(as_root: bool) -> list[ParameterSet]:
    def marks(line: CommandLine) -> list[pytest.MarkDecorator]:
        live = [pytest.mark.live] if "kvm" in line.needs else []
        return [*live, *([pytest.mark.needs(*line.needs)] if line.needs else [])]

    return [pytest.param(line, id=line.text, marks=marks(line)) for line in COMMAND_LINES if line.as_root == as_root]


@pytest.mark.parametrize("line", parameters(as_root=False))
def test_a_signal_at_any_moment_ends_a_command_with_a_code_of_its_own(
    line: CommandLine, simulated: str, tmp_path: Path
) -> None:
    scratch, examples = str(tmp_path), str(DATA.parents[1] / "examples")
    places = {"scratch": scratch, "data": str(DATA), "examples": examples, "vm": simulated}
    if "kernels" in line.needs and "KVMSCOPE_KERNELS" not in os.environ:
        pytest.skip("KVMSCOPE_KERNELS names no kernel to emulate; make test-kernels takes all")
    command = [*KVMSCOPE, *(word.format(**places) for word in line.words)]
    if line.before:
        subprocess.run([*KVMSCOPE, *line.before.format(**places).split()], check=True, capture_output=True)
    try_moments(line, command)


@pytest.mark.parametrize("line", parameters(as_root=True))
def test_a_signal_leaves_what_can_be_detached(line: CommandLine, own_run: list[str]) -> None:
    kvmscope = [*own_run, *KVMSCOPE]

    def prepare() -> None:
        if line.before:
            subprocess.run([*kvmscope, *line.before.split()], check=True, capture_output=True)

    def what_is_left() -> str:
        detached = subprocess.run([*kvmscope, "detach"], capture_output=True, text=True, check=False)
        mounts = subprocess.run([*own_run, "cat", "/proc/self/mounts"], capture_output=True, text=True, check=True)
        prepare()
        is_clean = detached.returncode == 0 and "/run/kvmscope" not in mounts.stdout
        return "" if is_clean else f"detach: {detached.returncode} {detached.stderr}; {mounts.stdout}"

    prepare()
    try_moments(line, [*kvmscope, *line.words], after=what_is_left)


START_UP_S = 0.1


@pytest.mark.parametrize("command", [KVMSCOPE, [str(Path(sys.executable).with_name("kvmscope"))]], ids=["-m", "script"])
def test_while_it_starts_no_signal_shows_a_traceback_of_ours(command: list[str]) -> None:
    """Start-up alone, densely: the signals that a whole command gets fall into it rarely."""
    if not Path(command[0]).exists():
        pytest.skip(f"{command[0]} is not installed")
    bad = []
    for n in range(8 * SIGNALS):
        number, delay_s = (signal.SIGINT, signal.SIGTERM)[n % 2], START_UP_S * n / (8 * SIGNALS)
        ending = interrupted([*command, "--version"], number, delay_s)
        if faults := faults_of(ending, number, CommandLine("--version")):
            bad.append(f"{number.name} after {delay_s * 1e3:.1f} ms: {faults} {ending.stderr[-900:]}")
    assert not bad, "\n".join(bad)


FEWEST_LINES = 20
AT_A_LINE = """
import runpy, signal, sys
at, number = int(sys.argv[1]), int(sys.argv[2])
lines = 0
def trace(frame, event, argument):
    global lines
    if not frame.f_code.co_filename.endswith("kvmscope/__main__.py"):
        return None
    if event == "line" and frame.f_lineno > FIRST:
        lines += 1
        if lines == at:
            sys.settrace(None)
            signal.raise_signal(number)
    return trace
sys.argv = ["kvmscope", "--version"]
sys.settrace(trace)
runpy.run_module("kvmscope", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("number", CODES)
def test_a_signal_at_each_line_of_the_entry_point_ends_it_quietly(number: signal.Signals) -> None:
    """From the line on which it begins to look after signals; only Python's own code runs before it."""
    first = Path(PACKAGE, "__main__.py").read_text(encoding="utf-8").splitlines().index("try:") + 1
    script = AT_A_LINE.replace("FIRST", str(first))
    quietly = {CODES[number], -signal.SIGTERM if number is signal.SIGTERM else CODES[number]}  # before it is handled
    bad, line = [], 0
    while True:
        line += 1
        command = [sys.executable, "-c", script, str(line), str(int(number))]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        if done.returncode == NORMAL_END:
            break
        if done.returncode not in quietly or done.stderr:
            bad.append((line, done.returncode, done.stderr[-300:]))
    assert line > FEWEST_LINES, "the lines were not traced"
    assert not bad


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


def test_a_signal_outside_of_what_catches_it_ends_quietly_too() -> None:
    done = python("""
import signal
from kvmscope.console import interrupts
interrupts.install()
signal.raise_signal(signal.SIGTERM)
""")
    assert (done.returncode, done.stderr) == (TERMINATED, "")


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


def test_time_in_which_c_code_keeps_pythons_lock_counts_towards_the_limit(tmp_path: Path) -> None:
    """As when a large library is loaded: for so long no thread runs Python, and then the import goes on."""
    keeps_lock_s = 1.5
    (tmp_path / "slow_module.py").write_text(
        f"""
import ctypes, time
libc, lock = ctypes.PyDLL(None), (ctypes.c_char * 64)()
until = (ctypes.c_long * 2)(*divmod(time.time_ns() + {keeps_lock_s * 1e9:.0f}, 10**9))
libc.pthread_mutex_lock(lock)
libc.pthread_mutex_timedlock(lock, until)  # goes back to waiting at each signal
time.sleep(20)
""",
        encoding="ascii",
    )
    done = python(f"""
import os, sys, time
from kvmscope.console import interrupts
interrupts.install()
sys.path.insert(0, {str(tmp_path)!r})
main = os.getpid()
if os.fork() == 0:
    time.sleep(0.1)
    print(time.time(), flush=True)
    os.kill(main, {int(signal.SIGTERM)})
    os._exit(0)
import slow_module
""")
    ended_after_s = time.time() - float(done.stdout)
    assert done.returncode == TERMINATED
    assert keeps_lock_s - 0.2 < ended_after_s < MUST_END_WITHIN_S


def test_c_code_that_may_be_ended_at_once_does_not_keep_the_process() -> None:
    done = python("""
import ctypes, os, signal, time
from kvmscope.console import interrupts
interrupts.install()
main, libc = os.getpid(), ctypes.PyDLL(None)
if os.fork() == 0:
    time.sleep(0.1)
    os.kill(main, signal.SIGINT)
    os._exit(0)
lock = (ctypes.c_char * 64)()
libc.pthread_mutex_lock(lock)
with interrupts.ended_at_once():
    libc.pthread_mutex_lock(lock)
""")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")  # which a shell shows as 130


def test_after_that_a_signal_is_handled_as_before() -> None:
    done = python("""
import signal, sys
from kvmscope.console import interrupts
interrupts.install()
with interrupts.ended_at_once():
    pass
try:
    signal.raise_signal(signal.SIGINT)
except interrupts.Interruption as error:
    sys.exit(error.exit_code)
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
