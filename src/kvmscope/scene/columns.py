"""The numbers of a scene as bytes, and back to a sample: for a scene in a file, and for journals.

The columns follow one another without padding, each value 8 bytes, little endian: ``id``, ``pid`` and ``created_ns`` of
the VMs; ``vm``, ``id`` and ``tid`` of the vCPUs; then for each block its ``rows`` and its ``values``. The rest of a
sample and the lengths of columns are stored elsewhere: in a ``SampleHead`` and the schemas of the blocks.

Rule: decoding bytes that are not a sample raises FormatError, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FormatError
from ..sample import Block, Gap, I64Array, Origin, Sample, U64Array, Vcpus, Vms
from ..schema import Schema, Scope

_WORD = 8
_MAX_NS = 1 << 63
_MAX_DATA = 1 << 32
_MAX_EXPONENT = 1 << 15  # as the kernel's descriptors have it


@dataclass(frozen=True, slots=True)
class SampleHead:
    """A sample without its columns, blocks and gaps. ``labels``: one for each VM. ``vcpus``: number of vCPUs."""

    taken_ns: int
    monotonic_ns: int
    source: str
    simulated: bool
    origin: Origin | None
    labels: tuple[str, ...]
    vcpus: int


@dataclass(frozen=True, slots=True)
class BlockShape:
    """The data needed to read the columns of a block: its schema and its number of subjects."""

    schema: Schema
    subjects: int


def encode_columns(sample: Sample) -> list[bytes]:
    """The columns of a sample in order."""
    return [np.ascontiguousarray(column).astype("<u8", copy=False).tobytes() for column in _columns(sample)]


def _columns(sample: Sample) -> Iterator[U64Array | I64Array]:
    yield from (sample.vms.id, sample.vms.pid, sample.vms.created_ns)
    yield from (sample.vcpus.vm, sample.vcpus.id, sample.vcpus.tid)
    for block in sample.blocks:
        yield from (block.rows, block.values)


def decode_sample(
    head: SampleHead, shapes: Sequence[BlockShape], gaps: tuple[Gap, ...], data: bytes, *, start: int, end: int
) -> Sample:
    """The sample whose columns are exactly the bytes from ``start`` to ``end``. Raises FormatError."""
    _check_times(head, start)
    columns = _ColumnReader(data, start, end)
    count = len(head.labels)
    vms = Vms(columns.unsigned(count), columns.signed(count), columns.signed(count), head.labels)
    vcpus = Vcpus(columns.rows(head.vcpus, count), columns.signed(head.vcpus), columns.signed(head.vcpus))
    subjects = {Scope.VM: count, Scope.VCPU: head.vcpus}
    blocks = tuple(_block(shape, columns, subjects[shape.schema.scope]) for shape in shapes)
    columns.end()
    return Sample(
        taken_ns=head.taken_ns,
        monotonic_ns=head.monotonic_ns,
        source=head.source,
        simulated=head.simulated,
        vms=vms,
        vcpus=vcpus,
        blocks=blocks,
        gaps=gaps,
        origin=head.origin,
    )


def check_schema(schema: Schema, offset: int = 0) -> None:
    """Check that the stats of a schema lie within its data, as every reader of a block assumes. Raises FormatError."""
    if not 0 <= schema.data_size < _MAX_DATA or schema.data_size % _WORD:
        raise FormatError("scene schema", offset=offset, expected="whole words", got=f"{schema.data_size} bytes")
    for stat in schema.descriptors:
        is_placed = stat.offset >= 0 and stat.offset % _WORD == 0 and stat.size >= 1
        is_within = is_placed and stat.offset + stat.size * _WORD <= schema.data_size
        if not is_within or stat.bucket_size < 0 or abs(stat.exponent) >= _MAX_EXPONENT:
            raise FormatError("scene schema", offset=offset, expected="stats within its data", got=f"{stat.name!r:.40}")


def _check_times(head: SampleHead, offset: int) -> None:
    if not (0 <= head.taken_ns < _MAX_NS and 0 <= head.monotonic_ns < _MAX_NS):
        raise FormatError("scene time", offset=offset, expected="nanoseconds of 63 bits", got=str(head.taken_ns))


def _block(shape: BlockShape, columns: _ColumnReader, limit: int) -> Block:
    check_schema(shape.schema, columns.at)
    rows = columns.rows(shape.subjects, limit)
    words = shape.schema.words
    values = columns.unsigned(shape.subjects * words).reshape(shape.subjects, words)
    return Block(shape.schema, values, rows)


class _ColumnReader:
    """Reads columns from bytes, one after the other. ``at``: start of the next one."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data = data
        self.at = start
        self._end = end

    def unsigned(self, count: int) -> U64Array:
        size = count * _WORD
        if count < 0 or self.at + size > self._end:
            raise FormatError("scene column", offset=self.at, expected=f"{count} words", got="fewer bytes")
        found = np.frombuffer(self._data, "<u8", count, self.at).astype(np.uint64, copy=False)
        self.at += size
        return found

    def signed(self, count: int) -> I64Array:
        return self.unsigned(count).view(np.int64)

    def rows(self, count: int, limit: int) -> I64Array:
        """Row numbers of a table of ``limit`` rows, ascending."""
        start = self.at
        found = self.signed(count)
        if count and (found[0] < 0 or found[-1] >= limit or bool((np.diff(found) < 0).any())):
            raise FormatError("scene rows", offset=start, expected=f"ascending rows below {limit}", got="others")
        return found

    def end(self) -> None:
        if self.at != self._end:
            raise FormatError("scene", offset=self.at, expected="its end", got="more bytes")
