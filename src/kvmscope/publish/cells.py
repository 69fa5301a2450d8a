"""The words of one stat, as its only writer sees them.

Rule: a write is one aligned u64 store, so that a reader sees the value before or the value after and nothing between.
No locks: each stat has one writing thread, as each vCPU has one in the kernel. Bucket rules are the kernel's
(include/linux/kvm_host.h, kvm_stats_linear_hist_update and kvm_stats_log_hist_update).
"""

from __future__ import annotations

from ..schema import Descriptor, Kind

_MASK = 2**64 - 1


class Cell:
    """The words of one stat."""

    __slots__ = ("_words",)

    def __init__(self, words: memoryview) -> None:
        self._words = words

    @property
    def raw(self) -> tuple[int, ...]:
        """The words as they stand."""
        return tuple(self._words)

    def detach(self) -> None:
        """Lets go of the shared memory; later writes go to memory that nobody reads."""
        own = memoryview(bytearray(self._words.nbytes)).cast("Q")
        self._words.release()
        self._words = own


class CounterCell(Cell):
    """A cumulative stat."""

    __slots__ = ()

    def add(self, count: int = 1) -> None:
        """Adds ``count``, which must not be negative: a cumulative stat never goes down."""
        if count < 0:
            raise ValueError(f"a cumulative stat cannot take {count}")
        self._words[0] += count


class InstantCell(Cell):
    """A stat that goes up and down."""

    __slots__ = ()

    def set(self, value: int) -> None:
        """Stores ``value``; a negative one as its two's complement, which is how the kernel shows it."""
        self._words[0] = value & _MASK


class BooleanCell(Cell):
    """A stat that is true or false."""

    __slots__ = ()

    def set(self, value: bool) -> None:
        self._words[0] = bool(value)


class PeakCell(Cell):
    """A stat that keeps the largest value that it has seen."""

    __slots__ = ()

    def raise_to(self, value: int) -> None:
        """Stores ``value`` if it is larger than what stands."""
        self._words[0] = max(value, self._words[0])


class LinearHistogramCell(Cell):
    """How often values fell in buckets of one width; the last bucket has no upper bound."""

    __slots__ = ("_bucket_size", "_last")

    def __init__(self, words: memoryview, bucket_size: int) -> None:
        super().__init__(words)
        self._bucket_size = bucket_size
        self._last = len(words) - 1

    def record(self, value: int) -> None:
        """Counts ``value``, which is in raw units and not negative."""
        if value < 0:
            raise ValueError(f"a histogram cannot take {value}")
        self._words[min(value // self._bucket_size, self._last)] += 1


class LogHistogramCell(Cell):
    """How often values fell in buckets [0, 1), [1, 2), [2, 4), …; the last bucket has no upper bound."""

    __slots__ = ("_last",)

    def __init__(self, words: memoryview) -> None:
        super().__init__(words)
        self._last = len(words) - 1

    def record(self, value: int) -> None:
        """Counts ``value``, which is in raw units and not negative."""
        if value < 0:
            raise ValueError(f"a histogram cannot take {value}")
        self._words[min(value.bit_length(), self._last)] += 1


def cell_for(descriptor: Descriptor, words: memoryview) -> Cell:
    """The writer of a stat on its words; a plain ``Cell`` if it has several words and is no histogram."""
    if descriptor.kind is Kind.LINEAR_HISTOGRAM:
        return LinearHistogramCell(words, descriptor.bucket_size)
    if descriptor.kind is Kind.LOG_HISTOGRAM:
        return LogHistogramCell(words)
    if descriptor.size > 1:
        return Cell(words)
    if descriptor.kind is Kind.INSTANT:
        return BooleanCell(words) if descriptor.is_boolean else InstantCell(words)
    return PeakCell(words) if descriptor.kind is Kind.PEAK else CounterCell(words)
