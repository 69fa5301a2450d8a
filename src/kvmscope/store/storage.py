"""Where a recording lies: a directory, or a prefix of an object store that pyarrow knows (``s3://…``, ``gs://…``)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from ..errors import RecordingError, UsageError

_NEW = ".new"


class Storage:
    """Files below one place, by their paths from there."""

    def __init__(self, place: str) -> None:
        """Raises UsageError for an address that pyarrow does not know."""
        self.place = place
        self.directory = None if "://" in place else Path(place)
        self._system: Any
        self._root: str
        try:
            if self.directory is not None:
                self._system, self._root = fs.LocalFileSystem(), str(self.directory.absolute())
            else:
                self._system, self._root = fs.FileSystem.from_uri(place)
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise UsageError(f"{place!r} is not a directory or an object store: {reason}") from None

    def name(self, path: str) -> str:
        """What to call a file in a message."""
        return f"{self.place.rstrip('/')}/{path}"

    def local(self, path: str) -> Path:
        """A file of a recording that lies in a directory."""
        assert self.directory is not None
        return self.directory / path

    def has(self, path: str = "") -> bool:
        """Whether there is such a file, or without a path such a place at all. Raises RecordingError."""
        try:
            [info] = self._system.get_file_info([f"{self._root}/{path}" if path else self._root])
        except OSError as error:
            reason = str(error).partition("\n")[0]
            raise RecordingError(f"it cannot be read: {reason}", path=self.place) from None
        return bool(info.type != fs.FileType.NotFound)

    def files(self) -> dict[str, int]:
        """Every file with its size, by path. Raises RecordingError if there is no such place."""
        selector = fs.FileSelector(self._root, recursive=True)
        try:
            found = self._system.get_file_info(selector)
        except FileNotFoundError:
            raise RecordingError("there is no such directory", path=self.place) from None
        except (NotADirectoryError, OSError) as error:
            raise RecordingError(f"it cannot be listed: {error.strerror or error}", path=self.place) from None
        skip = len(self._root.rstrip("/")) + 1
        return {info.path[skip:]: info.size for info in found if info.type == fs.FileType.File}

    def open(self, path: str) -> Any:
        """A file for reading at random. Raises OSError."""
        return self._system.open_input_file(f"{self._root}/{path}")

    def read(self, path: str) -> bytes:
        """Raises OSError."""
        with self.open(path) as file:
            data: bytes = file.read()
        return data

    def write(self, path: str, write: Callable[[Any], None]) -> None:
        """Write a file as a whole: it is there with all its bytes, or not at all. Raises OSError."""
        if self.directory is None:
            with self._system.open_output_stream(f"{self._root}/{path}") as sink:
                write(sink)
            return
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(target.name + _NEW)
        with new.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        new.rename(target)
        sync_directory(target.parent)

    def delete(self, path: str) -> None:
        """Raises OSError."""
        self._system.delete_file(f"{self._root}/{path}")


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
