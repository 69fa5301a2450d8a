"""Laws of the stats file codec over generated files and bytes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.codec.statsfile import Description, StatsFile, build, encode, parse, parse_description, place, violations
from kvmscope.errors import FormatError
from kvmscope.schema import Base, Descriptor, Kind, Unit, Unknown

CAPTURED = Path(__file__).parent.parent / "data" / "statsfile"
REAL = [path.read_bytes() for path in sorted(CAPTURED.glob("*.bin"))]

Word = TypeVar("Word", Kind, Unit, Base)

BYTE_ORDERS: list[Literal["little", "big"]] = ["little", "big"]


def texts(*, most_bytes: int, least_bytes: int) -> st.SearchStrategy[str]:
    """Any text that bytes without NUL can stand for, valid UTF-8 or not."""
    raw = st.binary(min_size=least_bytes, max_size=most_bytes).filter(lambda value: b"\0" not in value)
    return raw.map(lambda value: value.decode("utf-8", "surrogateescape"))


def words_of(enum: type[Word]) -> st.SearchStrategy[Word | Unknown]:
    """A word of the enum, or a number that has none."""
    return st.sampled_from(enum) | st.integers(len(enum), 15).map(Unknown)


@st.composite
def descriptor_lists(draw: st.DrawFn, name_size: int) -> tuple[Descriptor, ...]:
    """Descriptors with names of their own, placed in any order and with holes between them."""
    names = draw(st.lists(texts(least_bytes=1, most_bytes=name_size - 1), unique=True, max_size=6))
    descriptors = []
    for name in names:
        kind = draw(words_of(Kind))
        descriptors.append(
            Descriptor(
                name,
                kind,
                draw(words_of(Unit)),
                draw(words_of(Base)),
                exponent=draw(st.integers(-(2**15), 2**15 - 1)),
                size=draw(st.integers(1, 40)),
                bucket_size=draw(st.integers(int(kind is Kind.LINEAR_HISTOGRAM), 2**32 - 1)),
                offset=8 * draw(st.integers(0, 40)),
                reserved_flags=draw(st.integers(0, 2**20 - 1)) << 12,
            )
        )
    return tuple(descriptors)


@st.composite
def stats_files(draw: st.DrawFn) -> StatsFile:
    """Any stats file: blocks in any order with gaps, any name size, undescribed words, both byte orders."""
    name_size = draw(st.integers(2, 80))
    descriptors = draw(descriptor_lists(name_size))
    described = max((d.offset + 8 * d.size for d in descriptors), default=0)
    order = draw(st.permutations(["id", "desc", "data"]))
    # The data reach to the next block that is not empty, so they may stop within a word only at the end of the file,
    # and no gap may follow them or an empty block.
    extra = draw(st.integers(0, 30)) if order[-1] == "data" else 8 * draw(st.integers(0, 4))
    sizes = {"id": name_size, "desc": len(descriptors) * (16 + name_size), "data": described + extra}
    places: dict[str, int] = {}
    end = 24
    for block in order:
        places[block] = end
        gap = 0 if block == "data" or not sizes[block] else 8 * draw(st.integers(0, 3))
        end += -(-sizes[block] // 8) * 8 + gap
    return StatsFile(
        Description(
            id=draw(texts(least_bytes=0, most_bytes=name_size - 1)),
            descriptors=descriptors,
            name_size=name_size,
            flags=draw(st.integers(0, 2**32 - 1)),
            id_offset=places["id"],
            desc_offset=places["desc"],
            data_offset=places["data"],
            byteorder=draw(st.sampled_from(BYTE_ORDERS)),
        ),
        draw(st.binary(min_size=sizes["data"], max_size=sizes["data"])),
    )


@given(stats_files())
def test_what_is_encoded_is_read_back_the_same(file: StatsFile) -> None:
    encoded = encode(file)
    assert parse(encoded) == file
    assert parse_description(encoded) == file.description


@given(stats_files())
def test_values_are_the_words_at_the_offset_of_their_descriptor(file: StatsFile) -> None:
    words = file.words()
    for descriptor in file.description.descriptors:
        first = descriptor.offset // 8
        value = file[descriptor.name]
        if descriptor.bit is not None:
            assert value is bool(int(words[first]) >> descriptor.bit & 1)
            continue
        assert np.array_equal(np.atleast_1d(np.array(value, np.uint64)), words[first : first + descriptor.size])


@given(stats_files())
def test_the_byte_order_changes_no_value(file: StatsFile) -> None:
    description = file.description
    swapped_data = np.frombuffer(file.data[: len(file.data) // 8 * 8], np.uint64).byteswap().tobytes()
    read = {}
    for byteorder, data in zip(BYTE_ORDERS, (file.data, swapped_data), strict=True):
        same = build(description.id, description.descriptors, data=data, byteorder=byteorder)
        read[byteorder] = StatsFile(same.description, same.data)
    for descriptor in description.descriptors:
        assert read["little"][descriptor.name] == read["big"][descriptor.name]


@given(stats_files())
def test_placed_descriptors_share_no_words(file: StatsFile) -> None:
    placed = place(file.description.descriptors)
    words = {d.offset + 8 * i for d in placed for i in range(d.size)}
    assert sorted(words) == list(range(0, 8 * len(words), 8))
    assert not [line for line in violations(build("kvm-1", placed).description) if "shares words" in line]


def parse_or_format_error(data: bytes) -> StatsFile | None:
    try:
        return parse(data)
    except FormatError:
        return None


@given(st.sampled_from(REAL), st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), min_size=1, max_size=8))
def test_flipped_bytes_of_a_real_file_are_read_or_a_format_error(real: bytes, flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(real)
    for at, mask in flips:
        damaged[at % len(real)] ^= mask
    file = parse_or_format_error(bytes(damaged))
    if file is not None:
        assert parse(encode(file)) == file


@given(st.sampled_from(REAL), st.data())
def test_flips_in_the_header_of_a_real_file_are_read_or_a_format_error(real: bytes, data: st.DataObject) -> None:
    header = data.draw(st.binary(min_size=24, max_size=24))
    keep = data.draw(st.lists(st.booleans(), min_size=24, max_size=24))
    damaged = bytes(old if kept else new for old, new, kept in zip(real, header, keep, strict=False)) + real[24:]
    file = parse_or_format_error(damaged)
    if file is not None:
        assert parse(encode(file)) == file


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_a_format_error(data: bytes) -> None:
    file = parse_or_format_error(data)
    if file is not None:
        assert parse(encode(file)) == file


@given(stats_files(), st.data())
def test_a_generated_file_cut_before_its_described_data_end_is_a_format_error(
    file: StatsFile, data: st.DataObject
) -> None:
    encoded = encode(file)
    described_end = file.description.data_offset + file.description.described_size
    blocks_end = max(
        file.description.id_offset + file.description.name_size,
        file.description.desc_offset + len(file.description.descriptors) * (16 + file.description.name_size),
        described_end,
    )
    length = data.draw(st.integers(0, blocks_end - 1))
    assert parse_or_format_error(encoded[:length]) is None


def test_every_single_bit_of_a_real_header_may_flip() -> None:
    for real, bit in itertools.product(REAL, range(24 * 8)):
        damaged = bytearray(real)
        damaged[bit // 8] ^= 1 << bit % 8
        file = parse_or_format_error(bytes(damaged))
        assert file is None or file.description.byteorder == parse(real).description.byteorder
