"""The storage of a recording: a directory, or a prefix of an object store that pyarrow knows (``s3://…``, ``gs://…``).

Rules: a file exists with all its bytes or not at all. The directory and its parents may be links. Below it, links that
lead out are refused and links to directories are not followed: reading an untrusted recording must not read or list the
rest of the disk.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from ..errors import RecordingError, UsageError
from . import layout
from .layout import NEW


class Storage:
    """Files below one place, by relative path. ``directory``: None for an object store."""

    def __init__(self, place: str) -> None:
        """Raises UsageError for a URI that pyarrow does not know."""
        self.place = re.sub(r"(?<=://)[^/@]*@", "", place).partition("?")[0] if "://" in place else place
        self.directory = local_directory(place)
        self.links: Sequence[str] = ()
        """Links to directories that ``files`` skipped."""
        self._system: Any
        self._root: str
        try:
            if self.directory is not None:
                self._system, self._root = fs.LocalFileSystem(), str(self.directory.absolute())
                self._real_root = os.path.realpath(self._root)
            else:
                self._system, self._root = fs.FileSystem.from_uri(place)
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = _reason(error).replace(place, self.place)  # it may contain a key
            raise UsageError(f"{self.place!r} is not a directory or an object store: {reason}") from None

    def name(self, path: str) -> str:
        """The name of a file in messages."""
        return f"{self.place.rstrip('/')}/{path}"

    def local(self, path: str) -> Path:
        """The path of a file of a recording in a directory. Raises RecordingError if a link leads out of it."""
        assert self.directory is not None
        file = self.directory / path
        if not _is_below(file, self._real_root):
            self._real_root = os.path.realpath(self._root)  # a link that may have another target by now
            if not _is_below(file, self._real_root):
                raise RecordingError("it is a link that leads outside the recording", path=str(file))
        return file

    def has(self, path: str = "") -> bool:
        """Whether a file exists or, without a path, the place itself. Raises RecordingError."""
        try:
            [info] = self._system.get_file_info([f"{self._root}/{path}" if path else self._root])
        except (OSError, pa.ArrowException) as error:
            raise RecordingError(f"it cannot be read: {_reason(error)}", path=self.place) from None
        return bool(info.type != fs.FileType.NotFound)

    def files(self) -> dict[str, int]:
        """The size of every file, by path. Raises RecordingError if the place does not exist."""
        selector = fs.FileSelector(self._root, recursive=True)
        try:
            if self.directory is not None:
                files, self.links = _local_files(self._root)
                return files
            found = self._system.get_file_info(selector)
        except FileNotFoundError:
            raise RecordingError("there is no such directory", path=self.place) from None
        except (OSError, pa.ArrowException) as error:
            raise RecordingError(f"it cannot be listed: {_reason(error)}", path=self.place) from None
        skip = len(self._root.rstrip("/")) + 1
        return {info.path[skip:]: info.size for info in found if info.type == fs.FileType.File}

    def unfollowed(self, tops: Sequence[str] = layout.PARTS) -> list[RecordingError]:
        """An error for each link that the last ``files`` skipped in, or in the place of, one of these directories."""
        reason = "it is a link to a directory, and only the directory of a whole recording may be one"
        links = [path for path in self.links if path.partition("/")[0] in tops]
        return [RecordingError(reason, path=self.name(path)) for path in links]

    def open(self, path: str) -> Any:
        """Open a file for random reads. Raises OSError, RecordingError if a link leads out of the place."""
        if self.directory is not None:
            require_file(self.local(path))
        return self._system.open_input_file(f"{self._root}/{path}")

    def dataset(self, paths: Sequence[str]) -> Any:
        """Parquet files of one table as an Arrow dataset with the columns of all, read lazily. Raises
        RecordingError."""
        from pyarrow import dataset  # loads pandas if installed

        partitions = dataset.partitioning(pa.schema([("host", pa.string()), ("date", pa.string())]), flavor="hive")
        options = dataset.FileSystemFactoryOptions(partition_base_dir=self._root, partitioning=partitions)
        files = [f"{self._root}/{path}" for path in paths]
        try:
            factory = dataset.FileSystemDatasetFactory(self._system, files, dataset.ParquetFileFormat(), options)
            schema = pa.unify_schemas(factory.inspect_schemas(), promote_options="permissive")
            return factory.finish(schema)
        except (OSError, pa.ArrowException) as error:
            raise RecordingError(f"it cannot be read: {_reason(error)}", path=self.place) from None

    def read(self, path: str) -> bytes:
        """The bytes of a file. Raises RecordingError if it cannot be read."""
        try:
            with self.open(path) as file:
                data: bytes = file.read()
        except (OSError, pa.ArrowException) as error:
            raise RecordingError(f"it cannot be read: {_reason(error)}", path=self.name(path)) from None
        return data

    def write(self, path: str, write: Callable[[Any], object]) -> None:
        """Write a file atomically. Raises OSError, RecordingError if a link leads out of the place."""
        if self.directory is not None:
            _write_local(self.local(path), write)
        else:
            self._upload(path, write)

    def _upload(self, path: str, write: Callable[[Any], object]) -> None:
        """Upload in one call, since a stream that fails may leave an object with a part of its bytes."""
        sink = pa.BufferOutputStream()
        write(sink)
        data = sink.getvalue()
        target = f"{self._root}/{path}"
        if self._system.type_name not in _FLAT:
            self._system.create_dir(target.rpartition("/")[0], recursive=True)
        with self._system.open_output_stream(target) as stream:
            stream.write(data)
        [info] = self._system.get_file_info([target])
        if info.size != data.size:
            raise OSError(f"{self.name(path)} has {info.size} bytes instead of {data.size}")

    def delete(self, path: str) -> None:
        """Raises OSError."""
        self._system.delete_file(f"{self._root}/{path}")


_FLAT = ("s3", "gcs", "abfs")
"""Object stores, which need no directories."""


def local_directory(place: str) -> Path | None:
    """The directory of a place given as a path or as ``file://…``; None for an object store."""
    if place.startswith("file://"):
        return Path(unquote(urlsplit(place).path))
    return None if "://" in place else Path(place)


def _is_below(file: Path, real_root: str) -> bool:
    real = os.path.realpath(file)
    return real == real_root or real.startswith(real_root.rstrip("/") + "/")


def _local_files(root: str) -> tuple[dict[str, int], list[str]]:
    """The size of every file below a directory, and the links to directories. Raises OSError."""
    files: dict[str, int] = {}
    links: list[str] = []
    below = [""]
    while below:
        directory = below.pop()
        try:
            entries = os.scandir(f"{root}/{directory}")
        except FileNotFoundError:
            if not directory:
                raise
            continue  # removed by a writer
        with entries:
            for entry in entries:
                path = f"{directory}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    below.append(f"{path}/")
                elif entry.is_symlink() and entry.is_dir():
                    links.append(path)
                else:
                    with suppress(OSError):  # it is gone, or a dangling link
                        found = entry.stat()
                        if stat.S_ISREG(found.st_mode):
                            files[path] = found.st_size
    return files, sorted(links)


def require_file(path: Path) -> None:
    """Raises OSError unless the path is a regular file: reading a pipe would block, and a device may have no end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def _write_local(target: Path, write: Callable[[Any], object]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(target.name + NEW)
    with new.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    new.rename(target)
    sync_directory(target.parent)


def _reason(error: BaseException) -> str:
    found = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return found.partition("\n")[0][:300] or type(error).__name__


def sync_directory(path: Path) -> None:
    """Sync the entries of a directory to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
