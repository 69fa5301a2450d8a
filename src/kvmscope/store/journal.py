"""The journal: an Arrow IPC stream to which each scene is appended as it was read.

One record batch for each scene, with rows ``kind`` (0: document, 1: scene), ``key`` (of a document), ``body`` and
``crc`` (CRC-32 of the body). A document's body is its JSON; a scene's is a ``JournalScene`` in JSON, a zero byte, and
the columns of numbers, all of it compressed by LZ4. Documents come before the first scene that names them.

Rule: everything appended before the last flush can be read back, whatever happens later; reading ends at the first
damaged byte and reports its offset. A journal needs no other file.
Source: https://arrow.apache.org/docs/format/Columnar.html, IPC streaming format.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..codec import plain
from ..errors import FormatError, RecordingError
from ..host.facts import Machine
from ..scene import Scene, VmIdentity
from ..scene.columns import BlockShape, SampleHead, decode_sample, encode_columns
from ..schema import Schema
from .documents import GAPS, WHY_NOT, DocumentReader, DocumentWriter

SCHEMA = pa.schema(
    [("kind", pa.uint8()), ("key", pa.string()), ("body", pa.large_binary()), ("crc", pa.uint32())],
    metadata={"kvmscope": "journal/1"},
)
_DOCUMENT, _SCENE = 0, 1
_CODEC = "lz4"
_LENGTH = struct.Struct("<Q")
_LARGEST = 1 << 33
"""Limit for the bytes of one scene, uncompressed: bounds what a reader allocates for a damaged length."""
_LZ4_AT_MOST = 256
"""LZ4 decompresses one byte to at most 255."""


@dataclass(frozen=True, slots=True)
class JournalBlock:
    """One block of a scene: the key of its schema, and its number of subjects."""

    schema: str
    subjects: int


@dataclass(frozen=True, slots=True)
class JournalScene(SampleHead):
    """A scene without its columns; schemas, identities, gaps, machine and reasons are keys of documents."""

    blocks: tuple[JournalBlock, ...]
    gaps: str
    machine: str
    why_not: str
    identities: tuple[str, ...]
    silent_s: tuple[float | None, ...]


def load_conversions() -> None:
    """Make pyarrow load what its first conversion needs.

    That is all of pandas, if installed: one to three seconds in which no other Python thread runs. It must not happen
    while a host is sampled.
    """
    pa.array([0], pa.uint8())


class JournalGone(OSError):
    """A journal was deleted or moved while it was written. ``scenes``: number of scenes appended to it."""

    def __init__(self, scenes: int, path: Path) -> None:
        super().__init__(errno.ENOENT, "the journal was deleted or moved away", str(path))
        self.scenes = scenes


class JournalWriter:
    """Appends scenes to a new file. ``flush`` syncs them to the disk; close when done.

    If the process is killed, the file keeps all appended scenes; only a power cut can lose what was not flushed.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError, including FileExistsError."""
        self._path = path
        self._file = path.open("xb")
        self._writer = pa.ipc.new_stream(self._file, SCHEMA)
        self._documents = DocumentWriter()
        self.scenes = 0
        self.raw_bytes = 0

    def append(self, scene: Scene) -> None:
        """Append a scene. Raises OSError if writing fails, JournalGone if the file is no longer at its path."""
        self._check_place()
        head = _head(scene, self._documents)
        text = json.dumps(plain.dump(JournalScene, head), separators=(",", ":"), allow_nan=False).encode()
        raw = b"".join([text, b"\0", *encode_columns(scene.sample)])
        self.raw_bytes += len(raw)
        rows = [(_DOCUMENT, key, body.encode()) for key, body in self._documents.take_new().items()]
        rows.append((_SCENE, "", raw))
        bodies = [_compressed(body) for _, _, body in rows]
        batch = pa.record_batch(
            [
                pa.array([kind for kind, _, _ in rows], pa.uint8()),
                pa.array([key for _, key, _ in rows], pa.string()),
                pa.array(bodies, pa.large_binary()),
                pa.array([zlib.crc32(body) for body in bodies], pa.uint32()),
            ],
            schema=SCHEMA,
        )
        self._writer.write_batch(batch)
        self._file.flush()  # to the kernel: nothing is lost if the process is killed
        self.scenes += 1

    def flush(self) -> None:
        """Raises OSError."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """End the stream. Raises OSError if the rest cannot be written, JournalGone; the file is closed in any case."""
        try:
            self._writer.close()
            self.flush()
            self._check_place()
        finally:
            self._file.close()

    def _check_place(self) -> None:
        """Raises JournalGone if another file or none is at its path: no reader would find the data."""
        try:
            is_there = os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            is_there = False
        if not is_there:
            raise JournalGone(self.scenes, self._path)


def _head(scene: Scene, documents: DocumentWriter) -> JournalScene:
    sample = scene.sample
    machine, gaps, why_not = documents.scene(scene)
    return JournalScene(
        taken_ns=sample.taken_ns,
        monotonic_ns=sample.monotonic_ns,
        source=sample.source,
        simulated=sample.simulated,
        origin=sample.origin,
        labels=sample.vms.label,
        vcpus=len(sample.vcpus),
        blocks=tuple(JournalBlock(documents.schema(block.schema), len(block.rows)) for block in sample.blocks),
        gaps=gaps,
        machine=machine,
        why_not=why_not,
        identities=tuple(documents.identity(identity) for identity in scene.identities),
        silent_s=tuple(identity.silent_s for identity in scene.identities),
    )


def _compressed(body: bytes) -> bytes:
    compressed: bytes = pa.compress(body, codec=_CODEC, asbytes=True)
    return _LENGTH.pack(len(body)) + compressed


@dataclass
class JournalContent:
    """The content of a journal. ``end``: why reading ended before the end of the stream, None if it did not."""

    documents: dict[str, str] = field(default_factory=dict)
    scenes: list[Scene] = field(default_factory=list)
    end: RecordingError | None = None


def read_journal(path: Path) -> JournalContent:
    """All scenes up to the first damage. Raises RecordingError if the file is not a journal, OSError, MemoryError."""
    return JournalReader(path).read()


def unreadable(path: Path, error: OSError) -> RecordingError:
    """The damage to report for a journal that cannot be read for its permissions or a disk error."""
    return RecordingError(f"it cannot be read: {error.strerror or error}", path=str(path))


class JournalReader:
    """A journal that may still be growing: each ``read`` continues where the last one ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = JournalContent()
        self._documents = DocumentReader(self._content.documents, str(path))
        self._head = b""
        """The schema at the start of the stream. Followed by later batches, it forms a valid stream."""
        self._at = 0
        """The end offset of the complete batches read so far."""

    def read(self) -> JournalContent:
        """All scenes up to the first damage, in the same object each time. Raises as ``read_journal``."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        if not data:
            return self._content  # its writer was stopped before its first write, or appended nothing
        source = pa.BufferReader(self._head + data)
        before = self._at - len(self._head)
        self._content.end = None
        stream = self._open(source, data)
        if stream is None:
            return self._content
        if not self._head:
            self._at = source.tell()
            self._head = data[: self._at]
        for at, batch in _batches(stream, source, self._content, self._path, before):
            try:
                _take(batch, self._content, self._documents, self._path, at)
            except RecordingError as error:
                self._content.end = error
                break
            self._at = before + source.tell()
        return self._content

    def _open(self, source: Any, data: bytes) -> Any:
        """The stream; None if it ends inside its header."""
        path = str(self._path)
        try:
            stream = pa.ipc.open_stream(source)
        except (pa.ArrowException, OSError, ValueError, EOFError) as error:
            if len(data) < _HEAD_AT_MOST:
                self._content.end = RecordingError("it ends inside its header", path=path, offset=len(data))
                return None
            raise RecordingError(f"it is not a journal: {_first_line(error)}", path=path, offset=0) from None
        if stream.schema != SCHEMA:
            raise RecordingError("it is not a journal of this layout", path=path, offset=0)
        return stream


_HEAD_AT_MOST = 1024


def _batches(stream: Any, source: Any, content: JournalContent, path: Path, before: int) -> Iterator[tuple[int, Any]]:
    """Each batch with its offset in the file. ``before``: offset of ``source`` in the file.

    Batches are views of ``source`` and allocate no memory, so a MemoryError is not damage, and is raised.
    """
    while True:
        at = before + source.tell()
        try:
            batch = stream.read_next_batch()
            batch.validate(full=True)
        except StopIteration:
            return
        except MemoryError:
            raise
        except (pa.ArrowException, OSError, ValueError, EOFError, OverflowError) as error:
            content.end = RecordingError(_first_line(error), path=str(path), offset=at)
            return
        yield at, batch


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__


def _take(batch: Any, content: JournalContent, reader: DocumentReader, path: Path, at: int) -> None:
    """Add all rows of a batch to ``content``. Raises RecordingError."""
    documents: dict[str, str] = {}
    scenes: list[bytes] = []
    for kind, key, body, crc in zip(*(column.to_pylist() for column in batch.columns), strict=True):
        if body is None or zlib.crc32(body) != crc:
            raise RecordingError("a checksum does not match its bytes", path=str(path), offset=at)
        raw = _decompressed(body, path, at)
        if kind == _DOCUMENT and key:
            documents[key] = raw.decode("utf-8", "replace")
        elif kind == _SCENE:
            scenes.append(raw)
        else:
            raise RecordingError("a row has an unknown kind", path=str(path), offset=at)
    content.documents.update(documents)
    content.scenes += [_scene(raw, reader, path, at) for raw in scenes]


def _decompressed(body: bytes, path: Path, at: int) -> bytes:
    try:
        [length] = _LENGTH.unpack_from(body)
        size = min(length, _LARGEST, _LZ4_AT_MOST * len(body))
        raw: bytes = pa.decompress(body[_LENGTH.size :], decompressed_size=size, codec=_CODEC, asbytes=True)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        raise RecordingError(_first_line(error), path=str(path), offset=at) from None
    return raw


def _scene(raw: bytes, reader: DocumentReader, path: Path, at: int) -> Scene:
    end = raw.find(b"\0") % (len(raw) + 1)
    try:
        head: JournalScene = plain.load(JournalScene, json.loads(raw[:end]), what="scene")
        return _joined(head, raw, end + 1, reader)
    except (ValueError, RecursionError, FormatError) as error:
        raise RecordingError(str(error), path=str(path), offset=at) from None


def _joined(head: JournalScene, raw: bytes, start: int, reader: DocumentReader) -> Scene:
    shapes = [BlockShape(reader.get(Schema, block.schema), block.subjects) for block in head.blocks]
    sample = decode_sample(head, shapes, reader.get(GAPS, head.gaps), raw, start=start, end=len(raw))
    if not len(head.identities) == len(head.silent_s) == len(head.labels):
        expected = f"{len(head.labels)} identities"
        raise FormatError("scene", offset=0, expected=expected, got=str(len(head.identities)))
    return Scene(
        sample,
        tuple(
            with_silence(reader.get(VmIdentity, key), silent_s)
            for key, silent_s in zip(head.identities, head.silent_s, strict=True)
        ),
        reader.get(Machine, head.machine),
        reader.get(WHY_NOT, head.why_not),
    )


def with_silence(identity: VmIdentity, silent_s: float | None) -> VmIdentity:
    """A stored identity with ``silent_s``, which is stored elsewhere."""
    if silent_s is None:
        return identity
    return VmIdentity(identity.name, identity.process, identity.domain_xml, silent_s)
