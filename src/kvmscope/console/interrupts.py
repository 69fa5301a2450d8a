"""Ctrl-C and SIGTERM: they end a command soon, wherever it is, quietly and with a distinct exit code.

Python runs a signal handler between any two steps of the main thread. A handler that raises there is not enough:

- in a callback of C code (libbpf's log), in ``__del__`` and in callbacks of the collector, the exception is printed
  and dropped;
- in an import it leaves a half-made module, and C code that imports may replace or drop it;
- during the creation of a child process it leaves a child that is not tracked;
- a signal just before a blocking system call does not end that call, and a wait that only a fatal signal ends
  (reading /proc of a process that holds its mmap_lock) does not return to Python at all;
- C code that keeps Python's lock, such as the loading of a large library, blocks all other Python threads.

So the handler records the signal and raises ``Interruption`` only where that is safe. A second thread, which C code
wakes through ``set_wakeup_fd``, makes the main thread check again until it has raised, and ends the process if that
takes longer than ``_PATIENCE_S``. The patience counts from the arrival of the signal, for which the kernel leaves a
time stamp on the socket that wakes the thread: on a busy host the thread itself may run a second later. An exception
that was dropped reaches ``sys.unraisablehook``, and is raised again.

Only a process whose main program is kvmscope installs this: a program that imports the package keeps its handlers.
"""

from __future__ import annotations

import _socket  # ``socket`` would load ``enum`` and ``selectors`` at every start
import _thread
import contextlib
import os
import signal
import struct
import sys
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_ENDING = (signal.SIGINT, signal.SIGTERM)
_NUDGE = signal.SIGRTMAX
"""The signal that interrupts a system call of the main thread and makes it check again; only this module sends it."""

_NUDGE_EVERY_S = 0.05
_PATIENCE_S = 1.2
_LEAST_PATIENCE_S = 2 * _NUDGE_EVERY_S
"""Minimum patience after the main thread kept Python's lock for longer than ``_PATIENCE_S``, so it can still check."""

_SO_TIMESTAMP = 29
"""A constant that the module ``socket`` lacks. Source: include/uapi/asm-generic/socket.h (SO_TIMESTAMP_OLD)."""

_TIMEVAL = struct.Struct("@ll")
_IMPORT_FILES = ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
_SHOW_CURSOR = b"\x1b[?25h"


