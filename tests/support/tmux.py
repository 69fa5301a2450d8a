"""A command in a real terminal: tmux draws what it writes, and types for it."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE_S = 60.0
_numbers = itertools.count()


class TmuxTerminal:
    """``kvmscope ARGUMENTS`` in a terminal, whose shell says how it ended."""

    def __init__(self, folder: Path, *arguments: str, environment: str = "", width: int = 80, height: int = 24) -> None:
        """``folder``: of the settings. ``environment``: further variables, as a shell takes them."""
        self._name = f"kvmscope-{os.getpid()}-{next(_numbers)}"
        words = " ".join(map(shlex.quote, arguments))
        command = f"XDG_CONFIG_HOME={shlex.quote(str(folder))} {environment} {sys.executable} -m kvmscope {words}"
        size = ("-x", str(width), "-y", str(height))
        self._tmux("new-session", "-d", "-s", "top", *size, f"{command}; echo ended: $?; sleep 600")

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._name, "-f", "/dev/null", *arguments]
        # The size is that of the terminal, not of the one that the tests run in.
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    def keys(self, *keys: str) -> None:
        self._tmux("send-keys", "-t", "top", *keys)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-t", "top", "-x", str(width), "-y", str(height))

    def text(self) -> str:
        return self._tmux("capture-pane", "-p", "-t", "top")

    def wait_for(self, is_there: Callable[[str], bool]) -> str:
        """The screen, once it is as wanted."""
        deadline = time.monotonic() + DEADLINE_S
        while not is_there(text := self.text()):
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        return text

    def close(self) -> None:
        self._tmux("kill-server")


@contextmanager
def terminal(
    folder: Path, *arguments: str, environment: str = "", width: int = 80, height: int = 24
) -> Iterator[TmuxTerminal]:
    """The same, closed at the end."""
    opened = TmuxTerminal(folder, *arguments, environment=environment, width=width, height=height)
    try:
        yield opened
    finally:
        opened.close()
