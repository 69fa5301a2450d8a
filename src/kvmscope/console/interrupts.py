"""Ctrl-C and SIGTERM: they end a command soon, wherever it is, quietly and with an exit code of their own.

Python runs a signal handler between any two steps of the main thread. A handler that raises there is not enough:

- in a callback of C code (libbpf's log), in ``__del__`` and in callbacks of the collector, the exception is printed
  and forgotten;
- in an import it leaves a half-made module, and C code that imports may replace or drop it;
- in the making of a child process it leaves a child that nobody knows;
- a signal just before a blocking system call does not end that call, and a wait that only a fatal signal ends
  (reading /proc of a process that holds its mmap_lock) does not return to Python at all.

So the handler notes the signal and raises ``Interruption`` only where that is safe. A thread beside it, which C code
wakes through ``set_wakeup_fd``, has the main thread look again until it has raised, and ends the process if that takes
longer than ``_PATIENCE_S``. An exception that was dropped comes to ``sys.unraisablehook``, and is raised once more.

Only a process whose main program is kvmscope installs this: who imports the package keeps its own handlers.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_ENDING = (signal.SIGINT, signal.SIGTERM)
_NUDGE = signal.SIGRTMAX
"""Ends a system call of the main thread and has it look again; nobody else sends it."""

_NUDGE_EVERY_S = 0.05
_PATIENCE_S = 1.2
_IMPORT_FILES = ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
_SHOW_CURSOR = b"\x1b[?25h"


class Interruption(KeyboardInterrupt):
    """SIGINT or SIGTERM came. ``exit_code`` is as a shell gives it: 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class Interrupts:
    """The handlers of one process. All but ``_watch`` runs in the main thread."""

    def __init__(self) -> None:
        self._main = _thread.get_ident()
        self._pending: int | None = None
        self._raised: Interruption | None = None
        self._is_closed = False
        self._nudged = 0
        self._answered = 0

    @property
    def exit_code(self) -> int | None:
        """What this process must end with for a signal that nothing has taken as a normal end; None if none came."""
        return None if self._pending is None else 128 + self._pending

    def install(self) -> None:
        """Handle the signals from now on, but for those that whoever started this process has it ignore."""
        sys.excepthook = self._on_uncaught
        sys.unraisablehook = self._on_unraisable
        signal.signal(_NUDGE, self._on_nudge)
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        with contextlib.suppress(OSError):  # without a free fd the handlers alone must do
            woken, wake = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(wake, False)
            signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
            _thread.start_new_thread(self._watch, (woken,))

    def take(self) -> None:
        """The signal was a normal end of what was going on; the process goes on, and another one counts again."""
        self._pending = self._raised = None

    def close(self) -> None:
        """From now on nothing is raised: the process is at its end, or else ``_watch`` ends it."""
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
        """A signal may come where nothing catches what it raises: before the main program's block, or after it."""
        if isinstance(error, Interruption):
            os._exit(error.exit_code)
        sys.__excepthook__(kind, error, trace)

    def _on_unraisable(self, dropped: UnraisableHookArgs) -> None:
        if self._raised is not None and dropped.exc_value is self._raised:
            self._raised = None  # the next nudge raises it again
        else:
            sys.__unraisablehook__(dropped)

    def _watch(self, woken: int) -> None:
        """The other thread: sees each signal that came through to its end."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        while True:
            for number in os.read(woken, 64):
                if number in _ENDING:
                    self._see_through(number)

    def _see_through(self, number: int) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            self._nudged += 1
            signal.pthread_kill(self._main, _NUDGE)
            time.sleep(_NUDGE_EVERY_S)
            if self._answered == self._nudged and self._pending is None and not self._is_closed:
                return
        _end_process(128 + number)


def _must_go_on(frame: FrameType | None) -> bool:
    """Whether the main thread is where an exception would be lost or leave something behind: an import, a fork."""
    popen = getattr(sys.modules.get("subprocess"), "Popen", None)
    fork = getattr(getattr(popen, "__init__", None), "__code__", None)
    while frame is not None:
        code = frame.f_code
        if code.co_filename in _IMPORT_FILES or code is fork:
            return True
        frame = frame.f_back
    return False


def _end_process(exit_code: int) -> None:
    """End it now, whatever its main thread is waiting for. Children of the lab end with their parent."""
    if os.isatty(1):
        # In a thread: a terminal that is stopped (Ctrl-S) takes nothing.
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
def until_ended() -> Iterator[None]:
    """For what goes on until it is ended: Ctrl-C, SIGTERM and a reader that has gone are the block's normal end."""
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
    """For one step of what goes on: Ctrl-C is the step's normal end. SIGTERM ends the command as everywhere else."""
    try:
        yield
    except KeyboardInterrupt as error:
        if isinstance(error, Interruption) and error.exit_code != 128 + signal.SIGINT:
            raise
        if _installed is not None:
            _installed.take()
