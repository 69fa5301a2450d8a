"""A scene as bytes: a header in JSON, the columns of numbers behind it, and a checksum.

    8 bytes   ``KVMSCENE``
    u32       version of this layout, 1
    u32       length of the header
    header    JSON: everything but the columns, and the shape of each block
    columns   u64 and i64, little endian, as in ``columns``
    u32       CRC-32 of all bytes before it

Rule: ``decode(encode(scene)) == scene`` in everything that is read of it. On any bytes, ``decode`` returns a scene or
raises FormatError, nothing else. Recordings store scenes in their own columns (``store``); this format is for one
scene.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..codec import plain
from ..errors import FormatError
from ..host.facts import Machine
from ..sample import Gap
from .columns import BlockShape, SampleHead, decode_sample, encode_columns
from .moment import Scene, VmIdentity

MAGIC = b"KVMSCENE"
VERSION = 1

_HEAD = struct.Struct("<8sII")
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class SceneHeader(SampleHead):
    """A scene without its columns."""

    blocks: tuple[BlockShape, ...]
    gaps: tuple[Gap, ...]
    identities: tuple[VmIdentity, ...]
    machine: Machine
    why_not: Mapping[str, str]


def encode(scene: Scene) -> bytes:
    """The scene as bytes."""
    header = json.dumps(plain.dump(SceneHeader, _header(scene)), separators=(",", ":"), allow_nan=False).encode()
    body = b"".join([_HEAD.pack(MAGIC, VERSION, len(header)), header, *encode_columns(scene.sample)])
    return body + _CRC.pack(zlib.crc32(body))


def decode(data: bytes) -> Scene:
    """The scene encoded by ``encode``. Raises FormatError."""
    header, start = _opened(data)
    sample = decode_sample(header, header.blocks, header.gaps, data, start=start, end=len(data) - _CRC.size)
    if len(header.identities) != len(sample.vms):
        expected = f"{len(sample.vms)} identities"
        raise FormatError("scene", offset=0, expected=expected, got=str(len(header.identities)))
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


def _opened(data: bytes) -> tuple[SceneHeader, int]:
    """The header, and the offset of the columns."""
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
