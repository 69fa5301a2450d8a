"""The stats file codec on known bytes: real files of one kernel, hand-made ones, and bad ones."""

from __future__ import annotations

import itertools
import re
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kvmscope.codec.statsfile import (
    Description,
    StatsFile,
    build,
    encode,
    parse,
    parse_description,
    place,
    shared,
    violations,
)
from kvmscope.errors import FormatError
from kvmscope.schema import Base, Descriptor, Kind, Scope, Unit, Unknown

CAPTURED = Path(__file__).parent.parent / "data" / "statsfile"
VM = (CAPTURED / "x86-6.18-vm.bin").read_bytes()
VCPU = (CAPTURED / "x86-6.18-vcpu.bin").read_bytes()

# A whole file by hand, little endian, name size 8. docs/reference/format.md annotates the same bytes.
EXAMPLE = bytes.fromhex(
    "00000000"  # 0x00 flags
    "08000000"  # 0x04 name size: 8
    "02000000"  # 0x08 number of descriptors: 2
    "18000000"  # 0x0c id offset: 24
    "20000000"  # 0x10 descriptor offset: 32
    "50000000"  # 0x14 data offset: 80
    "6b766d2d37000000"  # 0x18 id: "kvm-7"
    "20000000"  # 0x20 flags: cumulative, seconds, powers of ten
    "f7ff"  # 0x24 exponent: -9
    "0100"  # 0x26 size: 1 word
    "08000000"  # 0x28 offset in the data: 8
    "00000000"  # 0x2c bucket size
    "776169745f6e7300"  # 0x30 name: "wait_ns"
    "03000000"  # 0x38 flags: linear histogram, no unit, powers of ten
    "0000"  # 0x3c exponent: 0
    "0200"  # 0x3e size: 2 words
    "10000000"  # 0x40 offset in the data: 16
    "64000000"  # 0x44 bucket size: 100
    "6465707468000000"  # 0x48 name: "depth"
    "ffffffffffffffff"  # 0x50 data, word 0: described by nothing
    "00ca9a3b00000000"  # 0x58 data, word 1: wait_ns, 1000000000
    "0500000000000000"  # 0x60 data, word 2: depth, first bucket: 5
    "0700000000000000"  # 0x68 data, word 3: depth, second bucket: 7
)


def test_every_field_of_the_example_is_read_from_its_place() -> None:
    wait = Descriptor("wait_ns", Kind.CUMULATIVE, Unit.SECONDS, Base.POW10, exponent=-9, offset=8)
    depth = Descriptor("depth", Kind.LINEAR_HISTOGRAM, size=2, bucket_size=100, offset=16)
    description = Description("kvm-7", (wait, depth), 8, 0, 24, 32, 80, "little")
    assert parse(EXAMPLE) == StatsFile(description, EXAMPLE[80:])
    assert parse_description(EXAMPLE[:80]) == description


def test_the_example_is_written_byte_for_byte() -> None:
    assert encode(parse(EXAMPLE)) == EXAMPLE


