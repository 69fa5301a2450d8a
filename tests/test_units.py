"""How values are written for a person."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.units import (
    NOT_KNOWN_SIGN,
    format_bytes,
    format_count,
    format_cpus,
    format_estimate,
    format_seconds,
    format_share,
    format_vcpus,
    rfc3339,
    time_of_day,
)

FORMATS = [format_count, format_seconds, format_bytes, format_share, format_cpus, format_vcpus, format_estimate]


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("value", [None, math.nan])
def test_what_is_not_known_is_a_dash_and_never_a_number(write: type, value: float | None) -> None:
    assert write(value) == NOT_KNOWN_SIGN


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12, "12"),
        (999, "999"),
        (999.4, "999"),
        (1000, "1k"),
        (1530, "1.53k"),
        (999_499, "999k"),
        (999_600, "1M"),
        (20_400_000, "20.4M"),
        (1.5e18, "1.5E"),
        (2**64 - 1, "18.4E"),
        (0.5, "0.5"),
        (0.012, "0.012"),
        (0.001234, "0.001"),
        (3.14159, "3.14"),
        (-1530, "-1.53k"),
    ],
)
def test_a_count_has_three_digits_and_a_prefix(value: float, text: str) -> None:
    assert format_count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (1e-9, "1 ns"),
        (512e-9, "512 ns"),
        (999.4e-9, "999 ns"),
        (1e-6, "1 µs"),
        (1.05e-3, "1.05 ms"),
        (1.07, "1.07 s"),
        (3600, "3600 s"),
        (math.inf, "∞"),
    ],
)
def test_a_time_has_the_unit_that_fits(value: float, text: str) -> None:
    assert format_seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (512, "512 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (2**30, "1 GiB"), (2**64, "16 EiB")],
)
def test_a_size_has_a_binary_prefix(value: float, text: str) -> None:
    assert format_bytes(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0 %"), (0.125, "12.5 %"), (1, "100 %"), (2.5, "250 %")])
def test_a_share_is_percent(value: float, text: str) -> None:
    assert format_share(value) == text


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_no_finite_value_is_written_with_an_exponent_of_its_own_or_too_wide(value: float) -> None:
    if value < 1e21:
        text = format_count(value)
        assert len(text) <= 6
        assert "e" not in text.removesuffix("E") or value < 0.01


@given(st.integers(0, 2**64 - 1))
def test_a_count_is_right_to_half_a_unit_of_its_third_digit(value: int) -> None:
    text = format_count(value)
    factor = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}.get(text[-1], 1)
    read = float(text.rstrip("kMGTPE")) * factor
    assert read == pytest.approx(value, rel=0.0051)


@given(st.floats(min_value=1e-9, max_value=999))
def test_a_time_is_right_to_half_a_unit_of_its_third_digit(value: float) -> None:
    number, unit = format_seconds(value).split()
    factor = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
    assert float(number) * factor == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 CPU"),
        (0.192, "0.192 CPU"),
        (0.2, "0.2 CPU"),
        (0.0539, "0.054 CPU"),
        (0.0001, "<0.001 CPU"),
        (1.5, "1.5 CPU"),
        (None, "–"),
    ],
)
def test_cpu_time_is_a_number_of_cpus_and_never_percent(value: float | None, text: str) -> None:
    assert format_cpus(value) == text
    assert format_vcpus(value) == text.replace("CPU", "vCPU")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.241, "0.2"),
        (0.0846, "0.08"),
        (0.0041, "0.004"),
        (0.96, "0.96"),
        (1.47, "1.5"),
        (23.6, "24"),
        (137.0, "140"),
        (0.0001, "below 0.001"),
        (0.0, "0"),
        (None, "–"),
    ],
)
def test_an_estimate_has_one_digit_or_two(value: float | None, text: str) -> None:
    assert format_estimate(value) == text


@given(st.integers(0, 2**63 - 1))
def test_times_are_those_of_the_c_library(ns: int) -> None:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ns // 10**9))
    assert rfc3339(ns) == f"{seconds}.{ns // 10**6 % 1000:03}Z"
    assert rfc3339(ns, has_ms=False) == f"{seconds}Z"
    assert time_of_day(ns) == seconds[-8:]
