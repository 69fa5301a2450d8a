"""`kvmscope top`: its start, a frame, one second of it, and what it writes to the terminal.

A frame is all that the process does with a view that is ready: order, lines, comparison, and Textual's writing to a
terminal of 120 × 40 that keeps nothing. A second is a frame and what the thread beside it does with a sample: window,
findings, verdicts, events and the metrics that are shown; reading a host comes on top (see above). The VMs are
invented, with four vCPUs each, and one in eight is in trouble. A key in the filter is all that the process does with
it, up to the screen that it leaves. All three are CPU time of the process.

Start and bytes are of the command itself on a pseudo-terminal of 80 × 24, with some lab guests: from its start to the
first screen with values, in wall time and in CPU time of all its threads until then; then the bytes of each refresh,
and of the seconds in which it is paused.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import pty
import select
import signal
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from textual.pilot import Pilot

from bench.findings import LargeHost
from bench.guests import bare_vms
from bench.precedence import give_new_session_precedence
from bench.result import Row
from bench.timing import duration
from kvmscope.host.machine import read_machine
from kvmscope.scene import Scene
from kvmscope.tui.app import TopApp
from kvmscope.tui.board import Board
from kvmscope.tui.charset import Charset
from kvmscope.tui.feed import Arrival, Deliver, Position, prepare
from kvmscope.tui.pages.base import Desk
from kvmscope.tui.settings import SettingsFile
from kvmscope.tui.shell import Shell
from kvmscope.units import format_bytes
from kvmscope.view.events import EventWatch
from kvmscope.view.trouble import troubles_of
from kvmscope.view.watch import Watch

WINDOWS, WARM_UP = 12, 3
STARTS: Final = 7
LISTEN_S: Final = 8.0
_FRAME_MS: Final = {1_000: 16.0, 10_000: 25.0}
_SECOND_MS: Final = 50.0
_KEY_MS: Final = 25.0
_FILTER: Final = "vm-77"
_FIRST_SCREEN_S: Final = 0.6
_REFRESH_BYTES: Final = 4096
_WITH_VALUES: Final = (b"all VMs", b"usr exit/s")
"""Of the line of totals, which is there as soon as there are values."""


def bench() -> Sequence[Row]:
    rows = []
    for vms, most_ms in _FRAME_MS.items():
        frames, seconds, keys = asyncio.run(_measure(vms))
        rows.append(_cpu_row(f"a frame with {vms:,} VMs", frames, most_ms))
        rows.append(_cpu_row(f"a key in the filter of {vms:,} VMs", keys, _KEY_MS))
        most_of_second_ms = _SECOND_MS if vms == 1_000 else None
        rows.append(_cpu_row(f"a second with {vms:,} VMs, of which one core has 1,000 ms", seconds, most_of_second_ms))
    with tempfile.TemporaryDirectory() as folder, bare_vms(16, 4) as guests:
        guests.wait_for_ready()
        return [*rows, *_start_rows(folder), *_byte_rows(folder)]


# --- frames -----------------------------------------------------------------------------------------------------------


class _NoFeed:
    """Hands over what the benchmark has it hand over."""

    position: Position | None = None

    def __init__(self) -> None:
        self.deliver: Deliver | None = None
        self.wanted: Sequence[str] = ()

    def start(self, deliver: Deliver) -> None:
        self.deliver = deliver

    def stop(self) -> None:
        pass

    def want(self, metrics: Sequence[str]) -> None:
        self.wanted = metrics


async def _measure(vms: int) -> tuple[list[int], list[int], list[int]]:
    """Nanoseconds of CPU time of frames, of whole seconds, and of keys that are typed into the filter."""
    feed, host = _NoFeed(), LargeHost(8, vms=vms, vcpus_each=4)
    file = SettingsFile(Path("/nonexistent/top.toml"))
    app = TopApp(Shell(Desk(Board(file.settings), file, feed, Charset(), 1.0)), feed.start)
    frames, seconds = [], []
    watch, events = Watch(), EventWatch()
    async with app.run_test(size=(120, 40)) as pilot:
        assert feed.deliver is not None
        for sample in host.samples(WARM_UP + WINDOWS + 1):
            scene = Scene(sample, host.identities, read_machine(), {})
            gc.collect()
            began = time.process_time_ns()
            view = watch.add(scene)
            if view is None:
                continue
            prepare(view, feed.wanted)
            arrival = Arrival(view, events.add(view), troubles_of(view.judgement.findings))
            ready = time.process_time_ns()
            feed.deliver([arrival])
            await pilot.pause()
            ended = time.process_time_ns()
            frames.append(ended - ready)
            seconds.append(ended - began)
        await pilot.press("slash")
        keys = [await _key_ns(pilot, key) for key in _FILTER]
    return frames[WARM_UP:], seconds[WARM_UP:], keys


async def _key_ns(pilot: Pilot[None], key: str) -> int:
    began = time.process_time_ns()
    await pilot.press("minus" if key == "-" else key)
    return time.process_time_ns() - began


def _cpu_row(what: str, taken: Sequence[int], most_ms: float | None) -> Row:
    ns = median(taken)
    measured = f"{duration(ns)} of CPU time (fastest {duration(min(taken))})"
    if most_ms is None:
        return Row(what, measured)
    return Row(what, measured, f"≤ {most_ms:g} ms", ns <= most_ms * 1e6)


# --- the command ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chunk:
    """What the command wrote at once, and when."""

    at_s: float
    data: bytes


class _Terminal:
    """The command on a pseudo-terminal of 80 × 24."""

    def __init__(self, folder: str) -> None:
        self.began_s = time.monotonic()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            give_new_session_precedence()
            os.environ |= {"TERM": "xterm-256color", "XDG_CONFIG_HOME": folder}
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has compiled modules
            os.execv(sys.executable, [sys.executable, "-m", "kvmscope", "top"])
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def read(self, seconds: float) -> Iterator[Chunk]:
        """What comes in this time."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            if select.select([self._fd], [], [], left_s)[0]:
                yield Chunk(time.monotonic() - self.began_s, os.read(self._fd, 1 << 16))

    def write(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def cpu_s(self) -> float:
        """CPU time of the command so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        try:
            while os.read(self._fd, 1 << 16):
                pass
        except OSError:
            pass
        os.waitpid(self.pid, 0)
        os.close(self._fd)


@contextmanager
def _terminal(folder: str) -> Iterator[_Terminal]:
    terminal = _Terminal(folder)
    try:
        yield terminal
    finally:
        terminal.close()


def _start_rows(folder: str) -> list[Row]:
    found = [_start(folder) for _ in range(STARTS)]
    walls, cpus = [wall for wall, _ in found], [cpu for _, cpu in found]
    measured = f"{duration(median(walls) * 1e9)} (fastest {duration(min(walls) * 1e9)})"
    target = f"≤ {_FIRST_SCREEN_S * 1000:g} ms"
    return [
        Row("from the start to the first screen with values", measured, target, min(walls) <= _FIRST_SCREEN_S),
        Row("CPU time until then", f"{duration(median(cpus) * 1e9)} (least {duration(min(cpus) * 1e9)})"),
    ]


def _start(folder: str) -> tuple[float, float]:
    """Wall and CPU seconds until a value is on the screen."""
    with _terminal(folder) as terminal:
        seen = b""
        for chunk in terminal.read(30):
            seen += chunk.data
            if all(part in seen for part in _WITH_VALUES):
                return chunk.at_s, terminal.cpu_s()
    raise RuntimeError("there was no screen in 30 s")


def _byte_rows(folder: str) -> list[Row]:
    with _terminal(folder) as terminal:
        list(terminal.read(4))
        refreshes = _refreshes(list(terminal.read(LISTEN_S)))
        terminal.write(b"p")
        list(terminal.read(1))
        paused = sum(len(chunk.data) for chunk in terminal.read(LISTEN_S / 2))
    measured = f"{format_bytes(median(refreshes))} (most {format_bytes(max(refreshes))}, of {len(refreshes)})"
    return [
        Row("bytes a refresh of 16 VMs at 80 × 24", measured, "≤ 4 KiB", max(refreshes) <= _REFRESH_BYTES),
        Row(f"bytes in {LISTEN_S / 2:g} s while nothing on the screen changes (paused)", str(paused), "0", paused == 0),
    ]


def _refreshes(chunks: Sequence[Chunk]) -> list[int]:
    """The bytes of each refresh: chunks that come within 0.3 s belong together."""
    sizes: list[int] = []
    last_s = float("-inf")
    for chunk in chunks:
        if chunk.at_s - last_s > 0.3:
            sizes.append(0)
        sizes[-1] += len(chunk.data)
        last_s = chunk.at_s
    return sizes