class Interruption(KeyboardInterrupt):
    """SIGINT or SIGTERM arrived. ``exit_code`` is the one that a shell reports: 128 plus the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class Interrupts:
    """The handlers of one process. Everything except ``_watch`` runs in the main thread."""

    def __init__(self) -> None:
        self._main = _thread.get_ident()
        self._pending: int | None = None
        self._raised: Interruption | None = None
        self._is_closed = False
        self._nudged = 0
        self._answered = 0

    @property
    def exit_code(self) -> int | None:
        """The exit code for a signal that was not taken as a normal end; None without such a signal."""
        return None if self._pending is None else 128 + self._pending

    def install(self) -> None:
        """Handle the signals from now on, except those that the parent process set to be ignored."""
        sys.excepthook = self._on_uncaught
        sys.unraisablehook = self._on_unraisable
        signal.signal(_NUDGE, self._on_nudge)
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        with contextlib.suppress(OSError):  # without a free fd, only the handlers work
            self._woken, self._wake = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_DGRAM)
            self._woken.setsockopt(_socket.SOL_SOCKET, _SO_TIMESTAMP, 1)
            self._wake.setblocking(False)
            signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
            _thread.start_new_thread(self._watch, (self._woken,))

    def take(self) -> None:
        """Treat the signal as the normal end of a step. The process continues, and the next signal counts again."""
        self._pending = self._raised = None

    @contextlib.contextmanager
    def default_action(self) -> Iterator[None]:
        """See the function ``ended_at_once``."""
        is_main = _thread.get_ident() == self._main  # other threads may not set handlers
        handled = [number for number in _ENDING if is_main and signal.getsignal(number) == self._on_signal]
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
        try:
            yield
        finally:
            for number in handled:
                signal.signal(number, self._on_signal)

    def close(self) -> None:
        """Raise nothing from now on: the process is about to exit, and if it does not, ``_watch`` ends it."""
        self._is_closed = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._pending is None and not self._is_closed:
            self._pending = number
        self._raise_if_due(frame)

    def _on_nudge(self, _number: int, frame: FrameType | None) -> None:
        self._answered = self._nudged
        self._raise_if_due(frame)

    def _raise_if_due(self, frame: FrameType | None) -> None:
        if self._pending is None or self._raised is not None or self._is_closed or _must_go_on(frame):
            return
        self._raised = Interruption(self._pending)
        raise self._raised

    def _on_uncaught(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Handle an ``Interruption`` raised where nothing catches it: before the main program's block, or after it."""
        if isinstance(error, Interruption):
            os._exit(error.exit_code)
        sys.__excepthook__(kind, error, trace)

    def _on_unraisable(self, dropped: UnraisableHookArgs) -> None:
        if self._raised is not None and dropped.exc_value is self._raised:
            self._raised = None  # the next nudge raises it again
        else:
            sys.__unraisablehook__(dropped)

    def _watch(self, woken: _socket.socket) -> None:
        """The second thread: follows each signal until it has taken effect."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        while True:
            number, sent_s = _receive(woken)
            if number in _ENDING:
                waited_s = max(0.0, time.time() - sent_s)
                self._see_through(number, max(_LEAST_PATIENCE_S, _PATIENCE_S - waited_s))

    def _see_through(self, number: int, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            self._nudged += 1
            signal.pthread_kill(self._main, _NUDGE)
            time.sleep(_NUDGE_EVERY_S)
            if self._answered == self._nudged and self._pending is None and not self._is_closed:
                return
        _end_process(128 + number)


def _receive(woken: _socket.socket) -> tuple[int, float]:
    """The next signal, and the Unix time of its arrival."""
    number, notes, _, _ = woken.recvmsg(1, _socket.CMSG_SPACE(_TIMEVAL.size))
    if not notes:
        return number[0], time.time()
    seconds, microseconds = _TIMEVAL.unpack(notes[0][2])
    return number[0], seconds + microseconds / 1e6


def _must_go_on(frame: FrameType | None) -> bool:
    """Whether the main thread is in code where an exception would be lost or leave damage: an import, a fork."""
    popen = getattr(sys.modules.get("subprocess"), "Popen", None)
    fork = getattr(getattr(popen, "__init__", None), "__code__", None)
    while frame is not None:
        code = frame.f_code
        if code.co_filename in _IMPORT_FILES or code is fork:
            return True
        frame = frame.f_back
    return False


def _end_process(exit_code: int) -> None:
    """End the process now, whatever its main thread waits for. Children of the lab end with their parent."""
    if os.isatty(1):
        # In a thread, as a write blocks on a stopped terminal (Ctrl-S).
        _thread.start_new_thread(os.write, (1, _SHOW_CURSOR))
        time.sleep(_NUDGE_EVERY_S)
    os._exit(exit_code)


_installed: Interrupts | None = None


def install() -> Interrupts:
    """Handle Ctrl-C and SIGTERM in this process, whose main program is kvmscope."""
    global _installed  # noqa: PLW0603 - a process has one set of signal handlers
    _installed = Interrupts()
    _installed.install()
    return _installed


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """In the block, a signal ends the process by its default action, which a shell reports by the same exit codes. For
    C code that keeps Python's lock for longer than a user waits, when no cleanup is needed."""
    with contextlib.nullcontext() if _installed is None else _installed.default_action():
        yield


@contextlib.contextmanager
def until_ended() -> Iterator[None]:
    """For a block that runs without end: Ctrl-C, SIGTERM and the exit of the reader are its normal end."""
    from .streams import ReaderGone, ending_with_reader

    if _installed is None and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the command runs without kvmscope's main program
    try:
        with ending_with_reader():
            yield
    except (KeyboardInterrupt, ReaderGone):
        if _installed is not None:
            _installed.take()


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """For one step of a long run: Ctrl-C is the step's normal end. SIGTERM ends the command as everywhere else."""
    try:
        yield
    except KeyboardInterrupt as error:
        if isinstance(error, Interruption) and error.exit_code != 128 + signal.SIGINT:
            raise
        if _installed is not None:
            _installed.take()
