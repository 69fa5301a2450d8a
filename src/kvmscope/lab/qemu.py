"""QEMU guests with an image of the lab in place of their firmware, and a QMP socket: another VMM, to compare with.

It starts and ends QEMU; its users speak QMP. The first vCPU writes to a port a known number of times, reports that, and
halts forever with interrupts off; the others wait to be started. From then on no statistic changes.
Rule: QEMU dies with the thread that started it (setpriv --pdeathsig, since QEMU itself cannot ask for that).
"""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..closing import Closable
from ..console.temporary import OwnedDirectory
from ..errors import SourceError, Unavailable
from .workloads import GUESTS

PROGRAM = "qemu-system-x86_64"
_COUNT = struct.Struct("<I")
_COUNT_OFFSET = 0x1F8
_DONE = b"D"
_ROM_SIZE = 0x1_0000
_RESET = 0xFFF0
_JUMP = bytes.fromhex("ea 00 7c 40 e8")  # to e840:7c00, which is f000:0000, where the ROM begins
_POLL_S = 0.02
_CLOSE_TIMEOUT_S = 10.0


class Qemu(Closable):
    """A running QEMU. A context manager; closing it ends it and removes its files.

    ``writes``: number of the guest's writes to its port. ``options`` come last on the command line, so they can change
    the machine or add devices. Raises Unavailable if QEMU is not installed.
    """

    def __init__(
        self, *, name: str, vcpus: int = 1, writes: int = 0, cpu: str = "qemu64", options: Sequence[str] = ()
    ) -> None:
        program = shutil.which(PROGRAM)
        setpriv = shutil.which("setpriv")
        if program is None or setpriv is None:
            missing = PROGRAM if program is None else "setpriv"
            raise Unavailable(f"{missing} is not installed", remedy="apt-get install qemu-system-x86 util-linux")
        self.name = name
        self._folder = OwnedDirectory("qemu")
        directory = self._folder.path
        self.qmp_path = directory / "qmp"
        self._said_path = directory / "said"
        rom = directory / "rom"
        rom.write_bytes(rom_image(writes))
        command = [setpriv, "--pdeathsig", "KILL", program, "-nodefaults", "-no-user-config", "-display", "none"]
        command += ["-machine", "pc", "-accel", "kvm", "-cpu", cpu, "-m", "16", "-smp", str(vcpus), "-name", name]
        command += ["-bios", str(rom), "-debugcon", f"file:{self._said_path}"]
        command += ["-qmp", f"unix:{self.qmp_path},server=on,wait=off", *options]
        self._log_path = directory / "log"
        with self._log_path.open("wb") as log:
            # In a separate process group, Ctrl-C reaches only the process that started it.
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
        self.pid = self._process.pid

    def wait_for_done(self, timeout_s: float = 60.0) -> None:
        """Wait until the guest has done its writes and halts. Raises SourceError at the deadline or if QEMU ended."""
        self._wait_until(lambda: _DONE in self._said(), timeout_s, "the guest is not done")

    def wait_for_qmp(self, timeout_s: float = 10.0) -> Path:
        """Wait until QEMU listens, and return the path of its QMP socket."""
        self._wait_until(self.qmp_path.exists, timeout_s, "there is no QMP socket")
        return self.qmp_path

    def kill(self) -> None:
        """SIGKILL QEMU and wait for it."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End QEMU and remove its files. Idempotent."""
        self._process.terminate()
        try:
            self._process.wait(_CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._folder.close()

    def _wait_until(self, holds: Callable[[], bool], timeout_s: float, failure: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            if self._process.poll() is not None:
                log = self._log_path.read_text(errors="replace").strip()
                raise SourceError(f"QEMU ended with status {self._process.returncode}: {log}")
            if time.monotonic() > deadline:
                raise SourceError(f"{failure} after {timeout_s:g} s")
            time.sleep(_POLL_S)

    def _said(self) -> bytes:
        with contextlib.suppress(FileNotFoundError):
            return self._said_path.read_bytes()
        return b""


def rom_image(writes: int) -> bytes:
    """A 64 KiB ROM that runs the lab's boot image at reset, and writes to its port ``writes`` times (below 2^32)."""
    rom = bytearray(_ROM_SIZE)
    image = (GUESTS / "boot.bin").read_bytes()
    rom[: len(image)] = image
    _COUNT.pack_into(rom, _COUNT_OFFSET, writes)
    rom[_RESET : _RESET + len(_JUMP)] = _JUMP
    return bytes(rom)
