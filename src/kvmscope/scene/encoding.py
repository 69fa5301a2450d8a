"""A scene as bytes: a header in JSON, the columns of numbers behind it, and a checksum.

    8 bytes   ``KVMSCENE``
    u32       version of this layout, 1
    u32       length of the header
    header    JSON: everything but the columns, and the shape of each block
    columns   u64 and i64, little endian, one after another in the order of ``_columns``
    u32       CRC-32 of all bytes before it

Rule: ``decode(encode(scene)) == scene`` in all that is read of it, and on any bytes ``decode`` gives a scene or raises
FormatError, nothing else. Recordings keep scenes in columns of their own (``store``); this form is for one scene.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..codec import plain
from ..errors import FormatError
from ..host.facts import Machine
from ..sample import Block, Gap, I64Array, Origin, Sample, U64Array, Vcpus, Vms
from ..schema import Schema
from .moment import Scene, VmIdentity

MAGIC = b"KVMSCENE"
VERSION = 1

_HEAD = struct.Struct("<8sII")
_CRC = struct.Struct("<I")
_WORD = 8
_MAX_NS = 1 << 63
_MAX_DATA = 1 << 32
_MAX_EXPONENT = 1 << 15  # as the kernel's descriptors have it


@dataclass(frozen=True, slots=True)
class BlockShape:
    """What the header says of one block: its schema, and how many subjects it has."""

    schema: Schema
    subjects: int


@dataclass(frozen=True, slots=True)
class SceneHeader:
    """Everything of a scene but its columns."""

    taken_ns: int
    monotonic_ns: int
    source: str
    simulated: bool
    origin: Origin | None
    labels: tuple[str, ...]
    vcpus: int
    blocks: tuple[BlockShape, ...]
    gaps: tuple[Gap, ...]
    identities: tuple[VmIdentity, ...]
    machine: Machine
    why_not: Mapping[str, str]


def encode(scene: Scene) -> bytes:
    """The scene as bytes."""
    header = json.dumps(plain.dump(SceneHeader, _header(scene)), separators=(",", ":"), allow_nan=False).encode()
    parts = [_HEAD.pack(MAGIC, VERSION, len(header)), header]
    parts += [np.ascontiguousarray(column).astype("<u8", copy=False).tobytes() for column in _columns(scene.sample)]
    body = b"".join(parts)
    return body + _CRC.pack(zlib.crc32(body))


def decode(data: bytes) -> Scene:
    """The scene of ``encode``. Raises FormatError."""
    header, columns = _opened(data)
    words = _Columns(data, columns)
    vms = Vms(
        words.unsigned(len(header.labels)),
        words.signed(len(header.labels)),
        words.signed(len(header.labels)),
        header.labels,
    )
    vcpus = Vcpus(words.rows(header.vcpus, len(vms)), words.signed(header.vcpus), words.signed(header.vcpus))
    blocks = tuple(_block(shape, words, vms, vcpus) for shape in header.blocks)
    words.end()
    if len(header.identities) != len(vms):
        raise FormatError("scene", offset=0, expected=f"{len(vms)} identities", got=str(len(header.identities)))
    if not (0 <= header.taken_ns < _MAX_NS and 0 <= header.monotonic_ns < _MAX_NS):
        raise FormatError("scene time", offset=_HEAD.size, expected="nanoseconds of 63 bits", got=str(header.taken_ns))
    sample = Sample(
        taken_ns=header.taken_ns,
        monotonic_ns=header.monotonic_ns,
        source=header.source,
        simulated=header.simulated,
        vms=vms,
        vcpus=vcpus,
        blocks=blocks,
        gaps=header.gaps,
        origin=header.origin,
    )
    return Scene(sample, header.identities, header.machine, header.why_not)


def _header(scene: Scene) -> SceneHeader:
    sample = scene.sample
    return SceneHeader(
        taken_ns=sample.taken_ns,
        monotonic_ns=sample.monotonic_ns,
        source=sample.source,
        simulated=sample.simulated,
        origin=sample.origin,
        labels=sample.vms.label,
        vcpus=len(sample.vcpus),
        blocks=tuple(BlockShape(block.schema, len(block.rows)) for block in sample.blocks),
        gaps=sample.gaps,
        identities=scene.identities,
        machine=scene.machine,
        why_not=scene.why_not,
    )


def _columns(sample: Sample) -> Iterator[U64Array | I64Array]:
    yield from (sample.vms.id, sample.vms.pid, sample.vms.created_ns)
    yield from (sample.vcpus.vm, sample.vcpus.id, sample.vcpus.tid)
    for block in sample.blocks:
        yield from (block.rows, block.values)


def _opened(data: bytes) -> tuple[SceneHeader, int]:
    """The header, and where the columns begin."""
    if len(data) < _HEAD.size + _CRC.size or not data.startswith(MAGIC):
        raise FormatError("scene", offset=0, expected=MAGIC.decode(), got=repr(data[: len(MAGIC)]))
    _, version, length = _HEAD.unpack_from(data)
    if version != VERSION:
        raise FormatError("scene version", offset=len(MAGIC), expected=str(VERSION), got=str(version))
    [crc] = _CRC.unpack_from(data, len(data) - _CRC.size)
    if crc != zlib.crc32(memoryview(data)[: -_CRC.size]):
        raise FormatError("scene checksum", offset=len(data) - _CRC.size, expected="that of the bytes", got=f"{crc:#x}")
    return _parsed(data[_HEAD.size : _HEAD.size + length]), _HEAD.size + length


def _parsed(text: bytes) -> SceneHeader:
    try:
        value: Any = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError("scene header", offset=_HEAD.size, expected="JSON", got=f"{error!s:.60}") from None
    header: SceneHeader = plain.load(SceneHeader, value, what="scene header", offset=_HEAD.size)
    return header


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class _Columns:
    """Takes columns off the bytes behind the header, one after another."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._at = start

    def unsigned(self, count: int) -> U64Array:
        size = count * _WORD
        if count < 0 or self._at + size > len(self._data) - _CRC.size:
            raise FormatError("scene column", offset=self._at, expected=f"{count} words", got="fewer bytes")
        found = np.frombuffer(self._data, "<u8", count, self._at).astype(np.uint64, copy=False)
        self._at += size
        return found

    def signed(self, count: int) -> I64Array:
        return self.unsigned(count).view(np.int64)

    def rows(self, count: int, limit: int) -> I64Array:
        """Row numbers of a table of ``limit`` rows, ascending."""
        start = self._at
        found = self.signed(count)
        if count and (found[0] < 0 or found[-1] >= limit or bool((np.diff(found) < 0).any())):
            raise FormatError("scene rows", offset=start, expected=f"ascending rows below {limit}", got="others")
        return found

    def end(self) -> None:
        if self._at != len(self._data) - _CRC.size:
            raise FormatError("scene", offset=self._at, expected="its end", got="more bytes")


def _block(shape: BlockShape, words: _Columns, vms: Vms, vcpus: Vcpus) -> Block:
    schema = shape.schema
    _check(schema)
    rows = words.rows(shape.subjects, len(vms) if schema.scope.value == "vm" else len(vcpus))
    values = words.unsigned(shape.subjects * schema.words).reshape(shape.subjects, schema.words)
    return Block(schema, values, rows)


def _check(schema: Schema) -> None:
    """A schema whose stats lie within its data, as every reader of a block takes for granted."""
    if not 0 <= schema.data_size < _MAX_DATA or schema.data_size % _WORD:
        raise FormatError("scene schema", offset=_HEAD.size, expected="whole words", got=f"{schema.data_size} bytes")
    for stat in schema.descriptors:
        is_placed = stat.offset >= 0 and stat.offset % _WORD == 0 and stat.size >= 1
        is_within = is_placed and stat.offset + stat.size * _WORD <= schema.data_size
        if not is_within or stat.bucket_size < 0 or abs(stat.exponent) >= _MAX_EXPONENT:
            expected = "stats within its data"
            raise FormatError("scene schema", offset=_HEAD.size, expected=expected, got=f"{stat.name!r:.40}")
