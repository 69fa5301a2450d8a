"""Descriptors and schemas: the vocabulary that all else is keyed on."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from kvmscope.schema import Base, Descriptor, Kind, Schema, Scope, Unit, Unknown

# include/uapi/linux/kvm.h: KVM_STATS_TYPE_*, KVM_STATS_UNIT_*, KVM_STATS_BASE_*.
TYPES = ["CUMULATIVE", "INSTANT", "PEAK", "LINEAR_HISTOGRAM", "LOG_HISTOGRAM"]
UNITS = ["NONE", "BYTES", "SECONDS", "CYCLES", "BOOLEAN"]
BASES = ["POW10", "POW2"]
EXTENSIONS = [Unit.BIT]
"""What no kernel has: docs/reference/bits.md."""


def test_numbers_are_those_of_the_kernel() -> None:
    assert [Kind(number).name for number in range(len(TYPES))] == TYPES
    assert [Unit(number).name for number in range(len(UNITS))] == UNITS
    assert [Base(number).name for number in range(len(BASES))] == BASES
    assert (len(Kind), len(Unit), len(Base)) == (len(TYPES), len(UNITS) + len(EXTENSIONS), len(BASES))


def test_only_the_two_kinds_of_buckets_are_histograms() -> None:
    assert {kind for kind in Kind if kind.is_histogram} == {Kind.LINEAR_HISTOGRAM, Kind.LOG_HISTOGRAM}
    assert {kind for kind in Kind if Descriptor("x", kind).is_histogram} == {
        Kind.LINEAR_HISTOGRAM,
        Kind.LOG_HISTOGRAM,
    }
    assert not Descriptor("x", Unknown(9)).is_histogram


def test_a_stat_with_one_unknown_part_is_not_understood() -> None:
    assert Descriptor("x", Kind.CUMULATIVE).is_understood
    assert not Descriptor("x", Unknown(15)).is_understood
    assert not Descriptor("x", Kind.CUMULATIVE, unit=Unknown(15)).is_understood
    assert not Descriptor("x", Kind.CUMULATIVE, base=Unknown(15)).is_understood


@pytest.mark.parametrize(
    ("base", "exponent", "scale"),
    [
        (Base.POW10, 0, 1.0),
        (Base.POW10, -9, 1e-9),
        (Base.POW10, 3, 1e3),
        (Base.POW2, 10, 1024.0),
        (Base.POW2, -2, 0.25),
        (Base.POW10, 32767, math.inf),
        (Base.POW10, -32768, 0.0),
        (Unknown(7), 5, 1.0),
    ],
)
def test_the_scale_is_base_to_the_exponent(base: Base | Unknown, exponent: int, scale: float) -> None:
    assert Descriptor("x", Kind.INSTANT, Unit.NONE, base, exponent).scale == pytest.approx(scale)


def test_a_boolean_is_told_by_its_unit() -> None:
    assert Descriptor("blocking", Kind.INSTANT, Unit.BOOLEAN).is_boolean
    assert Descriptor("blocking", Kind.INSTANT, Unit.BIT, bucket_size=63).is_boolean
    assert not Descriptor("exits", Kind.CUMULATIVE).is_boolean


SCHEMA = Schema(
    "kvm", Scope.VCPU, (Descriptor("b", Kind.INSTANT, offset=8), Descriptor("a", Kind.CUMULATIVE)), data_size=32
)


def test_stats_are_found_by_name_and_listed_in_the_providers_order() -> None:
    assert SCHEMA.names == ("b", "a")
    assert SCHEMA["a"].offset == 0
    assert "a" in SCHEMA
    assert "c" not in SCHEMA
    with pytest.raises(KeyError):
        _ = SCHEMA["c"]


def test_a_data_block_may_be_larger_than_what_is_described() -> None:
    assert SCHEMA.words == 4


def test_schemas_are_values() -> None:
    same = Schema("kvm", Scope.VCPU, SCHEMA.descriptors, data_size=32)
    assert same == SCHEMA
    assert hash(same) == hash(SCHEMA)
    assert Schema("kvm", Scope.VM, SCHEMA.descriptors, data_size=32) != SCHEMA
    with pytest.raises(dataclasses.FrozenInstanceError):
        SCHEMA.provider = "other"  # type: ignore[misc]


BIT = Descriptor("stalled", Kind.INSTANT, Unit.BIT, bucket_size=5)


def test_a_bit_knows_its_number() -> None:
    assert BIT.bit == 5
    assert BIT.is_understood
    assert Descriptor("x", Kind.INSTANT, Unit.BOOLEAN, bucket_size=5).bit is None


@pytest.mark.parametrize(
    "change",
    [
        {"bucket_size": 64},
        {"bucket_size": 2**32 - 1},
        {"size": 2},
        {"exponent": 1},
        {"kind": Kind.CUMULATIVE},
        {"kind": Kind.PEAK},
        {"kind": Kind.LINEAR_HISTOGRAM},
        {"kind": Unknown(7)},
        {"base": Base.POW2},
        {"base": Unknown(3)},
    ],
)
def test_what_only_looks_like_a_bit_is_not_understood(change: dict[str, Any]) -> None:
    odd = dataclasses.replace(BIT, **change)
    assert (odd.bit, odd.is_boolean, odd.is_understood) == (None, False, False)
