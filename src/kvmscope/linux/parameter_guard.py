"""The guard of a module parameter: a process that restores the value when its writer has ended.

``halt_poll`` starts it, by the path of this file: it must import only the standard library. It waits for EOF on its
stdin, to which nothing is written and which the kernel closes however the other process ends, even by kill -9. It
ignores the signals that a terminal or a service manager sends to a whole process group.

The state is a file that both processes have open and locked: the lock lasts until the guard has ended, too. It contains
the previous value (``began``) and the values written by the governor (``ours``); if it is empty, there is nothing to
restore. Rule: a value that is not in ``ours`` stays, as another process wrote it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE)
_STATE_LIMIT = 4096
READY = b"ready\n"


def write_state(state_fd: int, began: int, ours: list[int]) -> None:
    """Write the state: the value to restore from now on."""
    text = json.dumps({"began": began, "ours": ours}).encode()
    os.pwrite(state_fd, text.ljust(os.fstat(state_fd).st_size), 0)
    os.ftruncate(state_fd, len(text))


def clear_state(state_fd: int) -> None:
    """Empty the state: there is nothing to restore."""
    os.ftruncate(state_fd, 0)


def restore(parameter: str, state_fd: int) -> int | None:
    """Restore the previous value, if the present one is still ours; returns it. None if there is nothing to restore.

    A state that cannot be parsed counts as empty. Raises OSError if the parameter cannot be read or written.
    """
    try:
        state = json.loads(os.pread(state_fd, _STATE_LIMIT, 0) or b"{}")
        began, ours = int(state["began"]), list(map(int, state["ours"]))
    except (ValueError, KeyError, TypeError):
        clear_state(state_fd)
        return None
    is_ours = int(Path(parameter).read_text(encoding="ascii")) in ours
    if is_ours:
        Path(parameter).write_text(f"{began}\n", encoding="ascii")
    clear_state(state_fd)
    return began if is_ours else None


def main(parameter: str, state_fd: str) -> None:
    """Wait for the other process to end, then restore the value."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # without the privilege it is as likely to be killed as other processes
        Path("/proc/self/oom_score_adj").write_text("-1000", encoding="ascii")
    os.write(sys.stdout.fileno(), READY)
    while os.read(sys.stdin.fileno(), 64):
        pass
    restore(parameter, int(state_fd))


if __name__ == "__main__":
    main(*sys.argv[1:])
