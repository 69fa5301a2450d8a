"""``kvmscope replay``: what keys do, what is shown on a terminal, and every interval where there is none."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")

from kvmscope.errors import UsageError
from kvmscope.store.cursor import ReplayCursor
from kvmscope.store.replay import SceneMoment

SECOND = 10**9


def refuse(text: str) -> int:
    raise UsageError(f"{text} is not a time")


@pytest.fixture
def cursor() -> ReplayCursor:
    """At the tenth of forty scenes, half a second apart; steps are seconds."""
    moments = [SceneMoment(n * SECOND // 2, n * SECOND // 2, "boot", "bpf", False) for n in range(40)]
    return ReplayCursor(moments, 1.0, lambda text: int(text) * SECOND if text.isdecimal() else refuse(text), place=10)


def pressed(cursor: ReplayCursor, *keys: str) -> int:
    for key in keys:
        cursor.press(key)
    return cursor.place


def test_arrows_step_by_intervals_and_stop_at_the_ends(cursor: ReplayCursor) -> None:
    assert pressed(cursor, "right") == 12
    assert not cursor.is_playing
    assert pressed(cursor, "left", "left") == 8
    assert pressed(cursor, "up") == 28
    assert pressed(cursor, "up", "up") == 39
    assert pressed(cursor, "home") == 0
    assert pressed(cursor, "left") == 0


def test_a_time_is_typed_and_gone_to_or_refused(cursor: ReplayCursor) -> None:
    assert pressed(cursor, "g", "1", "6", "backspace", "5", "enter") == 30
    assert pressed(cursor, "g", "x", "enter") == 30
    assert cursor.note == "x is not a time"
    assert pressed(cursor, "g", "q", "escape") == 30
    assert not cursor.has_ended


def test_speed_and_play(cursor: ReplayCursor) -> None:
    pressed(cursor, "+", "+")
    assert cursor.wait_s == 0.25
    pressed(cursor, *("-" * 20))
    assert cursor.wait_s == 8.0
    pressed(cursor, " ", " ")
    assert cursor.is_playing
    pressed(cursor, "end", " ")
    cursor.play()
    assert not cursor.is_playing
    pressed(cursor, "q")
    assert cursor.has_ended


def test_what_is_judged_before_a_place_is_of_its_boot(cursor: ReplayCursor) -> None:
    assert cursor.before(3) == [4, 6, 8, 10]
    boots = [
        *cursor.moments[:7],
        *(SceneMoment(m.taken_ns, m.boottime_ns, "next", "bpf", False) for m in cursor.moments[7:]),
    ]
    assert ReplayCursor(boots, 1.0, refuse, place=10).before(3) == [8, 10]


@pytest.fixture
def recording(kvmscope: Any, grown: Any, tmp_path: Path) -> Path:
    samples = grown(*([{"exits": 300, "halt_exits": 10}] * 12))
    place = tmp_path / "recording"
    kvmscope.run("record", str(place), "--interval", "20ms", "--for", "240ms", "--no-episodes", on=samples)
    return place


def test_without_a_terminal_every_interval_is_written(kvmscope: Any, recording: Path) -> None:
    walked = kvmscope.run("replay", str(recording)).stdout
    assert walked.count("old-nic") >= 5
    watched = kvmscope.run("status", "--watch", "--from", str(recording)).stdout
    assert walked == watched


def test_on_a_terminal_keys_move_it_and_q_ends_it(recording: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "kvmscope", "replay", str(recording), "--at", "-5s"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            shown = read_until(ours, "old-nic")
            os.write(ours, b"\x1b[H")
            shown = read_until(ours, "first scene of its boot")
            os.write(ours, b"q")
            assert process.wait(60) == 0, shown
        finally:
            process.kill()
    os.close(ours)


@pytest.mark.parametrize("command", ["replay {}", "status --watch --from {}"])
def test_a_terminal_whose_cursor_stays_gets_every_interval(kvmscope: Any, recording: Path, command: str) -> None:
    expected = kvmscope.run("replay", str(recording)).stdout.count("old-nic")
    shown = on_dumb_terminal(*command.format(recording).split())
    assert shown.count("old-nic") == expected >= 5
    assert "\x1b" not in shown


def test_top_refuses_a_terminal_whose_cursor_stays() -> None:
    assert "not TERM=dumb; for other outputs there is" in " ".join(on_dumb_terminal("top").split())


def on_dumb_terminal(*arguments: str) -> str:
    """What a command writes to it, until it ends."""
    ours, theirs = pty.openpty()
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-m", "kvmscope", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb"},
    ):
        os.close(theirs)
        with contextlib.suppress(OSError):  # of the end of the last process on it
            while more := os.read(ours, 65536):
                shown += more
    os.close(ours)
    return shown.decode()


def read_until(fd: int, text: str) -> str:
    shown = ""
    while text not in shown:
        shown += os.read(fd, 4096).decode("utf-8", "replace")
    return shown


def test_a_place_of_something_else_is_refused(kvmscope: Any, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    assert kvmscope.run("replay", str(tmp_path)).exit_code == 4
    assert kvmscope.run("replay", str(tmp_path / "none")).exit_code == 4
