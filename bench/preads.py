"""The yardstick: a C loop of preads (preads.c), built when it is needed, into memory that it has already."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench.timing import Timed

_HEADER = struct.Struct("=6I")


class _StatsFile(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("size", ctypes.c_int), ("offset", ctypes.c_int64))


def build() -> ctypes.CDLL:
    """The loop, compiled by gcc and loaded."""
    source = Path(__file__).with_suffix(".c")
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "preads.so"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", source, "-o", target], check=True)
        library = ctypes.CDLL(os.fspath(target))
    library.read_all.restype = ctypes.c_int64
    return library


def c_loop(fds: Iterable[int]) -> tuple[Timed, int]:
    """A round over these stats fds, timed in C by itself, and the bytes that it reads."""
    files = [_describe(fd) for fd in fds]
    array = (_StatsFile * len(files))(*files)
    raw_bytes = sum(file.size for file in files)
    memory = ctypes.create_string_buffer(raw_bytes)
    library = build()

    def once() -> int:
        took = int(library.read_all(array, len(files), memory))
        if took < 0:
            raise RuntimeError("a stats file came short")
        return took

    return once, raw_bytes


def _describe(fd: int) -> _StatsFile:
    data = os.pread(fd, 1 << 20, 0)
    offset = _HEADER.unpack_from(data)[5]
    return _StatsFile(fd, len(data) - offset, offset)
