"""The host's halt polling limit, kvm.halt_poll_ns: reads it, or holds it in one process that restores it.

Since Linux 6.1 a VM whose VMM has not set its own limit obeys the parameter at each halt; before, it took a copy when
it was created. The field ``override_halt_poll_ns`` of ``struct kvm`` shows which of the two applies.
Source: virt/kvm/kvm_main.c (module_param halt_poll_ns, kvm_vcpu_max_halt_poll_ns).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..errors import PermissionNeeded, SourceError, Unavailable
from . import parameter_guard

PARAMETER: Final = "/sys/module/kvm/parameters/halt_poll_ns"
STATE: Final = "/run/kvmscope-govern-polling"
LONGEST_NS: Final = 10_000_000
"""An upper bound; the parameter is 32 bits wide, but polling for more than 10 ms makes no sense."""

_GUARD_ENDS_S: Final = 5.0


class HeldHaltPoll:
    """The parameter, held by this process alone. ``began_ns``: its previous value. Made by ``hold_halt_poll``."""

    def __init__(self, parameter: str, state_fd: int, guard: subprocess.Popen[bytes]) -> None:
        self._parameter = parameter
        self._state_fd = state_fd
        self._guard = guard
        self.began_ns = read_halt_poll_ns(parameter)
        self._ours_ns = self.began_ns

    @property
    def guard_pid(self) -> int:
        return self._guard.pid

    def check(self) -> int:
        """The value, as this process set it. Raises Unavailable if another process changed it, or the guard ended."""
        now_ns = read_halt_poll_ns(self._parameter)
        if now_ns != self._ours_ns:
            parameter_guard.clear_state(self._state_fd)
            raise Unavailable(
                f"halt_poll_ns was {self._ours_ns}, and another program set it to {now_ns}; that value stays",
                remedy="let only one program set it: kvmscope, or tuned, a script or another tool",
                path=self._parameter,
            )
        if self._guard.poll() is not None:
            raise Unavailable("the guard process has ended, so nothing would restore halt_poll_ns after a kill")
        return now_ns

    def set(self, limit_ns: int) -> None:
        """Write another value. Raises SourceError as ``check``, or if the kernel refuses it."""
        self.check()
        parameter_guard.write_state(self._state_fd, self.began_ns, [self._ours_ns, limit_ns])
        _write(self._parameter, limit_ns)
        self._ours_ns = limit_ns
        parameter_guard.write_state(self._state_fd, self.began_ns, [limit_ns])

    def restore(self) -> None:
        """Restore the previous value, unless another process has changed it. Raises SourceError."""
        with _explained(self._parameter):
            parameter_guard.restore(self._parameter, self._state_fd)
        self._ours_ns = read_halt_poll_ns(self._parameter)


@contextlib.contextmanager
def hold_halt_poll(*, parameter: str = PARAMETER, state: str = STATE) -> Iterator[HeldHaltPoll]:
    """Hold the parameter; when the block or the process ends, the previous value is restored.

    Raises Unavailable if another governor holds it or there is none, PermissionNeeded if it cannot be written.
    """
    state_fd = _lock(state)
    try:
        with _explained(parameter):
            parameter_guard.restore(parameter, state_fd)  # left by a governor that was killed together with its guard
            os.close(os.open(parameter, os.O_WRONLY | os.O_CLOEXEC))
        with _guarded(parameter, state_fd) as guard:
            held = HeldHaltPoll(parameter, state_fd, guard)
            try:
                yield held
            finally:
                held.restore()
    finally:
        os.close(state_fd)


def read_halt_poll_ns(parameter: str = PARAMETER) -> int:
    """The value. Raises SourceError."""
    with _explained(parameter):
        text = Path(parameter).read_text(encoding="ascii").strip()
    if not text.isdecimal():
        raise Unavailable(f"{parameter} has no number: {text[:40]!r}", path=parameter)
    return int(text)


def _write(parameter: str, limit_ns: int) -> None:
    with _explained(parameter):
        Path(parameter).write_text(f"{limit_ns}\n", encoding="ascii")


@contextlib.contextmanager
def _guarded(parameter: str, state_fd: int) -> Iterator[subprocess.Popen[bytes]]:
    """The guard process; it has ended after the block."""
    command = [sys.executable, "-I", parameter_guard.__file__, parameter, str(state_fd)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(state_fd,), start_new_session=True, cwd="/"
    ) as guard:
        assert guard.stdin is not None and guard.stdout is not None
        try:
            if guard.stdout.readline() != parameter_guard.READY:
                raise Unavailable("the guard process, which restores halt_poll_ns after a kill, did not start")
            yield guard
        finally:
            guard.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                guard.wait(_GUARD_ENDS_S)
            guard.kill()


def _lock(state: str) -> int:
    """The state file, locked. Raises Unavailable if another process has locked it."""
    with _explained(state):
        fd = os.open(state, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Unavailable(
            "another governor holds halt_poll_ns", remedy="end it first: only one can adapt it", path=state
        ) from None
    return fd


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn an OSError into the matching SourceError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise _no_permission(path, error.errno) from error
        raise _unavailable(path, error) from error


def _no_permission(path: str, code: int) -> PermissionNeeded:
    if os.geteuid() == 0:
        reason = f"{path} may not be changed here, not even by root: this host or container has it read-only"
        return PermissionNeeded(
            reason, remedy="run it on the host itself, if its owner allows that", path=path, errno=code
        )
    return PermissionNeeded(f"{path} may not be changed by this user", remedy="run as root", path=path, errno=code)


def _unavailable(path: str, error: OSError) -> SourceError:
    return Unavailable(f"{path}: {error.strerror}", remedy="load KVM", path=path, errno=error.errno)
