"""The words of one stat, as its only writer sees them.

Rule: a write is one aligned u64 store, so a reader sees either the old or the new value.
No locks: each stat has one writing thread, as each vCPU has in the kernel; bits in one word have the same writer.
Bucket rules are the kernel's (include/linux/kvm_host.h, kvm_stats_linear_hist_update and kvm_stats_log_hist_update).
"""

from __future__ import annotations

from typing import Final

from ..schema import Descriptor, Kind

_MASK = 2**64 - 1


class Cell:
    """The words of one stat."""

    __slots__ = ("_words",)

    def __init__(self, words: memoryview) -> None:
        self._words = words

    @property
    def raw(self) -> tuple[int, ...]:
        """The present words."""
        return tuple(self._words)

    def detach(self) -> None:
        """Releases the shared memory; later writes go to private memory."""
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
        """Stores ``value``; a negative value as its two's complement, as the kernel does."""
        self._words[0] = value if value >= 0 else value & _MASK


class BooleanCell(Cell):
    """A stat that is true or false."""

    __slots__ = ()

    def set(self, value: bool) -> None:
        self._words[0] = 1 if value else 0


class BitCell(BooleanCell):
    """A stat that is true or false, in one bit of a shared word."""

    __slots__ = ("_mask",)

    def __init__(self, words: memoryview, bit: int) -> None:
        super().__init__(words)
        self._mask = 1 << bit

    @property
    def raw(self) -> tuple[int, ...]:
        """0 or 1."""
        return (int(bool(self._words[0] & self._mask)),)

    def set(self, value: bool) -> None:
        """Changes the bit by read and store, so one thread must write all bits of a word."""
        word = self._words[0]
        self._words[0] = word | self._mask if value else word & ~self._mask


class PeakCell(Cell):
    """A stat that keeps the largest value so far."""

    __slots__ = ()

    def raise_to(self, value: int) -> None:
        """Stores ``value`` if it is larger than the present value."""
        # max() would take longer than the rest of the function.
        if value > self._words[0]:  # noqa: PLR1730
            self._words[0] = value


class LinearHistogramCell(Cell):
    """The number of values in buckets of one width; the last bucket has no upper bound."""

    __slots__ = ("_bucket_size", "_last")

    def __init__(self, words: memoryview, bucket_size: int) -> None:
        super().__init__(words)
        self._bucket_size = bucket_size
        self._last = len(words) - 1

    def record(self, value: int) -> None:
        """Counts ``value``, which is in raw units and not negative."""
        if value < 0:
            raise ValueError(f"a histogram cannot take {value}")
        bucket = value // self._bucket_size
        self._words[bucket if bucket < self._last else self._last] += 1


class LogHistogramCell(Cell):
    """The number of values in buckets [0, 1), [1, 2), [2, 4), …; the last bucket has no upper bound."""

    __slots__ = ("_last",)

    def __init__(self, words: memoryview) -> None:
        super().__init__(words)
        self._last = len(words) - 1

    def record(self, value: int) -> None:
        """Counts ``value``, which is in raw units and not negative."""
        if value < 0:
            raise ValueError(f"a histogram cannot take {value}")
        bucket = value.bit_length()
        self._words[bucket if bucket < self._last else self._last] += 1


class _OffCell(Cell):
    """The cell of every stat in a group that is off: it has no words, and updates do nothing."""

    __slots__ = ()

    def add(self, count: int = 1) -> None: ...
    def set(self, value: int) -> None: ...
    def raise_to(self, value: int) -> None: ...
    def record(self, value: int) -> None: ...
    def detach(self) -> None: ...


OFF: Final = _OffCell(memoryview(b"").cast("Q"))


def cell_for(descriptor: Descriptor, words: memoryview) -> Cell:
    """The writer of a stat's words; a plain ``Cell`` for a stat of several words that is not a histogram."""
    if descriptor.kind is Kind.LINEAR_HISTOGRAM:
        return LinearHistogramCell(words, descriptor.bucket_size)
    if descriptor.kind is Kind.LOG_HISTOGRAM:
        return LogHistogramCell(words)
    if descriptor.size > 1:
        return Cell(words)
    if descriptor.bit is not None:
        return BitCell(words, descriptor.bit)
    if descriptor.kind is Kind.INSTANT:
        return BooleanCell(words) if descriptor.is_boolean else InstantCell(words)
    return PeakCell(words) if descriptor.kind is Kind.PEAK else CounterCell(words)
