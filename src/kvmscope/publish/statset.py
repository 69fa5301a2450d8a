"""The stats of one provider and scope, as they are published, and the rules that they must keep.

Not here: the words that declare them (``declare``), memory (``publication``). Source of the rules: the kernel's
selftest kvm_binary_stats_test.c and Documentation/virt/kvm/api.rst 4.133.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ..codec import statsfile
from ..codec.publication import DATA_LIMIT, DESCRIPTOR_LIMIT
from ..schema import Descriptor, Kind, Scope, Unit

_STAT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PROVIDER_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)


@dataclass(frozen=True)
class StatSet:
    """The stats of one (provider, scope), with their places in the data block.

    ValueError, with the rule, if a rule of the format is broken.
    """

    provider: str
    scope: Scope
    descriptors: tuple[Descriptor, ...]

    def __post_init__(self) -> None:
        if not _PROVIDER_NAME.fullmatch(self.provider):
            raise ValueError(f"provider {self.provider!r} does not match {_PROVIDER_NAME.pattern}")
        names = [descriptor.name for descriptor in self.descriptors]
        for name in names:
            _check_name(name)
        for descriptor in self.descriptors:
            check_shape(descriptor)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} declared twice")
        if len(names) > DESCRIPTOR_LIMIT:
            raise ValueError(f"{len(names)} stats, more than the {DESCRIPTOR_LIMIT} that readers accept")
        if self.data_size > DATA_LIMIT:
            raise ValueError(f"{self.data_size} bytes of data, more than the {DATA_LIMIT} that readers accept")

    @cached_property
    def data_size(self) -> int:
        """Bytes that one subject takes."""
        return max((d.offset + 8 * d.size for d in self.descriptors), default=0)

    @cached_property
    def encoded(self) -> bytes:
        """A stats file of these, without an id and all zero."""
        return statsfile.encode(statsfile.build("", self.descriptors))


def _check_name(name: str) -> None:
    if not _STAT_NAME.fullmatch(name):
        raise ValueError(f"stat name {name!r} does not match {_STAT_NAME.pattern}")
    if len(name) >= statsfile.KERNEL_NAME_SIZE:
        raise ValueError(f"stat name {name} has {len(name)} characters; {statsfile.KERNEL_NAME_SIZE - 1} are allowed")


def check_shape(descriptor: Descriptor) -> None:
    """ValueError, with the rule, if kind, unit, scale and size do not fit each other."""
    broken = next((rule for rule, holds in _rules(descriptor) if not holds), None)
    if broken:
        raise ValueError(f"{descriptor.name or 'stat'}: {broken}")


def _rules(d: Descriptor) -> Iterable[tuple[str, bool]]:
    """Each rule of the format and whether ``d`` keeps it."""
    linear = d.kind is Kind.LINEAR_HISTOGRAM
    yield "kind, unit and base must be known ones", d.is_understood
    yield f"exponent {d.exponent} is not in ±32767", abs(d.exponent) < 2**15
    yield "an exponent of seconds is not positive", d.unit is not Unit.SECONDS or d.exponent <= 0
    yield "a boolean has no exponent", d.unit is not Unit.BOOLEAN or d.exponent == 0
    yield (
        "an exponent of counts, bytes and cycles is not negative",
        (d.unit in (Unit.SECONDS, Unit.BOOLEAN) or d.exponent >= 0),
    )
    yield f"size {d.size} is not in 1 to 65535", 1 <= d.size < 2**16
    yield "a histogram has at least two buckets", not d.is_histogram or d.size >= 2
    yield "a linear histogram has a bucket size from 1 to 2**32 - 1", not linear or 1 <= d.bucket_size < 2**32
    yield "only a linear histogram has a bucket size", linear or d.bucket_size == 0
    yield "a boolean is not a log histogram", not (d.is_boolean and d.kind is Kind.LOG_HISTOGRAM)
    yield "a linear histogram of booleans has two buckets", not (d.is_boolean and linear) or d.size == 2
