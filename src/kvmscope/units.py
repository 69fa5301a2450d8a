"""Formatting and parsing of values for people: units, SI prefixes, and the sign for "not known".

Conversion from raw words to base units happens before this; nothing here does arithmetic on statistics.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

NOT_KNOWN_SIGN = "–"

_SMALL = ((1e-9, 1e9, "n"), (1e-6, 1e6, "µ"), (1e-3, 1e3, "m"))
_LARGE = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES_S = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_SHORTEST_S, _LONGEST_S = 1e-3, 10_000 * 3600.0
_SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SMALLEST_BYTES, _LARGEST_BYTES = 1 << 20, 1 << 60
_LEAST_ESTIMATE = 0.0005
_MOST_PERCENT = 10_000.0
_MOST_QUOTED = 60

_BINARY = ((2.0**60, "Ei"), (2.0**50, "Pi"), (2.0**40, "Ti"), (2.0**30, "Gi"), (2.0**20, "Mi"), (2.0**10, "Ki"))


def format_count(value: float | None) -> str:
    """A count or rate with three significant digits: ``0``, ``12``, ``1.53k``, ``20.4M``; "–" if not known."""
    if value is None or math.isnan(value):
        return NOT_KNOWN_SIGN
    size = abs(value)
    for factor, prefix in _LARGE:
        if size >= factor * 0.9995:
            return f"{_three_digits(value / factor)}{prefix}"
    if float(value).is_integer():
        return str(int(value))
    return _three_digits(value) if size >= 0.01 else f"{value:.1g}"


def format_seconds(value: float | None) -> str:
    """A duration: ``0 s``, ``512 ns``, ``1.07 s``; "–" if not known, "∞" if unbounded."""
    if value is None or math.isnan(value):
        return NOT_KNOWN_SIGN
    if math.isinf(value):
        return "∞"
    if value == 0:
        return "0 s"
    size = abs(value)
    for floor, factor, prefix in _SMALL:
        if size < floor * 999.5:
            return f"{_three_digits(value * factor)} {prefix}s"
    return f"{_three_digits(value)} s"


def format_bytes(value: float | None) -> str:
    """A size in binary units: ``512 B``, ``1.5 KiB``; "–" if not known."""
    if value is None or math.isnan(value):
        return NOT_KNOWN_SIGN
    for factor, prefix in _BINARY:
        if abs(value) >= factor:
            return f"{_three_digits(value / factor)} {prefix}B"
    return f"{value:g} B"


def format_bytes_per_s(value: float | None) -> str:
    """A rate in binary units: ``1.5 MiB/s``; "–" if not known."""
    text = format_bytes(value)
    return text if text == NOT_KNOWN_SIGN else f"{text}/s"


def format_share(value: float | None) -> str:
    """A share of one as percent: ``12.5 %``; "–" if not known."""
    if value is None or math.isnan(value):
        return NOT_KNOWN_SIGN
    return f"{_three_digits(value * 100)} %"


def format_cpus(value: float | None) -> str:
    """CPU time as a number of CPUs: ``0.19 CPU``, ``1.5 CPU``, ``0 CPU``; "–" if not known."""
    return NOT_KNOWN_SIGN if value is None or math.isnan(value) else f"{_of_one(value)} CPU"


def format_vcpus(value: float | None) -> str:
    """Wall time of vCPUs as a number of vCPUs: ``0.6 vCPU``; "–" if not known."""
    return NOT_KNOWN_SIGN if value is None or math.isnan(value) else f"{_of_one(value)} vCPU"


def format_estimate(value: float | None) -> str:
    """An estimate with one digit, or two from 1 on: ``0.2``, ``0.004``, ``1.5``, ``24``.

    "below 0.001" instead of a smaller number; "–" if not known.
    """
    if value is None or math.isnan(value):
        return NOT_KNOWN_SIGN
    if 0 < value < _LEAST_ESTIMATE:
        return "below 0.001"
    return f"{round_estimate(value):.3f}".rstrip("0").rstrip(".")


def round_estimate(value: float) -> float:
    """The number that ``format_estimate`` writes; a number too small for it is returned unchanged."""
    if 0 < value < _LEAST_ESTIMATE:
        return value
    return round(float(f"{value:.1g}" if value < 0.95 else f"{value:.2g}"), 3)


def rfc3339(ns: int, *, has_ms: bool = True) -> str:
    """CLOCK_REALTIME nanoseconds as text, in UTC, to the millisecond or the second."""
    moment = datetime.fromtimestamp(ns // 10**9, UTC).replace(microsecond=ns % 10**9 // 1000)
    return moment.isoformat(timespec="milliseconds" if has_ms else "seconds").replace("+00:00", "Z")


def time_of_day(ns: int) -> str:
    """CLOCK_REALTIME nanoseconds as a time of day, UTC."""
    return f"{datetime.fromtimestamp(ns // 10**9, UTC):%H:%M:%S}"


def parse_seconds(text: str) -> float:
    """A time such as ``500ms``, ``1s`` or ``2m`` in seconds, of 1 ms to 10,000 hours. Raises ValueError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", text)
    if match is None or match[2] not in _TIMES_S:
        raise ValueError(f"{quoted(text)} is not a time such as 500ms, 1s or 2m")
    seconds = float(match[1]) * _TIMES_S[match[2]]
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise ValueError(f"{quoted(text)} is not a time such as 500ms, 1s or 2m; from 1ms to 10000h are possible")
    return seconds


def parse_bytes(text: str) -> int:
    """A size such as ``500M`` or ``20G`` in bytes (powers of 1024), from 1 MiB. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([KMGT])(?:i?B)?", text)
    size = int(float(match[1]) * _SIZES[match[2]]) if match else 0
    if not _SMALLEST_BYTES <= size <= _LARGEST_BYTES:
        raise ValueError(f"{quoted(text)} is not a size such as 500M or 20G, from 1M")
    return size


def parse_cpu_share(text: str) -> float:
    """A part of a CPU such as ``5%``, in CPUs; at most 10,000 %. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)%", text)
    percent = float(match[1]) if match else 0.0
    if not 0 < percent <= _MOST_PERCENT:
        raise ValueError(f"{quoted(text)} is not a part of a CPU such as 5%")
    return percent / 100


def parse_file_mode(text: str) -> int:
    """The number of a file mode such as 0440. Raises ValueError."""
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError(f"{quoted(text)} is not a mode such as 0440")
    return int(text, 8)


def quoted(text: str) -> str:
    """The user's text, quoted, and cut to fit a message of one line."""
    return repr(text if len(text) <= _MOST_QUOTED else text[: _MOST_QUOTED - 1] + "…")


def _of_one(value: float) -> str:
    """Three digits from 1 on; below that as many decimals as a thousandth of a CPU needs."""
    if abs(value) >= 0.9995:
        return format_count(value)
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) >= 0.0005 or value == 0 else "<0.001"


def _three_digits(value: float) -> str:
    text = f"{value:.3g}"
    return f"{float(text):.0f}" if "e" in text else text
