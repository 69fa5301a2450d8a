"""Values as text, exact: whole numbers of the kernel with their decimal point moved, never a float.

Rule: the text of a counter is what the kernel counted, to its last digit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..analysis.bucket_bounds import LARGEST_SHIFT, float_text
from ..sample import U64Array
from ..schema import Base, Descriptor, Kind


def value_texts(descriptor: Descriptor, words: U64Array) -> Sequence[int | str]:
    """The values of a stat of one word in base units, each as what ``str`` makes its text of."""
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


def value_floats(descriptor: Descriptor, words: U64Array) -> npt.NDArray[np.float64]:
    """The same as floats, exact up to 2**53 raw units."""
    numbers = words.view(np.int64) if _is_signed(descriptor) else words
    scaled = descriptor.is_understood and descriptor.exponent != 0
    if not scaled:
        return numbers.astype(np.float64)
    # Dividing by 10**9 rounds once; multiplying by the float 1e-9 would round twice.
    if descriptor.base is Base.POW10 and -22 <= descriptor.exponent < 0:
        return numbers.astype(np.float64) / 10.0**-descriptor.exponent
    return numbers.astype(np.float64) * descriptor.scale


def _with_point(numbers: list[int], digits: int) -> list[str]:
    """Each number of 10**-digits as a decimal fraction without blanks or lost digits."""
    one = 10**digits
    return [
        f"{number // one}.{number % one:0{digits}d}" if number >= 0 else f"-{-number // one}.{-number % one:0{digits}d}"
        for number in numbers
    ]


def _is_signed(descriptor: Descriptor) -> bool:
    """An instant of 2**63 and more is one that fell below 0."""
    return descriptor.kind is Kind.INSTANT and not descriptor.is_boolean