def test_the_example_stands_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| 0x([0-9a-f]{2}) \| `([0-9a-f]+)` \|", text, re.MULTILINE)
    assert b"".join(bytes.fromhex(row) for _, row in rows) == EXAMPLE
    ends = itertools.accumulate(len(row) // 2 for _, row in rows)
    assert [int(at, 16) for at, _ in rows] == [0, *ends][:-1]


def test_values_of_the_example() -> None:
    example = parse(EXAMPLE)
    assert example["wait_ns"] == 1_000_000_000
    assert example["depth"] == (5, 7)
    with pytest.raises(KeyError):
        example["no_such_stat"]


def test_a_big_endian_file_reads_as_the_same_numbers() -> None:
    little = parse(EXAMPLE)
    data = np.frombuffer(little.data, "<u8").astype(">u8").tobytes()
    big = encode(StatsFile(replace(little.description, byteorder="big"), data))
    assert big[:8] == bytes.fromhex("00000000 00000008")
    assert big[0x24:0x28] == bytes.fromhex("fff7 0001")
    read = parse(big)
    assert read.description == replace(little.description, byteorder="big")
    assert read["wait_ns"] == 1_000_000_000
    assert read["depth"] == (5, 7)
    assert read.words().tolist() == little.words().tolist()
    assert read.words().dtype == np.uint64


def test_real_vcpu_file_has_what_the_guest_did() -> None:
    file = parse(VCPU)
    assert file.description.id == "kvm-8677/vcpu-0"
    assert len(file.description.descriptors) == 45
    assert file["insn_emulation"] == 2002
    assert file["halt_exits"] == 1
    assert file["blocking"] is False
    waits = file["halt_wait_hist"]
    assert isinstance(waits, tuple)
    assert len(waits) == 32
    assert sum(waits) == file["signal_exits"] == 11
    assert not file.description.not_understood


def test_real_vm_file_is_keyed_by_offset_since_its_data_are_in_another_order() -> None:
    schema = parse(VM).schema("kvm", Scope.VM)
    assert schema.names[-2:] == ("max_mmu_rmap_size", "max_mmu_page_hash_collisions")
    assert schema["max_mmu_rmap_size"].offset > schema["max_mmu_page_hash_collisions"].offset
    assert schema.data_size == 120


@pytest.mark.parametrize("captured", [VM, VCPU], ids=["vm", "vcpu"])
def test_a_real_file_is_written_byte_for_byte_and_breaks_no_promise(captured: bytes) -> None:
    file = parse(captured)
    assert encode(file) == captured
    assert violations(file.description) == []


@pytest.mark.parametrize("captured", [VM, VCPU], ids=["vm", "vcpu"])
def test_every_truncation_of_a_real_file_is_a_format_error(captured: bytes) -> None:
    data_offset = parse(captured).description.data_offset
    for length in range(len(captured)):
        with pytest.raises(FormatError):
            parse(captured[:length])
        if length < data_offset:
            with pytest.raises(FormatError):
                parse_description(captured[:length])
        else:
            assert parse_description(captured[:length]) == parse(captured).description


def test_words_are_a_view_of_a_native_file() -> None:
    file = parse(VCPU)
    assert np.shares_memory(file.words(), np.frombuffer(file.data, np.uint8))


def test_undescribed_words_and_odd_bytes_at_the_end_are_kept() -> None:
    longer = VM + b"\x2a" + bytes(7) + b"odd"
    file = parse(longer)
    assert file.schema("kvm", Scope.VM).data_size == 128
    assert file.words()[-1] == 42
    assert file.data.endswith(b"odd")
    assert encode(file) == longer


def test_a_boolean_is_a_bool_and_any_other_number_in_its_place_stays_a_number() -> None:
    descriptors = place([Descriptor(name, Kind.INSTANT, Unit.BOOLEAN) for name in ("no", "yes", "odd")])
    file = build("kvm-1", descriptors, data=struct.pack("=3Q", 0, 1, 2))
    assert file["no"] is False
    assert file["yes"] is True
    assert (file["odd"], type(file["odd"])) == (2, int)


def test_a_bit_is_a_bool_whatever_else_its_word_holds() -> None:
    bits = place([Descriptor(name, Kind.INSTANT, Unit.BIT) for name in ("low", "high")])
    top = replace(bits[0], name="top", bucket_size=63)
    file = parse(encode(build("kvm-1", [*bits, top], data=struct.pack("=Q", 1 | 2**63))))
    assert [file[name] for name in ("low", "high", "top")] == [True, False, True]
    assert violations(file.description) == []


def test_a_bit_that_breaks_its_rules_is_kept_raw_and_reported() -> None:
    wide = Descriptor("wide", Kind.INSTANT, Unit.BIT, size=2)
    beyond = Descriptor("beyond", Kind.INSTANT, Unit.BIT, bucket_size=64, offset=16)
    file = parse(encode(build("kvm-1", [wide, beyond], data=struct.pack("=3Q", 1, 2, 3))))
    assert file.description.not_understood == (wide, beyond)
    assert (file["wide"], file["beyond"]) == ((1, 2), 3)
    assert [line.partition(": ")[2] for line in violations(file.description)] == [
        "a bit is an instant of one word without an exponent, and one of 64"
    ] * 2


def test_a_histogram_of_one_bucket_and_a_boolean_histogram_are_tuples_of_counts() -> None:
    one = Descriptor("one", Kind.LOG_HISTOGRAM)
    both = Descriptor("both", Kind.LINEAR_HISTOGRAM, Unit.BOOLEAN, size=2, bucket_size=1)
    file = build("kvm-1", place([one, both]), data=struct.pack("=3Q", 9, 0, 1))
    assert file["one"] == (9,)
    assert file["both"] == (0, 1)


def test_a_number_without_a_word_is_kept_raw_and_reported() -> None:
    odd = Descriptor("odd", Unknown(9), Unknown(6), Unknown(15), exponent=3, size=2, reserved_flags=0x8000_1000)
    plain = Descriptor("plain", Kind.CUMULATIVE, offset=16)
    file = parse(encode(build("kvm-1", [odd, plain], data=struct.pack("=3Q", 1, 2, 3))))
    assert file.description.not_understood == (odd,)
    assert file["odd"] == (1, 2)
    assert file["plain"] == 3
    reported = violations(file.description)
    assert [line.removeprefix("'odd': ") for line in reported] == [
        "type 9 is not known",
        "unit 6 is not known",
        "base 15 is not known",
        "reserved flag bits 0x80001000 are set",
    ]


def test_the_unused_word_of_a_5_14_descriptor_is_harmless() -> None:
    noisy = bytearray(VM)
    at = 72 + 12  # the first descriptor, where bucket_size stands since 5.15
    noisy[at : at + 4] = b"\xde\xad\xbe\xef"
    file = parse(bytes(noisy))
    assert file["mmu_cache_miss"] == parse(VM)["mmu_cache_miss"] == 4
    assert encode(file) == noisy
    assert violations(file.description) == [
        "'remote_tlb_flush': bucket size 4022250974 on what is not a linear histogram"
    ]


def test_bytes_that_are_not_utf_8_survive_in_names_and_id() -> None:
    name = b"\xff\x1b[31m".decode("utf-8", "surrogateescape")
    file = build(name, [Descriptor(name, Kind.PEAK)])
    encoded = encode(file)
    assert encoded.count(b"\xff\x1b[31m\0") == 2
    assert parse(encoded) == file
    assert all(text.isprintable() and text.isascii() for text in violations(file.description))


def test_a_file_without_stats_is_a_file() -> None:
    file = build("kvm-1", [])
    assert parse(encode(file)) == file
    assert file.description.described_size == 0
    assert file.words().shape == (0,)


def test_data_before_the_descriptors_reach_to_them() -> None:
    wait = Descriptor("wait", Kind.CUMULATIVE)
    description = Description("kvm-1", (wait,), 8, 0, 24, 48, 32, "little")
    data = struct.pack("<2Q", 4, 5)
    encoded = encode(StatsFile(description, data))
    assert encoded[32:48] == data
    assert parse(encoded) == StatsFile(description, data)


# --- what is not a stats file -----------------------------------------------------------------------------------------

HEADER_FIELDS = ("flags", "name_size", "num_desc", "id_offset", "desc_offset", "data_offset")


def with_header(**changes: int) -> bytes:
    """The example with some header fields changed."""
    header = dict(zip(HEADER_FIELDS, struct.unpack_from("<6I", EXAMPLE), strict=True)) | changes
    return struct.pack("<6I", *header.values()) + EXAMPLE[24:]


def with_bytes(at: int, new: bytes) -> bytes:
    return EXAMPLE[:at] + new + EXAMPLE[at + len(new) :]


BAD = {
    "nothing at all": (b"", 0, "24 bytes", "0"),
    "a header cut short": (EXAMPLE[:23], 0, "24 bytes", "23"),
    "no room for names": (with_header(name_size=0), 4, "at least 1", "0"),
    "an id past the end": (with_header(id_offset=4096), 0x0C, "8 bytes from byte 4096", "a file of 112"),
    "names larger than the file": (with_header(name_size=200), 0x0C, "200 bytes from byte 24", "a file of 112"),
    "descriptors past the end": (with_header(num_desc=4), 0x10, "96 bytes from byte 32", "a file of 112"),
    "2**32 - 1 descriptors": (
        with_header(num_desc=2**32 - 1),
        0x10,
        "103079215080 bytes from byte 32",
        "a file of 112",
    ),
    "data past the end": (with_header(data_offset=120), 120, "32 bytes as described", "a file that ends at byte 112"),
    "data shorter than described": (EXAMPLE[:-1], 80, "32 bytes as described", "31 bytes"),
    "an id inside the header": (with_header(id_offset=16), 0x0C, "a place outside the header (0 to 24)", "16"),
    "descriptors that begin at themselves": (
        with_header(desc_offset=0),
        0x10,
        "a place outside the header (0 to 24)",
        "0",
    ),
    "descriptors inside the header": (with_header(desc_offset=8), 0x10, "a place outside the header (0 to 24)", "8"),
    "data that are the header": (with_header(data_offset=0), 0x14, "a place outside the header (0 to 24)", "0"),
    "an id over the descriptors": (
        with_header(id_offset=40),
        0x0C,
        "a place outside the descriptor block (32 to 80)",
        "40",
    ),
    "data over the descriptors": (
        with_header(data_offset=72),
        0x14,
        "a place outside the descriptor block (32 to 80)",
        "72",
    ),
    "descriptors over the data": (
        with_header(num_desc=1, desc_offset=56, data_offset=32),
        0x10,
        "a place outside the data block (32 to 64)",
        "56",
    ),
    "an unaligned id": (with_header(id_offset=25), 0x0C, "a multiple of 8", "25"),
    "unaligned descriptors": (with_header(desc_offset=36), 0x10, "a multiple of 8", "36"),
    "unaligned data": (with_header(data_offset=81), 0x14, "a multiple of 8", "81"),
    "an id without NUL": (with_bytes(0x18, b"kvm-1234"), 0x18, "a NUL within 8 bytes", "none"),
    "a name without NUL": (with_bytes(0x30, b"wait_ns!"), 0x30, "a NUL within 8 bytes", "none"),
    "an empty name": (with_bytes(0x30, b"\0"), 0x30, "at least one character", "none"),
    "a name given twice": (with_bytes(0x48, b"wait_ns\0"), 0x48, "a unique name", "a second 'wait_ns'"),
    "a stat of no words": (with_bytes(0x26, b"\0\0"), 0x26, "at least 1 word", "0"),
    "an unaligned stat": (with_bytes(0x28, b"\x0c"), 0x28, "a multiple of 8", "12"),
    "a stat larger than the data": (with_bytes(0x26, b"\xff\xff"), 80, "524288 bytes as described", "32 bytes"),
    "a stat past 4 GiB": (
        with_bytes(0x28, b"\xf8\xff\xff\xff"),
        0x14,
        "an end below 4294967296",
        "4294967376",
    ),
    "a linear histogram without a bucket size": (
        with_bytes(0x44, bytes(4)),
        0x44,
        "at least 1 for a linear histogram",
        "0",
    ),
}


@pytest.mark.parametrize(("data", "offset", "expected", "got"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_a_format_error_with_its_evidence(data: bytes, offset: int, expected: str, got: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(data)
    assert (caught.value.offset, caught.value.expected, caught.value.got) == (offset, expected, got)


def test_a_header_that_claims_everything_costs_nothing() -> None:
    huge = with_header(num_desc=2**32 - 1, name_size=2**32 - 1)
    tracemalloc.start()
    with pytest.raises(FormatError):
        parse(huge)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_names_as_large_as_the_file_cost_no_more_than_the_file() -> None:
    size = 1 << 20
    one_name = struct.pack("<6I", 0, size, 1, 24, 24 + size, 24 + 2 * size + 16)
    texts = b"k" * (size - 1) + b"\0", b"n" * (size - 1) + b"\0"
    data = one_name + texts[0] + struct.pack("<IhHII", 0, 0, 1, 0, 0) + texts[1] + bytes(8)
    tracemalloc.start()
    file = parse(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(file.description.id) == size - 1
    assert peak < 3 * len(data)


def test_an_escape_sequence_in_a_name_does_not_reach_the_message() -> None:
    twice = with_bytes(0x30, b"\x1b[31m\0").replace(b"depth\0", b"\x1b[31m\0")
    with pytest.raises(FormatError, match="a second") as caught:
        parse(twice)
    assert str(caught.value).isprintable()


# --- what cannot be written -------------------------------------------------------------------------------------------

PLAIN = Descriptor("plain", Kind.CUMULATIVE)

UNWRITABLE: dict[str, Callable[[], StatsFile]] = {
    "an Unknown that is known": lambda: build("kvm-1", [replace(PLAIN, kind=Unknown(0))]),
    "an Unknown that does not fit": lambda: build("kvm-1", [replace(PLAIN, kind=Unknown(16))]),
    "reserved flags that are not": lambda: build("kvm-1", [replace(PLAIN, reserved_flags=1)]),
    "an exponent that does not fit": lambda: build("kvm-1", [replace(PLAIN, exponent=2**15)]),
    "an offset that does not fit": lambda: build("kvm-1", [replace(PLAIN, offset=2**32)], data=b""),
    "a NUL in a name": lambda: build("kvm-1", [replace(PLAIN, name="pl\0ain")]),
    "text that no bytes stand for": lambda: build("\ud800", [PLAIN]),
    "a byte order that would be guessed wrong": lambda: StatsFile(
        Description("k", (), 2**16, 0, 2**16, 2**17, 2**17, "big"), b""
    ),
    "data that would be read longer": lambda: StatsFile(Description("k", (), 8, 0, 48, 56, 24, "little"), bytes(8)),
}


@pytest.mark.parametrize("make", UNWRITABLE.values(), ids=UNWRITABLE.keys())
def test_what_cannot_be_said_in_a_file_is_a_value_error(make: Callable[[], StatsFile]) -> None:
    with pytest.raises(ValueError):
        encode(make())


@pytest.mark.parametrize(
    "file",
    [
        build("kvm-1", [replace(PLAIN, name="n" * 48)]),
        build("i" * 48, [PLAIN]),
        build("kvm-1", [PLAIN, PLAIN]),
        build("kvm-1", [PLAIN], data=bytes(7)),
        build("kvm-1", [replace(PLAIN, kind=Kind.LINEAR_HISTOGRAM)]),
        StatsFile(Description("k", (PLAIN,), 8, 0, 24, 24, 64, "little"), bytes(8)),
    ],
    ids=["long name", "long id", "same name", "short data", "no bucket size", "overlap"],
)
def test_a_file_that_breaks_the_format_is_not_written(file: StatsFile) -> None:
    with pytest.raises(FormatError):
        encode(file)


# --- schemas and promises ---------------------------------------------------------------------------------------------


def test_a_schema_covers_the_described_words_or_the_whole_block_if_its_size_is_known() -> None:
    description = parse(EXAMPLE).description
    assert description.schema("kvm", Scope.VM).data_size == 32
    assert description.schema("kvm", Scope.VM, data_size=47).data_size == 40
    with pytest.raises(FormatError):
        description.schema("kvm", Scope.VM, data_size=31)


def test_place_puts_stats_one_after_the_other() -> None:
    histogram = Descriptor("hist", Kind.LOG_HISTOGRAM, size=4)
    assert [d.offset for d in place([PLAIN, histogram, replace(PLAIN, name="last")])] == [0, 8, 40]


def test_place_gathers_bits_in_words_of_their_own() -> None:
    bits = [Descriptor(f"bit_{bit}", Kind.INSTANT, Unit.BIT) for bit in range(130)]
    placed = place([PLAIN, bits[0], replace(PLAIN, name="next"), *bits[1:]], start=80)
    assert [d.offset for d in placed[:3]] == [80, 88, 96]
    found = [(d.offset, d.bit) for d in placed if d.unit is Unit.BIT]
    assert found == [(88, b) for b in range(64)] + [(104, b) for b in range(64)] + [(112, 0), (112, 1)]


@pytest.mark.parametrize(
    ("places", "pairs"),
    [
        (["0", "1", "8"], []),
        (["0.0", "0.1", "0.63", "8.0"], []),
        (["0.1", "0.1"], [("1", "0")]),
        (["0", "0"], [("1", "0")]),
        (["0.0", "0"], [("1", "0")]),
        (["0", "0.0"], [("1", "0")]),
        (["0.0", "8", "8.1"], [("2", "1")]),
    ],
)
def test_stats_that_share_more_than_a_word_of_bits_are_told(places: list[str], pairs: list[tuple[str, str]]) -> None:
    descriptors = []
    for name, where in enumerate(places):
        offset, _, bit = where.partition(".")
        unit = Unit.BIT if bit else Unit.NONE
        stat = Descriptor(f"{name}", Kind.INSTANT, unit, offset=8 * int(offset), bucket_size=int(bit or 0))
        descriptors.append(stat)
    assert list(shared(descriptors)) == pairs


VIOLATIONS = {
    "exponent -3 is negative for a count, bytes or cycles": replace(PLAIN, exponent=-3, unit=Unit.BYTES),
    "exponent 1 is positive for seconds": replace(PLAIN, exponent=1, unit=Unit.SECONDS),
    "exponent 1 is not 0 for a boolean": replace(PLAIN, exponent=1, unit=Unit.BOOLEAN),
    "a boolean cannot be a log histogram": replace(PLAIN, kind=Kind.LOG_HISTOGRAM, unit=Unit.BOOLEAN),
}


@pytest.mark.parametrize(("text", "descriptor"), VIOLATIONS.items(), ids=VIOLATIONS.keys())
def test_a_broken_promise_is_reported_but_parses(text: str, descriptor: Descriptor) -> None:
    file = parse(encode(build("kvm-1", [descriptor])))
    assert violations(file.description) == [f"'plain': {text}"]


def test_promises_about_the_whole_file_are_reported() -> None:
    stats = [replace(PLAIN, size=3), replace(PLAIN, name="inner", offset=8)]
    description = replace(build("vmm-1", stats).description, flags=4)
    assert violations(description) == [
        "id 'vmm-1' does not start with 'kvm'",
        "header flags are 0x4, not 0",
        "'inner': shares words with 'plain'",
    ]


# --- the bytes in docs/reference/bits.md ------------------------------------------------------------------------------


def test_the_bytes_of_the_page_on_bits_are_what_the_page_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "bits.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| 0x([0-9a-f]+) \| `([0-9a-f]+)` \|", page, re.MULTILINE)
    raw = bytearray()
    for at, written in rows:
        assert len(raw) == int(at, 16)
        raw += bytes.fromhex(written)
    file = parse(bytes(raw))
    assert violations(file.description) == []
    assert [(d.name, d.bit) for d in file.description.descriptors] == [
        ("apicv_active", 0),
        ("exits", None),
        ("blocking", 1),
    ]
    assert [file[name] for name in ("apicv_active", "exits", "blocking")] == [False, 1002, True]
    assert encode(file) == raw
