"""Memory locking and priority of this process, for reads on time on a host without idle CPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import PermissionNeeded
from . import libc

_REALTIME_PRIORITY = 1
_NICE = -20


def favour_process() -> None:
    """Lock the memory, and raise the priority of every thread started later. Raises PermissionNeeded.

    Python runs one thread at a time: while another thread that holds its lock is preempted, the sampling thread cannot
    run either, whatever its own priority is.
    """
    with _permission_errors():
        libc.lock_memory()
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def run_in_real_time(tid: int) -> None:
    """Give a thread of this process real-time priority. A thread that has ended is ignored. Raises PermissionNeeded."""
    with _permission_errors(), suppress(ProcessLookupError):
        os.sched_setscheduler(tid, os.SCHED_RR, os.sched_param(_REALTIME_PRIORITY))


@contextmanager
def _permission_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PermissionNeeded(
            f"memory cannot be locked or priority raised: {error.strerror}",
            remedy="run it as root, or with CAP_IPC_LOCK and CAP_SYS_NICE",
            errno=error.errno,
        ) from None
