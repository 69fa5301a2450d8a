"""The standard streams of a command, and the handling of output that cannot be written.

Data that could not be written in full must not pass for a complete answer: this is an ``OutputError``, with its own
exit code. A reader that exits early (``| head``) is not an error: further output is dropped, and the command's exit
code does not change. Commands that run without end stop then; see ``interrupts.until_ended``. Notes on stderr are
dropped if stderr cannot be written.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class ReaderGone(Exception):
    """The reader of the output has exited, and the writer would run without end."""


class OutputFile(io.FileIO):
    """The raw file of a standard stream. ``is_closed``: it was closed when the process started."""

    def __init__(self, fd: int, *, is_data: bool, is_closed: bool = False) -> None:
        super().__init__(fd, "w", closefd=False)
        self._is_data = is_data
        self._is_dropping = False
        self._reader_is_gone = False
        self._is_closed = is_closed
        self.ends_with_reader = False
        """Whether a reader that has gone ends the command; else what it writes is dropped."""

    def drop(self) -> None:
        """Write nothing from now on, not even buffered data."""
        self._is_dropping = True

    def write(self, data: ReadableBuffer, /) -> int:
        size = memoryview(data).nbytes
        if self._is_dropping:
            self._end_with_reader()
            return size
        if self._is_closed:
            self.drop()
            raise OutputError("stdout is closed", errno.EBADF)
        try:
            return super().write(data)
        except OSError as error:
            self.drop()
            self._fail(error.errno or errno.EIO)
            return size

    def _fail(self, number: int) -> None:
        if not self._is_data:
            return
        if number != errno.EPIPE:
            raise OutputError(os.strerror(number), number)
        self._reader_is_gone = True
        self._end_with_reader()

    def _end_with_reader(self) -> None:
        if self._reader_is_gone and self.ends_with_reader:
            self.ends_with_reader = False
            raise ReaderGone


def open_standard_streams() -> None:
    """Give this process its stdout and stderr.

    A closed stream is replaced by /dev/null. Otherwise the next opened file would get its number, and receive what is
    written to the stream.
    """
    is_closed = [_fill(fd) for fd in range(3)]
    stdout = OutputFile(1, is_data=True, is_closed=is_closed[1])
    sys.stdout = _text(stdout, sys.stdout)
    sys.stderr = _text(OutputFile(2, is_data=False), sys.stderr, line_buffering=True)


def _raw_stdout() -> OutputFile | None:
    """The raw file of stdout; None if this module did not open it, as in tests that run commands in one process."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw if isinstance(raw, OutputFile) else None


def _fill(fd: int) -> bool:
    """Open /dev/null as ``fd`` if that was closed; whether it was."""
    try:
        os.fstat(fd)
    except OSError:
        os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        os.set_inheritable(fd, True)
        return True
    return False


def _text(raw: OutputFile, before: object, *, line_buffering: bool = False) -> io.TextIOWrapper:
    # A name may have characters that the terminal's encoding lacks; a screen with a "?" is better than none.
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors="replace",
        line_buffering=line_buffering or raw.isatty(),
    )


_CURSOR_STAYS = ("dumb", "unknown")
"""Values of TERM for terminals whose cursor cannot be moved, such as a shell in an editor; the same as in rich."""


def is_screen(*streams: TextIO) -> bool:
    """Whether all streams are terminals with a movable cursor; on others, output is appended line by line."""
    return os.environ.get("TERM", "").lower() not in _CURSOR_STAYS and all(stream.isatty() for stream in streams)


@contextlib.contextmanager
def writing_errors() -> Iterator[None]:
    """Turns an OSError of the block, which writes files, into an OutputError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        raise OutputError(f"{reason}{where}", error.errno or errno.EIO) from None


def write_file(path: Path, data: bytes, *, is_new: bool = False) -> None:
    """Write a file atomically; a previous file stays until the new one is complete. Raises OutputError.

    ``is_new``: the path must not exist, not even if it was created a moment ago.
    """
    with writing_errors():
        if is_new:
            _write_new(path, data)
            return
        if path.exists() and not path.is_file():  # a pipe or a device, such as /dev/null
            path.write_bytes(data)
            return
        target = path.resolve()
        new = target.with_name(f".{target.name[:200]}.{os.getpid()}")
        try:
            new.write_bytes(data)
            if target.exists():
                new.chmod(target.stat().st_mode & 0o7777)
            new.replace(target)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None  # the user named this path
        finally:
            new.unlink(missing_ok=True)


def _write_new(path: Path, data: bytes) -> None:
    file = path.open("xb")
    try:
        with file:
            file.write(data)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def drop() -> None:
    """Write nothing more to stdout, not even buffered data."""
    raw = _raw_stdout()
    if raw is not None:
        raw.drop()


@contextlib.contextmanager
def ending_with_reader() -> Iterator[None]:
    """Raises ReaderGone in the block after the reader of stdout has exited."""
    raw = _raw_stdout()
    if raw is None:
        yield
        return
    raw.ends_with_reader = True
    try:
        yield
    finally:
        raw.ends_with_reader = False
