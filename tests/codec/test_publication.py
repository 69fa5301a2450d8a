"""The publication block: its bytes, its law (a PublicationBlock or a FormatError), and its place in a stats file."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.codec import publication, statsfile
from kvmscope.codec.publication import MEANING_LIMIT, NAME_LIMIT, PublicationBlock
from kvmscope.errors import FormatError
from kvmscope.schema import Descriptor, Kind, Scope, StatNote, Tier

EMPTY = statsfile.encode(statsfile.build("", (Descriptor("exits", Kind.CUMULATIVE),)))

publications = st.builds(
    PublicationBlock,
    provider=st.text(st.characters(codec="ascii"), max_size=32),
    vm=st.text(max_size=60),
    key=st.integers(0, 2**64 - 1),
    vcpu=st.none() | st.integers(0, 2**63 - 1),
    owner_start=st.integers(0, 2**64 - 1),
    created_ns=st.integers(-1, 2**63 - 1),
    simulated=st.booleans(),
    live=st.booleans(),
    notes=st.just(()) | st.tuples(st.builds(StatNote, st.text(max_size=80), st.none() | st.sampled_from(Tier))),
)


@given(publications)
def test_what_is_encoded_is_parsed_back(about: PublicationBlock) -> None:
    assert publication.parse(publication.encode(about, EMPTY, file_id="x")) == about


@given(publications, st.binary(min_size=8, max_size=8))
def test_readers_of_the_kernels_format_see_the_same_stats_file(about: PublicationBlock, data: bytes) -> None:
    plain = statsfile.encode(statsfile.build("", (Descriptor("exits", Kind.CUMULATIVE),), data=data))
    seen = statsfile.parse(publication.encode(about, plain, file_id="disk-1/vcpu-0"))
    assert seen.description.id == "disk-1/vcpu-0"
    assert seen.description.descriptors == statsfile.parse(plain).description.descriptors
    assert seen.data == data


@given(st.binary(max_size=200))
def test_any_bytes_are_a_publication_or_a_format_error(tail: bytes) -> None:
    for data in (tail, EMPTY[:24] + tail, EMPTY[:24] + b"kvmscope" + tail):
        try:
            publication.parse(data)
        except FormatError as error:
            assert 0 <= error.offset <= max(len(data), 24)


def test_the_layout_is_the_one_in_the_docs() -> None:
    about = PublicationBlock("disk", "web-1", key=7, vcpu=3, owner_start=99, created_ns=5, simulated=True)
    raw = publication.encode(about, EMPTY, file_id="x")
    assert raw[24:32] == b"kvmscope"
    assert struct.unpack_from("=II", raw, 32) == (1, 80)
    assert struct.unpack_from("=QQQqq", raw, 40) == (1, 7, 99, 5, 3)
    assert struct.unpack_from("=IHH", raw, 80) == (1, 4, 5)
    assert raw[88:97] == b"diskweb-1"
    assert publication.LIVE_AT == 40
    assert publication.SIZE_AT == 36


NOTED = PublicationBlock("disk", "web-1", key=7, notes=(StatNote("Requests, all of them.", Tier.STABLE),))


def test_notes_stand_between_the_names_and_the_end_of_the_block() -> None:
    raw = publication.encode(NOTED, EMPTY, file_id="x")
    assert struct.unpack_from("=I", raw, 80) == (2,)
    assert struct.unpack_from("=BBH", raw, 104) == (2, 0, 22)
    assert raw[108:130] == b"Requests, all of them."
    assert struct.unpack_from("=I", raw, 36) == (112,)


def test_a_reader_of_the_first_version_skips_notes() -> None:
    """Names by their lengths, all else by the header: such a reader never looks at what stands between."""
    raw, plain = (publication.encode(each, EMPTY, file_id="x") for each in (NOTED, replace(NOTED, notes=())))
    for data in (raw, plain):
        provider, vm = struct.unpack_from("=HH", data, 84)
        (size,) = struct.unpack_from("=I", data, 36)
        assert (data[88 : 88 + provider], data[88 + provider : 88 + provider + vm]) == (b"disk", b"web-1")
        assert size % 8 == 0
        assert min(struct.unpack_from("=6I", data)[3:]) >= 24 + size
    seen, expected = statsfile.parse(raw), statsfile.parse(plain)
    assert (seen.description.descriptors, seen.data) == (expected.description.descriptors, expected.data)


@pytest.mark.parametrize("length", [23, MEANING_LIMIT, MEANING_LIMIT + 1, 2**16 - 1])
def test_a_meaning_that_goes_beyond_the_block_is_a_format_error(length: int) -> None:
    raw = bytearray(publication.encode(NOTED, EMPTY, file_id="x"))
    raw[106:108] = struct.pack("=H", length)
    if length <= 28:
        assert publication.parse(bytes(raw)).notes[0].meaning.startswith("Requests")
        return
    with pytest.raises(FormatError, match="meaning"):
        publication.parse(bytes(raw))


def test_more_stats_than_notes_is_a_format_error() -> None:
    stats = (Descriptor("a", Kind.CUMULATIVE), Descriptor("b", Kind.PEAK, offset=8))
    two = statsfile.encode(statsfile.build("", stats))
    notes = (StatNote("x" * 100), StatNote())
    raw = bytearray(publication.encode(replace(NOTED, notes=notes), two, file_id="x"))
    raw[106:108] = struct.pack("=H", 106)
    with pytest.raises(FormatError, match="a note for each stat"):
        publication.parse(bytes(raw))
    with pytest.raises(ValueError, match="2 notes for 1 stats"):
        publication.encode(replace(NOTED, notes=notes), EMPTY, file_id="x")


def test_a_tier_of_a_later_version_is_not_known_and_a_long_meaning_is_cut() -> None:
    raw = bytearray(publication.encode(NOTED, EMPTY, file_id="x"))
    raw[104] = 9
    assert publication.parse(bytes(raw)).notes == (StatNote("Requests, all of them."),)
    long = replace(NOTED, notes=(StatNote("ö" * 300, Tier.VOLATILE),))
    assert publication.parse(publication.encode(long, EMPTY, file_id="x")).notes[0].meaning == "ö" * 256


def test_the_scope_follows_from_the_vcpu() -> None:
    assert PublicationBlock("disk", "a", key=1).scope is Scope.VM
    assert PublicationBlock("disk", "a", key=1, vcpu=0).scope is Scope.VCPU


@pytest.mark.parametrize(
    ("offset", "change", "what"),
    [
        (24, b"kvmscopf", "b'kvmscope'"),
        (32, struct.pack("=I", 2), "version 1"),
        (36, struct.pack("=I", 65), "a multiple of 8"),
        (36, struct.pack("=I", 2**32 - 8), "a multiple of 8"),
        (36, struct.pack("=I", 64), "a multiple of 8"),
        (84, struct.pack("=H", NAME_LIMIT + 1), f"at most {NAME_LIMIT}"),
        (72, struct.pack("=q", -2), "a vCPU id or -1"),
        (12, struct.pack("=I", 96), "no block before byte 104"),
    ],
)
def test_each_broken_field_is_a_format_error(offset: int, change: bytes, what: str) -> None:
    raw = bytearray(publication.encode(PublicationBlock("disk", "web-1", key=7), EMPTY, file_id="x"))
    raw[offset : offset + len(change)] = change
    with pytest.raises(FormatError, match=what):
        publication.parse(bytes(raw))


def test_a_kernels_file_is_not_a_publication() -> None:
    with pytest.raises(FormatError):
        publication.parse(EMPTY)


def test_names_and_ids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 1024 bytes"):
        publication.encode(PublicationBlock("disk", "ö" * 513, key=1), EMPTY, file_id="x")
    with pytest.raises(ValueError, match="48 bytes where 47 fit"):
        publication.encode(PublicationBlock("disk", "a", key=1), EMPTY, file_id="x" * 48)
