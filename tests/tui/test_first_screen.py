"""The first view on a real terminal, from before Textual is loaded until Textual goes on with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from pathlib import Path

import pytest
from crafted import MACHINE, identities, make_sample
from rich.style import Style as TerminalStyle

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")

from kvmscope.scene import Scene
from kvmscope.store.writer import RecordingWriter
from kvmscope.tui.canvas import STYLES
from kvmscope.tui.first_screen import styled
from kvmscope.view.text import Span, Style, cells

from .scenario import guests

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
WIDTH, HEIGHT = 100, 30
CTRL_C = b"\x03"
PATIENT = """
from kvmscope.tui import run
from kvmscope.__main__ import main
run.FIRST_WAIT_S = 60.0
main()
"""
"""The first view is waited for as long as a busy machine takes."""

FIRST_BY_TEXTUAL = b"\x1b[?1004h"
"""Textual has its terminal report focus; the first screen does not."""


class PtyCommand:
    """``kvmscope top --from`` a recording of some seconds, on a pseudo-terminal."""

    def __init__(self, folder: Path) -> None:
        writer = RecordingWriter(folder / "recording")
        for second in range(4):
            vms = list(guests(second))
            writer.append(Scene(make_sample(vms, at_s=second), identities(vms), MACHINE, {}))
        writer.close()
        may_begin, begin = os.pipe()
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.read(may_begin, 1)  # its terminal has a size
            # As a whole: readline sets LINES and COLUMNS behind os.environ, and a worker of the tests has them in it.
            environment = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
            environment |= {"TERM": "xterm-256color", "XDG_CONFIG_HOME": str(folder)}
            command = [sys.executable, "-c", PATIENT, "top", "--from", str(folder / "recording")]
            os.execve(sys.executable, command, environment)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        self._attributes = termios.tcgetattr(self._fd)
        os.write(begin, b"!")
        os.close(begin)
        os.close(may_begin)
        self.written = b""

    def read_until(self, data: bytes) -> bytes:
        """All that was written until this is part of it."""
        while data not in self.written:
            more = os.read(self._fd, 1 << 16)
            self.written += more
        return self.written

    def write(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def terminate(self) -> None:
        os.kill(self._pid, signal.SIGTERM)

    def end(self) -> int:
        """Wait for its end, and give its exit code."""
        with contextlib.suppress(OSError):  # the last process on the terminal has ended
            while more := os.read(self._fd, 1 << 16):
                self.written += more
        _, status = os.waitpid(self._pid, 0)
        assert termios.tcgetattr(self._fd) == self._attributes
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def command(tmp_path: Path) -> PtyCommand:
    return PtyCommand(tmp_path)


def screen_of(written: bytes) -> list[str]:
    """The text of the first screen, line by line."""
    _, *lines = re.split(r"\x1b\[\d+;1H", written.partition(FIRST_BY_TEXTUAL)[0].decode())
    return [re.sub(r"\x1b\[[?>0-9;]*[A-Za-z]", "", line) for line in lines]


def test_the_first_view_is_there_before_textual_in_its_final_layout(command: PtyCommand) -> None:
    command.read_until(FIRST_BY_TEXTUAL)
    lines = screen_of(command.written)
    assert len(lines) == HEIGHT
    assert {cells(line) for line in lines} == {WIDTH}
    assert any("old-nic" in line and "mmio-storm" in line for line in lines)
    command.write(b"q")
    assert command.end() == 0


def test_textual_goes_on_upon_it_and_leaves_the_terminal_as_it_was(command: PtyCommand) -> None:
    command.read_until(FIRST_BY_TEXTUAL)
    command.write(b"q")
    assert command.end() == 0
    assert command.written.count(ENTER) == 1, "entering it again would clear it"
    assert command.written.count(LEAVE) == 1


@pytest.mark.parametrize(
    ("begun", "typed"),
    [
        pytest.param(ENTER, b"/web\r", id="keys before Textual is there"),
        pytest.param(FIRST_BY_TEXTUAL, b"\xe9/w\xff\xfee\xc3b\r", id="keys among bytes that are not UTF-8"),
    ],
)
def test_keys_are_kept_as_they_are(command: PtyCommand, begun: bytes, typed: bytes) -> None:
    command.read_until(begun)
    command.write(typed)
    command.read_until(b"(1 of 6 VMs)")
    command.write(b"q")
    assert command.end() == 0


def test_ctrl_c_before_textual_is_there_leaves_as_it_does_later(command: PtyCommand) -> None:
    command.read_until(ENTER)
    command.write(CTRL_C)
    assert command.end() == 0
    assert command.written.count(LEAVE) == 1
    assert command.written.rindex(LEAVE) > command.written.rindex(ENTER)


def test_a_signal_before_textual_is_there_leaves_the_terminal_as_it_was(command: PtyCommand) -> None:
    command.read_until(ENTER)
    command.terminate()
    assert command.end() == 128 + signal.SIGTERM
    assert command.written.count(LEAVE) == 1


@pytest.mark.parametrize("style", Style)
def test_each_style_looks_as_textual_shows_it(style: Style) -> None:
    expected = STYLES[style].render("text", legacy_windows=False)
    assert styled(Span("text", style), has_colours=True) == (expected if STYLES[style] else "text")
    bare = TerminalStyle(bold=STYLES[style].bold, dim=STYLES[style].dim, reverse=STYLES[style].reverse)
    assert styled(Span("text", style), has_colours=False) == (bare.render("text") if bare else "text")
