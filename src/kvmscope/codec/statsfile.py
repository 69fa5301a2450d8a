"""The file behind KVM_GET_STATS_FD: bytes to descriptors and values, and back.

A header of six u32 gives the offsets of three blocks: an id string, the descriptors, and the data (u64 words). Blocks
may be in any order with gaps between them; docs/reference/format.md has the layout with offsets.

Elsewhere: opening or reading files (``sources``), what a stat means (``catalog``), bucket bounds
(``analysis.histogram``).

Rule: anything that would make a reader take wrong bytes as a value is fatal: on any bytes, a ``FormatError`` and
nothing else, in time and memory linear in their length. Harmless deviations are kept and reported: unknown numbers
(``Description.not_understood``) and broken promises (``violations``).

Byte order: the header has no mark for it. Each of its five sizes and offsets votes for the order in which it is the
smaller number; the majority wins, and a draw is little endian. Every number below 64 KiB except 0 votes correctly.
``name_size`` and the first two blocks of a kernel file are always below, so the majority is right for every kernel
file.

Source: Documentation/virt/kvm/api.rst 4.133, virt/kvm/binary_stats.c and include/uapi/linux/kvm.h, 5.14 to 7.3;
the kernel's selftest kvm_binary_stats_test.c for ``violations``. In 5.14 the word at +12 of a descriptor, later
``bucket_size``, was unused and there were no histograms; it is kept as read and has a meaning for linear histograms
only, so both layouts parse the same way. Booleans that share a word are kvmscope's extension:
docs/reference/bits.md.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeVar

from ..errors import FormatError
from ..schema import WORD_BITS, Base, Descriptor, Kind, Schema, Scope, Unit, Unknown

if TYPE_CHECKING:
    from ..sample import U64Array

ByteOrder: TypeAlias = Literal["little", "big"]
Value: TypeAlias = int | bool | tuple[int, ...]

KERNEL_NAME_SIZE = 48
"""``name_size`` of every kernel so far (KVM_STATS_NAME_SIZE)."""

_HEADER_SIZE = 24
_RECORD_SIZE = 16  # a descriptor before its name
_WORD = 8
_FILE_LIMIT = 2**32  # offsets are u32
_RESERVED_FLAGS = 0xFFFF_F000
_PREFIX: dict[ByteOrder, str] = {"little": "<", "big": ">"}

# The layout of fields: in the header, and in a descriptor.
_NAME_SIZE_AT, _ID_OFFSET_AT, _DESC_OFFSET_AT, _DATA_OFFSET_AT = 4, 12, 16, 20
_SIZE_AT, _OFFSET_AT, _BUCKET_SIZE_AT, _NAME_AT = 6, 8, 12, 16

_Word = TypeVar("_Word", Kind, Unit, Base)


def _words_for(enum: type[_Word]) -> tuple[_Word | Unknown, ...]:
    """The member for each number of four bits."""
    known = {member.value: member for member in enum}
    return tuple(known.get(code) or Unknown(code) for code in range(16))


_KINDS, _UNITS, _BASES = _words_for(Kind), _words_for(Unit), _words_for(Base)


@dataclass(frozen=True, slots=True)
class Description:
    """A stats file without its data. It never changes while the file is open.

    ``id`` and the names are untrusted text: bytes that are not UTF-8 become lone surrogates (``surrogateescape``).
    Offsets are in bytes from the start of the file, those of descriptors from the start of the data block.
    """

    id: str
    descriptors: tuple[Descriptor, ...]
    name_size: int
    flags: int
    id_offset: int
    desc_offset: int
    data_offset: int
    byteorder: ByteOrder

    @property
    def described_size(self) -> int:
        """Bytes of data that the descriptors cover, from the start of the data block."""
        return max((d.offset + _WORD * d.size for d in self.descriptors), default=0)

    @property
    def not_understood(self) -> tuple[Descriptor, ...]:
        """Descriptors with a type, unit or base that is unknown here; their values stay raw."""
        return tuple(d for d in self.descriptors if not d.is_understood)

    def schema(self, provider: str, scope: Scope, *, data_size: int | None = None) -> Schema:
        """These descriptors as a schema of ``provider``.

        ``data_size``: length of the data block in bytes, rounded down to whole words, if known; without it, the schema
        ends after the last descriptor's data. Raises FormatError if the block is shorter than described.
        """
        described = self.described_size
        size = described if data_size is None else data_size
        _check_data_size(self.data_offset, described, size)
        return Schema(provider, scope, self.descriptors, size - size % _WORD)


@dataclass(frozen=True, slots=True)
class StatsFile:
    """A stats file: its description and its data block as read.

    ``data`` is in the byte order of the file and includes words that no descriptor describes.
    """

    description: Description
    data: bytes

    def words(self) -> U64Array:
        """The data as native u64, shape (words,), without an incomplete word at its end; a view if the byte order is
        native."""
        import numpy as np  # not needed for descriptors alone, as when opening a source

        prefix = _PREFIX[self.description.byteorder]
        raw = np.frombuffer(self.data, dtype=f"{prefix}u8", count=len(self.data) // _WORD)
        return raw.astype(np.uint64, copy=False)

    def schema(self, provider: str, scope: Scope) -> Schema:
        """The schema of this file, which covers its whole data block."""
        return self.description.schema(provider, scope, data_size=len(self.data))

    def __getitem__(self, name: str) -> Value:
        """The raw value of one stat. Raises KeyError for an unknown name.

        A tuple for a histogram or a stat of several words; a bool for a boolean that is 0 or 1 (another number stays a
        number); else an int.
        """
        for descriptor in self.description.descriptors:
            if descriptor.name == name:
                return self._value(descriptor)
        raise KeyError(name)

    def _value(self, descriptor: Descriptor) -> Value:
        prefix = _PREFIX[self.description.byteorder]
        values = struct.unpack_from(f"{prefix}{descriptor.size}Q", self.data, descriptor.offset)
        if descriptor.is_histogram or descriptor.size > 1:
            return values
        value: int = values[0]
        if descriptor.bit is not None:
            return bool(value >> descriptor.bit & 1)
        return bool(value) if descriptor.is_boolean and value <= 1 else value


class _Header(NamedTuple):
    flags: int
    name_size: int
    num_desc: int
    id_offset: int
    desc_offset: int
    data_offset: int

    @property
    def stride(self) -> int:
        return _RECORD_SIZE + self.name_size


class _Block(NamedTuple):
    """One block of the file. ``said_at``: offset of the header field that locates it."""

    name: str
    start: int
    size: int
    said_at: int

    @property
    def end(self) -> int:
        return self.start + self.size


def parse(data: bytes) -> StatsFile:
    """Parse a whole stats file. Raises FormatError and nothing else if the bytes are not one.

    The data block extends to the next block, or to the end of the file if it is the last block.
    """
    description = parse_description(data)
    start, described = description.data_offset, description.described_size
    following = [b.start for b in _fixed_blocks(_header_of(description)) if b.size and b.start >= start]
    end = min(following, default=len(data))
    _check_data_size(start, described, end - start)
    return StatsFile(description, bytes(memoryview(data)[start:end]))


def parse_description(data: bytes) -> Description:
    """Parse only the description, from bytes with at least header, id and descriptors, to read it once for each file.

    Raises FormatError and nothing else if the bytes are not the start of a stats file.
    """
    if len(data) < _HEADER_SIZE:
        raise FormatError("header", offset=0, expected=f"{_HEADER_SIZE} bytes", got=f"{len(data)}")
    byteorder = _byte_order(data)
    header = _Header._make(struct.unpack_from(_PREFIX[byteorder] + "6I", data))
    blocks = _fixed_blocks(header)
    _check_header(header)
    for block in blocks:
        if block.end > len(data):
            expected = f"{block.size} bytes from byte {block.start}"
            raise FormatError(block.name, offset=block.said_at, expected=expected, got=f"a file of {len(data)}")
    _check_disjoint(blocks)
    descriptors = _parse_descriptors(data, header, byteorder)
    description = Description(
        id=_parse_text("id", data[header.id_offset : header.id_offset + header.name_size], at=header.id_offset),
        descriptors=descriptors,
        name_size=header.name_size,
        flags=header.flags,
        id_offset=header.id_offset,
        desc_offset=header.desc_offset,
        data_offset=header.data_offset,
        byteorder=byteorder,
    )
    data_block = _Block("data block", header.data_offset, description.described_size, _DATA_OFFSET_AT)
    _check_disjoint((*blocks, data_block))
    if data_block.end > _FILE_LIMIT:
        expected = f"an end below {_FILE_LIMIT}"
        raise FormatError("data block", offset=_DATA_OFFSET_AT, expected=expected, got=f"{data_block.end}")
    return description


def encode(stats_file: StatsFile) -> bytes:
    """The bytes of a stats file; ``parse(encode(x)) == x``.

    Raises FormatError if the result would break the format (blocks that overlap, a name that does not fit, …),
    ValueError if the format cannot represent ``stats_file`` (a number out of range, an ``Unknown`` that is known, …).
    """
    try:
        encoded = _pack(stats_file)
    except struct.error as error:
        raise ValueError(f"not representable in a stats file: {error}") from error
    different = _first_difference(stats_file, parse(encoded))
    if different:
        raise ValueError(f"not representable in a stats file: {different} would be read back otherwise")
    return encoded


def build(
    id: str,  # noqa: A002 - the field's name
    descriptors: Sequence[Descriptor],
    *,
    data: bytes | None = None,
    byteorder: ByteOrder = sys.byteorder,
    name_size: int = KERNEL_NAME_SIZE,
) -> StatsFile:
    """A stats file with blocks in the kernel's order: header, id, descriptors, data.

    The descriptors keep their own offsets (``place`` assigns them). ``data`` defaults to zero words.
    Nothing is checked before ``encode``.
    """
    desc_offset = _aligned(_HEADER_SIZE + name_size)
    description = Description(
        id=id,
        descriptors=tuple(descriptors),
        name_size=name_size,
        flags=0,
        id_offset=_HEADER_SIZE,
        desc_offset=desc_offset,
        data_offset=_aligned(desc_offset + len(descriptors) * (_RECORD_SIZE + name_size)),
        byteorder=byteorder,
    )
    return StatsFile(description, bytes(description.described_size) if data is None else data)


def place(descriptors: Sequence[Descriptor], *, start: int = 0) -> tuple[Descriptor, ...]:
    """The descriptors with consecutive offsets from ``start``, in the given order.

    Bits are packed into a word at the place of the first of them, and into further words as each is full; only their
    ``bucket_size`` is assigned.
    """
    placed: list[Descriptor] = []
    offset = start
    word, bit = start, WORD_BITS
    for descriptor in descriptors:
        if replace(descriptor, bucket_size=0).bit is not None:
            if bit == WORD_BITS:
                word, bit = offset, 0
                offset += _WORD
            placed.append(replace(descriptor, offset=word, bucket_size=bit))
            bit += 1
        else:
            placed.append(replace(descriptor, offset=offset))
            offset += _WORD * descriptor.size
    return tuple(placed)


def violations(description: Description) -> list[str]:
    """Promises of the interface that ``description`` breaks without misleading a reader, one line each; usually none.

    These are the assertions of the kernel's selftest and promises of api.rst, without those that ``parse`` enforces.
    """
    found = []
    if not description.id.startswith("kvm"):
        found.append(f"id {_shown(description.id)} does not start with 'kvm'")
    if description.flags:
        found.append(f"header flags are {description.flags:#x}, not 0")
    for descriptor in description.descriptors:
        found += [f"{_shown(descriptor.name)}: {text}" for text in _descriptor_violations(descriptor)]
    return found + [
        f"{_shown(name)}: shares words with {_shown(other)}" for name, other in shared(description.descriptors)
    ]


def _descriptor_violations(descriptor: Descriptor) -> Iterator[str]:
    for word, part in (("type", descriptor.kind), ("unit", descriptor.unit), ("base", descriptor.base)):
        if isinstance(part, Unknown):
            yield f"{word} {part.code} is not known"
    if descriptor.reserved_flags:
        yield f"reserved flag bits {descriptor.reserved_flags:#x} are set"
    if descriptor.unit in (Unit.NONE, Unit.BYTES, Unit.CYCLES) and descriptor.exponent < 0:
        yield f"exponent {descriptor.exponent} is negative for a count, bytes or cycles"
    if descriptor.unit is Unit.SECONDS and descriptor.exponent > 0:
        yield f"exponent {descriptor.exponent} is positive for seconds"
    if descriptor.is_boolean and descriptor.exponent:
        yield f"exponent {descriptor.exponent} is not 0 for a boolean"
    if descriptor.is_boolean and descriptor.kind is Kind.LOG_HISTOGRAM:
        yield "a boolean cannot be a log histogram"
    if descriptor.unit is Unit.BIT and descriptor.bit is None:
        yield "a bit is an instant of one word without an exponent, and one of 64"
    if descriptor.bucket_size and not (descriptor.kind is Kind.LINEAR_HISTOGRAM or descriptor.unit is Unit.BIT):
        yield f"bucket size {descriptor.bucket_size} on what is not a linear histogram"


def shared(descriptors: Iterable[Descriptor]) -> Iterator[tuple[str, str]]:
    """Pairs of stats, by name, the second of which shares words with the first; different bits of one word do not
    count."""
    end, owner = 0, ""
    bits: dict[int, str] = {}  # of the last word shared by bits
    word = -1
    for descriptor in sorted(descriptors, key=lambda d: d.offset):
        at, bit = descriptor.offset, descriptor.bit
        if bit is not None and at == word:
            if bit in bits:
                yield descriptor.name, bits[bit]
        elif at < end:
            yield descriptor.name, owner
        elif bit is not None:
            word, bits = at, {}
        if bit is not None:
            bits[bit] = descriptor.name
        if at + _WORD * descriptor.size > end:
            end, owner = at + _WORD * descriptor.size, descriptor.name


def _byte_order(data: bytes) -> ByteOrder:
    little, big = struct.unpack_from("<4x5I", data), struct.unpack_from(">4x5I", data)
    votes = sum((a < b) - (b < a) for a, b in zip(little, big, strict=True))
    return "little" if votes >= 0 else "big"


def _fixed_blocks(header: _Header) -> tuple[_Block, ...]:
    """The blocks whose size follows from the header alone."""
    return (
        _Block("header", 0, _HEADER_SIZE, 0),
        _Block("id block", header.id_offset, header.name_size, _ID_OFFSET_AT),
        _Block("descriptor block", header.desc_offset, header.num_desc * header.stride, _DESC_OFFSET_AT),
    )


def _header_of(description: Description) -> _Header:
    return _Header(
        flags=description.flags,
        name_size=description.name_size,
        num_desc=len(description.descriptors),
        id_offset=description.id_offset,
        desc_offset=description.desc_offset,
        data_offset=description.data_offset,
    )


def _check_header(header: _Header) -> None:
    if header.name_size == 0:
        raise FormatError("name size", offset=_NAME_SIZE_AT, expected="at least 1", got="0")
    places = (
        ("id offset", header.id_offset, _ID_OFFSET_AT),
        ("descriptor offset", header.desc_offset, _DESC_OFFSET_AT),
        ("data offset", header.data_offset, _DATA_OFFSET_AT),
    )
    for what, place_, said_at in places:
        if place_ % _WORD:
            raise FormatError(what, offset=said_at, expected="a multiple of 8", got=f"{place_}")


def _check_disjoint(blocks: tuple[_Block, ...]) -> None:
    """Check that no block begins inside another; an empty one may be at the edge of another."""
    in_order = sorted(blocks, key=lambda block: (block.start, block.end))
    for before, block in pairwise(in_order):
        if block.start < before.end:
            expected = f"a place outside the {before.name} ({before.start} to {before.end})"
            raise FormatError(block.name, offset=block.said_at, expected=expected, got=f"{block.start}")


def _check_data_size(data_offset: int, described: int, size: int) -> None:
    if size < described:
        got = f"{size} bytes" if size >= 0 else f"a file that ends at byte {data_offset + size}"
        raise FormatError("data block", offset=data_offset, expected=f"{described} bytes as described", got=got)


def _parse_descriptors(data: bytes, header: _Header, byteorder: ByteOrder) -> tuple[Descriptor, ...]:
    record = struct.Struct(f"{_PREFIX[byteorder]}IhHII{header.name_size}s")
    start = header.desc_offset
    block = memoryview(data)[start : start + header.num_desc * header.stride]
    descriptors: dict[str, Descriptor] = {}
    for index, raw in enumerate(record.iter_unpack(block)):
        at = start + index * header.stride
        descriptor = _parse_descriptor(raw, at)
        if descriptor.name in descriptors:
            got = f"a second {_shown(descriptor.name)}"
            raise FormatError("stat name", offset=at + _NAME_AT, expected="a unique name", got=got)
        descriptors[descriptor.name] = descriptor
    return tuple(descriptors.values())


def _parse_descriptor(raw: tuple[int, int, int, int, int, bytes], at: int) -> Descriptor:
    """One descriptor. ``raw``: its fields. ``at``: its offset in the file."""
    flags, exponent, size, offset, bucket_size, name = raw
    kind = _KINDS[flags & 15]
    if size == 0:
        raise FormatError("stat size", offset=at + _SIZE_AT, expected="at least 1 word", got="0")
    if offset % _WORD:
        raise FormatError("stat offset", offset=at + _OFFSET_AT, expected="a multiple of 8", got=f"{offset}")
    if kind is Kind.LINEAR_HISTOGRAM and bucket_size == 0:
        expected = "at least 1 for a linear histogram"
        raise FormatError("bucket size", offset=at + _BUCKET_SIZE_AT, expected=expected, got="0")
    text = _parse_text("stat name", name, at=at + _NAME_AT)
    if not text:
        raise FormatError("stat name", offset=at + _NAME_AT, expected="at least one character", got="none")
    return Descriptor(
        text,
        kind,
        _UNITS[flags >> 4 & 15],
        _BASES[flags >> 8 & 15],
        exponent,
        size,
        bucket_size,
        offset,
        flags & _RESERVED_FLAGS,
    )


def _parse_text(what: str, raw: bytes, *, at: int) -> str:
    end = raw.find(b"\0")
    if end < 0:
        raise FormatError(what, offset=at, expected=f"a NUL within {len(raw)} bytes", got="none")
    return raw[:end].decode("utf-8", "surrogateescape")


def _pack(stats_file: StatsFile) -> bytes:
    description = stats_file.description
    header = _header_of(description)
    prefix = _PREFIX[description.byteorder]
    encoded_header = struct.pack(prefix + "6I", *header)
    end = max(*(block.end for block in _fixed_blocks(header)), header.data_offset + len(stats_file.data))
    encoded = bytearray(end)
    encoded[:_HEADER_SIZE] = encoded_header
    struct.pack_into(f"{header.name_size}s", encoded, header.id_offset, _pack_text(description.id))
    record = struct.Struct(f"{prefix}IhHII{header.name_size}s")
    for index, descriptor in enumerate(description.descriptors):
        record.pack_into(encoded, header.desc_offset + index * header.stride, *_pack_descriptor(descriptor))
    encoded[header.data_offset : header.data_offset + len(stats_file.data)] = stats_file.data
    return bytes(encoded)


def _pack_descriptor(descriptor: Descriptor) -> tuple[int, int, int, int, int, bytes]:
    flags = _code(descriptor.kind) | _code(descriptor.unit) << 4 | _code(descriptor.base) << 8
    return (
        flags | descriptor.reserved_flags,
        descriptor.exponent,
        descriptor.size,
        descriptor.offset,
        descriptor.bucket_size,
        _pack_text(descriptor.name),
    )


def _code(part: Kind | Unit | Base | Unknown) -> int:
    code: int = part.code if isinstance(part, Unknown) else part.value
    return code


def _pack_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _first_difference(wanted: StatsFile, got: StatsFile) -> str | None:
    for field in fields(Description):
        if getattr(wanted.description, field.name) != getattr(got.description, field.name):
            return field.name
    return None if wanted.data == got.data else "data"


def _aligned(offset: int) -> int:
    return -(-offset // _WORD) * _WORD


def _shown(text: str) -> str:
    """Untrusted text for a message: quoted, escaped, and short."""
    return repr(text if len(text) <= 60 else text[:60] + "…")
