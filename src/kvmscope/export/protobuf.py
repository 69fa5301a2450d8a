"""Series as ``io.prometheus.client.MetricFamily`` messages, each after its length; log histograms as native ones.

The messages of a stat for ten thousand vCPUs differ only in labels and one number. So the messages of all subjects are
laid out once, and a scrape fills in its numbers.

A native histogram of schema 0 has the bounds 2**k. KVM counts whole nanoseconds in [2**(k-1), 2**k), Prometheus in
(2**(k-1), 2**k]: bucket k is bucket k, and only values that are a power of two stand one bucket too low. KVM's last
bucket has no upper bound; it is written as the bucket of its number.

Source: client_model, io/prometheus/client/metrics.proto; Prometheus, "Native histograms".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final

import numpy as np
import numpy.typing as npt

from ..analysis.bucket_bounds import bucket_bounds
from ..catalog.series_names import Family, FamilyType, native_family
from ..sample import I64Array
from ..schema import Base, Kind, Unit
from .labels import LabelSets, encodable
from .numbers import value_floats
from .series import HistogramSeries, NumberSeries, Series, StatSeries

CONTENT_TYPE: Final = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

_Bytes = npt.NDArray[np.uint8]

_TYPE_NUMBERS: Final = {
    FamilyType.COUNTER: 0,
    FamilyType.GAUGE: 1,
    FamilyType.UNKNOWN: 3,
    FamilyType.HISTOGRAM: 4,
}
# The fields of Metric: label 1, gauge 2, counter 3, untyped 5, histogram 7.
_VALUE_FIELDS: Final = {FamilyType.COUNTER: 3, FamilyType.GAUGE: 2, FamilyType.UNKNOWN: 5}
_HISTOGRAM_FIELD: Final = 7
_METRIC: Final = 4
_VARINT, _FIXED64, _LENGTH = 0, 1, 2
_ROWS_A_PIECE: Final = 2048


def write_protobuf(series: Iterable[Series]) -> Iterator[bytes]:
    """The messages, in pieces. ``series`` has the series of one family next to each other."""
    for family, parts in groupby(series, key=_family):
        pieces = [piece for part in parts for piece in _metrics(part)]
        head = _head(family)
        yield varint(len(head) + sum(map(len, pieces))) + head
        yield from pieces


def _family(series: Series) -> Family:
    return native_family(series.family) if is_native(series) else series.family


def is_native(series: Series) -> bool:
    """Whether its buckets are powers of two of nanoseconds or of the unit itself."""
    if not isinstance(series, HistogramSeries):
        return False
    stat = series.descriptor
    if stat.kind is not Kind.LOG_HISTOGRAM or stat.size < 2:
        return False
    is_of_ns = stat.unit is Unit.SECONDS and (stat.base, stat.exponent) == (Base.POW10, -9)
    return is_of_ns or (stat.unit is not Unit.SECONDS and stat.exponent == 0)


def _head(family: Family) -> bytes:
    return (
        _text_field(1, family.sample_name)
        + _text_field(2, family.help)
        + varint(3 << 3 | _VARINT)
        + varint(_TYPE_NUMBERS[family.type])
    )


def _metrics(series: Series) -> Iterator[bytes]:
    if isinstance(series, HistogramSeries):
        for first in range(0, len(series.rows), _ROWS_A_PIECE):
            chosen = slice(first, first + _ROWS_A_PIECE)
            yield _native_metrics(series, chosen) if is_native(series) else _classic_metrics(series, chosen)
    else:
        yield _value_metrics(series)


# --- one number per subject -------------------------------------------------------------------------------------------


def _value_metrics(series: StatSeries | NumberSeries) -> bytes:
    """The message of every subject; the layout is reused, only the numbers are new."""
    layout = _layout(series.subjects, series.rows.tobytes(), _VALUE_FIELDS[series.family.type])
    numbers = (
        value_floats(series.descriptor, series.words)
        if isinstance(series, StatSeries)
        else np.array(series.numbers, dtype=np.float64)
    )
    return layout.filled(numbers)


class _Layout:
    """The messages of some subjects, with space for their numbers."""

    def __init__(self, subjects: LabelSets, rows: Sequence[int], field: int) -> None:
        value = bytes([field << 3 | _LENGTH, 9, 1 << 3 | _FIXED64]) + bytes(8)
        messages = [_message(_METRIC, labels + value) for labels in map(_label_bytes(subjects).__getitem__, rows)]
        self._bytes = np.frombuffer(b"".join(messages), dtype=np.uint8)
        ends = np.cumsum([len(message) for message in messages], dtype=np.int64)
        self._places = ends[:, np.newaxis] + np.arange(-8, 0)

    def filled(self, numbers: npt.NDArray[np.float64]) -> bytes:
        filled = self._bytes.copy()
        filled[self._places] = np.ascontiguousarray(numbers, dtype="<f8").view(np.uint8).reshape(-1, 8)
        return filled.tobytes()


@lru_cache(maxsize=32)
def _layout(subjects: LabelSets, rows: bytes, field: int) -> _Layout:
    return _Layout(subjects, np.frombuffer(rows, dtype=np.int64).tolist(), field)


@lru_cache(maxsize=16)
def _label_bytes(subjects: LabelSets) -> tuple[bytes, ...]:
    """The labels of each subject as fields of its message, without empty labels."""
    return tuple(
        b"".join(
            _message(1, _text_field(1, name) + _text_field(2, value))
            for name, value in zip(subjects.names, row, strict=True)
            if value
        )
        for row in subjects.rows
    )


# --- histograms -------------------------------------------------------------------------------------------------------


def _native_metrics(series: HistogramSeries, chosen: slice) -> bytes:
    """The native histograms: buckets from 1 on as one span of differences; bucket 0 is the count of zeros."""
    words = series.words[chosen].astype(np.int64)
    deltas = np.diff(words[:, 1:], axis=1, prepend=np.int64(0))
    zigzag = ((deltas << 1) ^ (deltas >> 63)).view(np.uint64)
    encoded, lengths = varints(zigzag)
    ends = np.cumsum(lengths.sum(axis=1))
    packed = encoded.tobytes()
    span = _message(12, varint(1 << 3) + varint(_zigzag(1)) + varint(2 << 3) + varint(words.shape[1] - 1))
    schema = varint(5 << 3) + varint(_zigzag(0)) + varint(6 << 3 | _FIXED64) + bytes(8)
    labels = _label_bytes(series.subjects)
    rows = zip(
        series.rows[chosen].tolist(),
        words.sum(axis=1).tolist(),
        _sums(series, chosen, in_raw_units=True),
        words[:, 0].tolist(),
        [0, *ends[:-1].tolist()],
        ends.tolist(),
        strict=True,
    )
    messages = []
    for row, count, sum_, zeros, begin, end in rows:
        body = b"".join((
            b"\x08", varint(count), b"\x11", sum_, schema, b"\x38", varint(zeros), span,
            b"\x6a", varint(end - begin), packed[begin:end],
        ))  # fmt: skip
        messages.append(_message(_METRIC, labels[row] + _message(_HISTOGRAM_FIELD, body)))
    return b"".join(messages)


def _classic_metrics(series: HistogramSeries, chosen: slice) -> bytes:
    bounds = [struct.pack("<d", float(bound)) for bound in bucket_bounds(series.descriptor)]
    cumulative = np.cumsum(series.words[chosen], axis=1, dtype=np.uint64).tolist()
    labels = _label_bytes(series.subjects)
    messages = []
    sums = _sums(series, chosen, in_raw_units=False)
    for row, counts, sum_ in zip(series.rows[chosen].tolist(), cumulative, sums, strict=True):
        buckets = b"".join(
            _message(3, b"\x08" + varint(count) + b"\x11" + bound) for count, bound in zip(counts, bounds, strict=True)
        )
        body = b"\x08" + varint(counts[-1]) + b"\x11" + sum_ + buckets
        messages.append(_message(_METRIC, labels[row] + _message(_HISTOGRAM_FIELD, body)))
    return b"".join(messages)


def _sums(series: HistogramSeries, chosen: slice, *, in_raw_units: bool) -> list[bytes]:
    """The sum of each histogram as a double; NaN if the kernel does not have it, as 0 would be a valid sum."""
    if series.sums is None or series.sum_descriptor is None:
        return [struct.pack("<d", float("nan"))] * len(series.rows[chosen])
    sums = series.sums[chosen]
    numbers = sums.astype(np.float64) if in_raw_units else value_floats(series.sum_descriptor, sums)
    packed = np.ascontiguousarray(numbers, dtype="<f8").tobytes()
    return [packed[place : place + 8] for place in range(0, len(packed), 8)]


# --- the wire ---------------------------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    """The encoding of a whole number from 0 on: seven bits per byte, the lowest first."""
    if number < 0x80:
        return _ONE_BYTE[number]
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def varints(numbers: npt.NDArray[np.uint64]) -> tuple[_Bytes, I64Array]:
    """The encodings of many numbers: their bytes one after another, and their lengths in the shape of ``numbers``."""
    flat = numbers.ravel()
    largest = int(flat.max(initial=0))
    width = max(1, -(-largest.bit_length() // 7))
    groups = np.empty((len(flat), width), dtype=np.uint8)
    lengths = np.ones(len(flat), dtype=np.int64)
    for place in range(width):
        rest = flat >> np.uint64(7 * place)
        groups[:, place] = (rest & np.uint64(0x7F)).astype(np.uint8)
        if place:
            is_there = rest != 0
            lengths += is_there
            groups[:, place - 1] |= is_there.astype(np.uint8) << np.uint8(7)
    return groups[np.arange(width) < lengths[:, np.newaxis]], lengths.reshape(numbers.shape)


_ONE_BYTE: Final = tuple(bytes([number]) for number in range(0x80))


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def _message(field: int, body: bytes) -> bytes:
    return varint(field << 3 | _LENGTH) + varint(len(body)) + body


def _text_field(field: int, text: str) -> bytes:
    return _message(field, encodable(text).encode())
