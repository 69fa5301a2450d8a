"""Values as exact text: the kernel's whole numbers with a shifted decimal point, never a float.

Rule: the text of a counter is the kernel's count, exact to the last digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..analysis.bucket_bounds import LARGEST_SHIFT, float_text
from ..sample import U64Array
from ..schema import Base, Descriptor, Kind

_MOST_DIGITS: Final = 19
"""The exponent of the largest power of ten that fits a word."""


@dataclass(frozen=True, slots=True)
class ValueColumns:
    """Values, one per row, and the bytes pattern that makes the text of a row: ``pattern % tuple(row)``."""

    pattern: bytes
    columns: npt.NDArray[Any]


def word_columns(descriptor: Descriptor, words: U64Array) -> ValueColumns:
    """The values of a stat of one word in base units."""
    exponent = descriptor.exponent if descriptor.is_understood else 0
    has_point = descriptor.base is Base.POW10 and -_MOST_DIGITS <= exponent < 0
    is_negative = _is_signed(descriptor) and bool((words.view(np.int64) < 0).any())
    if is_negative or not (has_point or exponent == 0):
        return _text_columns(_texts(descriptor, words))
    if exponent == 0:
        return ValueColumns(b"%d", words[:, np.newaxis])
    whole, rest = np.divmod(words, np.uint64(10**-exponent))
    return ValueColumns(b"%%d.%%0%dd" % -exponent, np.stack((whole, rest), axis=1))


def number_columns(numbers: Sequence[float | int]) -> ValueColumns:
    """Numbers that kvmscope computed, each as the shortest text that parses to it."""
    # A finite sum has only finite parts; for any other sum, the check below is only slower.
    if set(map(type, numbers)) <= {int, float} and isfinite(sum(map(float, numbers))):
        columns = np.empty((len(numbers), 1), dtype=object)
        columns[:, 0] = numbers
        return ValueColumns(b"%a", columns)
    return _text_columns([float_text(number) if isinstance(number, float) else number for number in numbers])


def _text_columns(texts: Sequence[int | str]) -> ValueColumns:
    columns = np.empty((len(texts), 1), dtype=object)
    columns[:, 0] = [str(text).encode() for text in texts]
    return ValueColumns(b"%b", columns)


def value_floats(descriptor: Descriptor, words: U64Array) -> npt.NDArray[np.float64]:
    """The values as floats, exact up to 2**53 raw units."""
    numbers = words.view(np.int64) if _is_signed(descriptor) else words
    scaled = descriptor.is_understood and descriptor.exponent != 0
    if not scaled:
        return numbers.astype(np.float64)
    # Dividing by 10**9 rounds once; multiplying by the float 1e-9 would round twice.
    if descriptor.base is Base.POW10 and -22 <= descriptor.exponent < 0:
        return numbers.astype(np.float64) / 10.0**-descriptor.exponent
    return numbers.astype(np.float64) * descriptor.scale


def _with_point(numbers: list[int], digits: int) -> list[str]:
    """Each number, in units of 10**-digits, as an exact decimal fraction without blanks."""
    one = 10**digits
    return [
        f"{number // one}.{number % one:0{digits}d}" if number >= 0 else f"-{-number // one}.{-number % one:0{digits}d}"
        for number in numbers
    ]


def _is_signed(descriptor: Descriptor) -> bool:
    """Whether the stat may be negative: an instant of 2**63 and more has fallen below 0."""
    return descriptor.kind is Kind.INSTANT and not descriptor.is_boolean


def _texts(descriptor: Descriptor, words: U64Array) -> Sequence[int | str]:
    """Values of any kind, as objects that ``str`` converts to their text."""
    numbers: list[int] = (words.view(np.int64) if _is_signed(descriptor) else words).tolist()
    exponent = descriptor.exponent if descriptor.is_understood else 0
    if exponent == 0:
        return numbers
    if abs(exponent) > LARGEST_SHIFT or (descriptor.base is Base.POW2 and exponent < 0):
        return [float_text(number * descriptor.scale if number else 0.0) for number in numbers]
    if exponent > 0:
        factor = 10**exponent if descriptor.base is Base.POW10 else 2**exponent
        return [number * factor for number in numbers]
    return _with_point(numbers, -exponent)
