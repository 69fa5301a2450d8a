"""What is measured comes before what else runs on this machine, as far as root may say so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_AUTOGROUP: Final = Path("/proc/self/autogroup")
_HIGHEST: Final = -20


@contextmanager
def precedence() -> Iterator[None]:
    """What else runs here preempts as little as may be: processes of this session, and with autogroups other sessions.

    The priority of a session stays when this ends, unless it is given back.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _HIGHEST)
    try:
        nice = _AUTOGROUP.read_text(encoding="ascii").split()[-1]
        _AUTOGROUP.write_text(str(_HIGHEST), encoding="ascii")
    except OSError:  # a kernel without autogroups, or not root
        yield
        return
    try:
        yield
    finally:
        _AUTOGROUP.write_text(nice, encoding="ascii")


def give_new_session_precedence() -> None:
    """The same of a session that this process has just begun: it does not have that of its parent's."""
    with suppress(OSError):
        _AUTOGROUP.write_text(str(_HIGHEST), encoding="ascii")
