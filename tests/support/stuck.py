"""A page that the kernel cannot deliver: a file of a FUSE server that answers no read until it is told to.

Whoever touches a mapping of it waits inside the kernel, with the locks that it holds. ``stuck_vmm`` makes a VMM whose
mmap_lock is held by such a wait, as that of one whose memory comes from storage that hangs.
Source: include/uapi/linux/fuse.h (7.26 and later); mm/memory.c, __access_remote_vm(); fs/proc/base.c.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from kvmscope.linux import libc

_IN = struct.Struct("<IIQQIIII")
_OUT = struct.Struct("<IiQ")
_PAGE = 4096
_ROOT, _FILE = 1, 2
_LOOKUP, _GETATTR, _OPEN, _READ, _INIT = 1, 3, 14, 15, 26
_FORGETS = (2, 42)
_ENOSYS, _ENOENT = 38, 2
_MNT_DETACH = 2


def _attributes(node: int) -> bytes:
    mode = 0o40755 if node == _ROOT else 0o100644
    size = 0 if node == _ROOT else _PAGE
    return struct.pack("<QQQQQQIIIIIIIIII", node, size, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, _PAGE, 0)


class StuckFile:
    """The server of one file, of one page. ``release`` lets all reads go, those that wait and those to come."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "page"
        self._directory = directory
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        libc.mount("stuck", str(directory), "fuse", 0, f"fd={self._device},rootmode=40000,user_id=0,group_id=0")
        self._waiting: list[int] = []
        self._is_released = False
        self.is_asked = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    def release(self) -> None:
        with self._lock:
            self._is_released = True
            for unique in self._waiting:
                self._answer(unique, bytes(_PAGE))
            self._waiting.clear()

    def close(self) -> None:
        """End the server; who still waits gets an error."""
        with contextlib.suppress(OSError):
            self.release()
        libc.unmount(str(self._directory), _MNT_DETACH)
        os.close(self._device)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # the file system is unmounted
            while True:
                self._handle(os.read(self._device, 1 << 18))

    def _handle(self, request: bytes) -> None:
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        body = request[_IN.size :]
        if opcode in _FORGETS:
            return
        if opcode == _READ:
            with self._lock:
                if not self._is_released:
                    self._waiting.append(unique)
                    self.is_asked.set()
                    return
        self._answer(unique, *self._found(opcode, node, body))

    def _found(self, opcode: int, node: int, body: bytes) -> tuple[bytes] | tuple[bytes, int]:
        if opcode == _INIT:
            return (struct.pack("<IIIIHHIIHHI28x", 7, 26, 1 << 17, 0, 16, 16, 1 << 17, 1, 0, 0, 0),)
        if opcode == _LOOKUP:
            if body.rstrip(b"\0") != b"page":
                return b"", -_ENOENT
            return (struct.pack("<QQQQII", _FILE, 0, 1000, 1000, 0, 0) + _attributes(_FILE),)
        if opcode == _GETATTR:
            return (struct.pack("<QII", 1000, 0, 0) + _attributes(node),)
        if opcode == _OPEN:
            return (struct.pack("<QII", 1, 0, 0),)
        return (bytes(_PAGE),) if opcode == _READ else (b"", -_ENOSYS)

    def _answer(self, unique: int, data: bytes, error: int = 0) -> None:
        os.write(self._device, _OUT.pack(_OUT.size + len(data), error, unique) + data)


@contextlib.contextmanager
def stuck_file(directory: Path) -> Iterator[StuckFile]:
    file = StuckFile(directory)
    try:
        yield file
    finally:
        file.close()


@contextlib.contextmanager
def stuck_vmm(directory: Path) -> Iterator[tuple[int, StuckFile]]:
    """A process with a VM whose mmap_lock is held until the file is released: its pid, and the file."""
    with hanging_vmm(directory) as vmm:
        vmm.hang()
        yield vmm.pid, vmm.file


class HangingVmm:
    """A process with a VM, which answers until ``hang`` and again from ``release`` of its file on.

    A read of /proc/PID/mem waits for the page with the lock taken for reading; a mmap() of the process waits behind it
    for the lock, and every later reader behind that one.
    """

    def __init__(self, file: StuckFile, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.file, self.pid = file, process.pid
        self._orders = process.stdin
        self._address = int(process.stdout.readline())

    def hang(self) -> None:
        """Have its mmap_lock held."""
        threading.Thread(target=_read_memory, args=(self.pid, self._address), daemon=True).start()
        assert self.file.is_asked.wait(10)
        self._orders.write("map\n")
        self._orders.flush()
        _wait_until_stuck(self.pid)


@contextlib.contextmanager
def hanging_vmm(directory: Path) -> Iterator[HangingVmm]:
    with stuck_file(directory) as file:
        command = [sys.executable, __file__, str(file.path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield HangingVmm(file, process)
            finally:
                file.release()
                process.kill()


def _read_memory(pid: int, address: int) -> None:
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        os.pread(memory.fileno(), 1, address)


def _wait_until_stuck(pid: int) -> None:
    """Until its main thread waits in the kernel and cannot be interrupted, as one does that waits for mmap_lock."""
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "D":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def main(path: str) -> None:
    """A VMM of its own: one VM, and a page that is stuck."""
    from kvmscope.lab.kvm import Kvm

    with Kvm() as kvm, Path(path).open("rb") as file:
        kvm.create_vm().create_vcpu(0)
        print(libc.map_for_reading(file.fileno(), mmap.PAGESIZE), flush=True)
        sys.stdin.readline()
        mmap.mmap(-1, mmap.PAGESIZE)
        sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1])
