"""Guest memory whose pages somebody else brings: a VMM's userfaultfd, as in post-copy migration. Runs as root.

Source: Documentation/admin-guide/mm/userfaultfd.rst; include/uapi/linux/userfaultfd.h.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from kvmscope.lab.kvm import PAGE, ioctl

_SYS_USERFAULTFD = 323
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_UNREGISTER, _UFFDIO_ZEROPAGE = 0xC018AA3F, 0xC020AA00, 0x8010AA01, 0xC020AA04
_API, _MISSING = 0xAA, 1
_MESSAGE = struct.Struct("<B7xQQQ")


class FetchedPages:
    """From ``start`` on, each page of a mapping is missing until a fault for it is answered, with zeros.

    ``first`` is called before each answer: the faulting vCPU waits for it too. A context manager.
    """

    def __init__(self, memory: mmap.mmap, start: int, first: Callable[[], None]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.syscall(_SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)
        assert self._fd >= 0, os.strerror(ctypes.get_errno())
        self._first = first
        self._range = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + start, len(memory) - start
        ioctl(self._fd, _UFFDIO_API, bytearray(struct.pack("<QQQ", _API, 0, 0)))
        ioctl(self._fd, _UFFDIO_REGISTER, bytearray(struct.pack("<QQQQ", *self._range, _MISSING, 0)))
        self._stop, self._stopping = os.pipe()
        self._thread = threading.Thread(target=self._answer, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._stopping)
        self._thread.join()
        ioctl(self._fd, _UFFDIO_UNREGISTER, bytearray(struct.pack("<QQ", *self._range)))  # wakes a vCPU that waits
        for fd in (self._fd, self._stop):
            os.close(fd)

    def _answer(self) -> None:
        while self._stop not in select.select([self._fd, self._stop], [], [])[0]:
            _, _, address, _ = _MESSAGE.unpack(os.read(self._fd, _MESSAGE.size))
            self._first()
            ioctl(self._fd, _UFFDIO_ZEROPAGE, bytearray(struct.pack("<QQQQ", address & -PAGE, PAGE, 0, 0)))
