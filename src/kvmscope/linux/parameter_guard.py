"""The guard of a module parameter: a process that puts the value back when its writer is gone.

``halt_poll`` starts it, by the path of this file: it must import nothing but the standard library. It waits for the end
of its stdin, which nobody writes to and which the kernel closes however the other process ends, kill -9 included. It
ignores the signals that a terminal or a service manager sends to a whole group.

The state is a file that both have open, and locked: the lock lasts until the guard is done, too. It says which value
was there before (``began``) and which ones are ours (``ours``); empty, there is nothing to put back.
Rule: a value that is not ours stays, as somebody else wrote it.
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
    """Say what is to be put back from now on."""
    text = json.dumps({"began": began, "ours": ours}).encode()
    os.pwrite(state_fd, text.ljust(os.fstat(state_fd).st_size), 0)
    os.ftruncate(state_fd, len(text))


def clear_state(state_fd: int) -> None:
    """Nothing is to be put back."""
    os.ftruncate(state_fd, 0)


def restore(parameter: str, state_fd: int) -> int | None:
    """Put back what was there before, if the value is still ours; gives it. None if there is nothing to put back.

    A state that cannot be understood counts as empty. Raises OSError if the parameter cannot be read or written.
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
    """Wait for the other process to end, and put back what it left."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # without the privilege it is as likely to be ended as others
        Path("/proc/self/oom_score_adj").write_text("-1000", encoding="ascii")
    os.write(sys.stdout.fileno(), READY)
    while os.read(sys.stdin.fileno(), 64):
        pass
    restore(parameter, int(state_fd))


if __name__ == "__main__":
    main(*sys.argv[1:])
