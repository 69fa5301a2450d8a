"""``kvmscope top`` in a real terminal: tmux draws what it writes, and types for it."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "tmux")]

DEADLINE_S = 60.0
_numbers = itertools.count()


class TmuxTerminal:
    """``kvmscope top`` in a terminal of 80 × 24, whose shell says how it ended."""

    def __init__(self, folder: Path, *, environment: str = "") -> None:
        self._name = f"kvmscope-{os.getpid()}-{next(_numbers)}"
        command = f"XDG_CONFIG_HOME={shlex.quote(str(folder))} {environment} {sys.executable} -m kvmscope top"
        self._tmux("new-session", "-d", "-s", "top", "-x", "80", "-y", "24", f"{command}; echo ended: $?; sleep 600")

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._name, "-f", "/dev/null", *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout

    def keys(self, *keys: str) -> None:
        self._tmux("send-keys", "-t", "top", *keys)

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


@pytest.fixture
def guests() -> Iterator[None]:
    with process.start(LabSpec(workload="halt", name="tmuxed", vms=2, vcpus=2)) as running:
        running.go()
        yield


@pytest.mark.usefixtures("guests")
def test_it_shows_the_vms_opens_one_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    terminal = TmuxTerminal(tmp_path)
    try:
        text = terminal.wait_for(lambda text: "tmuxed-0" in text and "tmuxed-1" in text)
        assert len(text.splitlines()) == 24
        terminal.keys("/", "tmuxed-1", "Enter", "Down", "Enter")
        terminal.wait_for(lambda text: "kvmscope top · tmuxed-1" in text.splitlines()[0])
        terminal.keys("Enter")
        terminal.wait_for(lambda text: "statistics of tmuxed-1" in text)
        terminal.keys("q", "q", "q")
        assert "kvmscope top" not in terminal.wait_for(lambda text: "ended: 0" in text)
    finally:
        terminal.close()


@pytest.mark.usefixtures("guests")
def test_in_an_ascii_locale_it_writes_nothing_else(tmp_path: Path) -> None:
    terminal = TmuxTerminal(tmp_path, environment="LC_ALL=C")
    try:
        assert terminal.wait_for(lambda text: "tmuxed-0" in text).isascii()
        terminal.keys("C-c")
        terminal.wait_for(lambda text: "ended: 0" in text)
    finally:
        terminal.close()
