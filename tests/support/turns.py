"""Modules with tests marked ``live`` or ``whole_host`` take turns with those of other test runs on this machine.

Two runs on one host would find each other's VMs, attachments and published stats.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TURN = Path(tempfile.gettempdir()) / "kvmscope-tests.lock"
LONGEST_WAIT_S = 60


@pytest.fixture(scope="module", autouse=True)
def turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Held by one run at a time; whoever has waited for longer than most modules take goes on without it."""
    if not any(is_of_whole_host(item) for item in request.session.items if item.path == request.path):
        yield
        return
    if not TURN.exists():
        TURN.touch()
    fd = os.open(TURN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + LONGEST_WAIT_S
        while not is_locked(fd) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield
    finally:
        os.close(fd)


def is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_of_whole_host(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) is not None for name in ("live", "whole_host"))
