"""The answers of QEMU's ``query-stats-schemas``, ``query-stats`` and ``query-cpus-fast`` as values. No I/O.

Rules:
- An answer may come from any process that listens on a socket: on any JSON, each ``parse_`` function returns values
  within the limits below or raises FormatError.
- QEMU's schema has no sizes: they come from the values, so a schema is laid out for given values. It has no offsets
  either: words are in the order in which QEMU lists the stats, the reverse of the kernel's.
- QEMU lists the buckets of a histogram in reverse (7.1 to at least 10.0), an artifact of how it builds lists that may
  change at any time. So the order is never assumed, but derived from the values: the kernel also has the sum of the
  values in ``x_hist`` as ``x_ns``. If that sum fits the bounds of the buckets in one order and not in the other, it is
  a vote for that order. All histograms of one QEMU have the same order.
- A type, unit or base that is unknown here is kept as not understood, with raw values.

Source: qapi/stats.json and accel/kvm/kvm-all.c of QEMU 7.2 and 10.0; bucket bounds from api.rst 4.133.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, TypeAlias

import numpy as np

from ..errors import FormatError
from ..sample import U64Array
from ..schema import Base, Descriptor, Kind, Schema, Scope, Unit, Unknown
from .statsfile import place

Value: TypeAlias = int | tuple[int, ...]

_KINDS = {
    "cumulative": Kind.CUMULATIVE,
    "instant": Kind.INSTANT,
    "peak": Kind.PEAK,
    "linear-histogram": Kind.LINEAR_HISTOGRAM,
    "log2-histogram": Kind.LOG_HISTOGRAM,
}
_UNITS = {"bytes": Unit.BYTES, "seconds": Unit.SECONDS, "cycles": Unit.CYCLES, "boolean": Unit.BOOLEAN}
_BASES = {10: Base.POW10, 2: Base.POW2}
_SCOPES = {"vm": Scope.VM, "vcpu": Scope.VCPU}

_WORD_WITHOUT_NUMBER = Unknown(-1)
"""Stands for an unknown type or unit: QMP has words for them where the kernel has numbers."""


MAX_NAME: Final = 256
"""Maximum length of the name of a stat, provider or path in characters; the kernel's names have at most 47."""
MAX_STATS: Final = 4096
"""Maximum number of stats of one schema; no kernel has 200."""
MAX_BUCKETS: Final = 4096
MAX_VCPUS: Final = 8192
"""Twice KVM_MAX_VCPUS of any kernel."""
MAX_ENTRIES: Final = 4 * MAX_VCPUS
MAX_WORDS: Final = 1 << 22
"""Maximum count of numbers in one answer."""
_MAX_SUMMED_BUCKETS: Final = 65
"""Values are u64: bucket 64 has the largest ones, and a sum says nothing about further buckets."""


class BucketOrder(Enum):
    """Which bucket of a histogram comes first."""

    FIRST_FIRST = 1
    LAST_FIRST = -1


@dataclass(frozen=True, slots=True)
class QmpSchema:
    """QEMU's schema of the stats of one provider and target; sizes and offsets are not known yet."""

    provider: str
    scope: Scope
    descriptors: tuple[Descriptor, ...]

    def laid_out(self, entries: Iterable[QmpEntry]) -> Schema:
        """The schema for these values. Raises FormatError if two of them disagree on the size of a stat."""
        sizes: dict[str, int] = {}
        for entry in entries:
            for name, value in entry.values.items():
                size = len(value) if isinstance(value, tuple) else 1
                if sizes.setdefault(name, size) != size:
                    raise _broken(f"value of {name!r}", f"{sizes[name]} numbers as elsewhere", f"{size}")
        placed = place([replace(d, size=sizes.get(d.name, 1)) for d in self.descriptors])
        return Schema(self.provider, self.scope, placed, 8 * sum(d.size for d in placed))

    def without(self, names: Iterable[str]) -> QmpSchema:
        left_out = set(names)
        return replace(self, descriptors=tuple(d for d in self.descriptors if d.name not in left_out))


@dataclass(frozen=True, slots=True)
class QmpEntry:
    """The values of one subject. ``qom_path``: the subject according to QEMU, which 7.1 and early 7.2 may report
    wrongly: the same for every vCPU."""

    provider: str
    qom_path: str | None
    values: Mapping[str, Value]

    def words(self, schema: Schema, order: BucketOrder) -> U64Array:
        """The data block that ``schema`` describes, with the first bucket first. Raises FormatError if a stat is
        missing."""
        words: list[int] = []
        for descriptor in schema.descriptors:
            value = self.values.get(descriptor.name)
            if value is None:
                raise _broken("query-stats", f"a value of {descriptor.name!r}", "none")
            numbers = value if isinstance(value, tuple) else (value,)
            backwards = descriptor.is_histogram and order is BucketOrder.LAST_FIRST
            words += reversed(numbers) if backwards else numbers
        return np.array(words, dtype=np.uint64)

    def needing_order(self, schema: QmpSchema) -> tuple[str, ...]:
        """The histograms here whose buckets differ when read in reverse."""
        lists = ((d.name, self.values.get(d.name)) for d in schema.descriptors if d.is_histogram)
        return tuple(name for name, value in lists if isinstance(value, tuple) and value != value[::-1])


def parse_schemas(answer: object) -> tuple[QmpSchema, ...]:
    """Parse ``query-stats-schemas``, without targets other than VMs and vCPUs. Raises FormatError for another
    answer."""
    schemas: dict[tuple[str, Scope], QmpSchema] = {}
    for item in _list_of_objects(answer, "query-stats-schemas"):
        scope = _SCOPES.get(_text(item, "target"))
        if scope is not None:
            schema = _parse_schema(item, scope)
            if schemas.setdefault((schema.provider, scope), schema) is not schema:
                raise _broken("query-stats-schemas", "each provider and target once", f"{schema.provider!r} twice")
    return tuple(schemas.values())


def parse_entries(answer: object) -> tuple[QmpEntry, ...]:
    """Parse ``query-stats``. Raises FormatError for another answer."""
    items = _list_of_objects(answer, "query-stats", most=MAX_ENTRIES)
    entries = []
    words = 0
    for item in items:
        entry = _parse_entry(item)
        words += sum(len(value) if isinstance(value, tuple) else 1 for value in entry.values.values())
        if words > MAX_WORDS:
            raise _broken("query-stats", f"at most {MAX_WORDS} numbers", "more")
        entries.append(entry)
    return tuple(entries)


@dataclass(frozen=True, slots=True)
class QmpCpu:
    """A vCPU of ``query-cpus-fast``. ``index``: QEMU's own. ``thread``: thread id in QEMU's pid namespace."""

    qom_path: str
    index: int
    thread: int
    is_x86: bool


def parse_cpus(answer: object) -> tuple[QmpCpu, ...]:
    """Parse ``query-cpus-fast``. Raises FormatError for another answer, or one that repeats a path."""
    cpus = tuple(
        QmpCpu(
            _text(item, "qom-path"),
            _number(item.get("cpu-index"), "cpu-index of a vCPU", most=_MAX_ID),
            _number(item.get("thread-id"), "thread-id of a vCPU", most=_MAX_ID),
            item.get("target") in ("x86_64", "i386"),
        )
        for item in _list_of_objects(answer, "query-cpus-fast", most=MAX_VCPUS)
    )
    if len({cpu.qom_path for cpu in cpus}) != len(cpus):
        raise _broken("query-cpus-fast", "each qom-path once", "one twice")
    return cpus


_MAX_ID = 2**31 - 1


def parse_apic_id(answer: object) -> int:
    """Parse the property ``apic-id`` of a vCPU. Raises FormatError if it is not a number of 32 bits."""
    return _number(answer, "apic-id of a vCPU", most=2**32 - 1)


def parse_name(answer: object) -> str:
    """Parse ``query-name``; "" for a VM without a name. Text that UTF-8 cannot encode is escaped. Raises
    FormatError."""
    if not isinstance(answer, Mapping):
        raise _broken("query-name", "an object", _shown(answer))
    name = answer.get("name", "")
    if not isinstance(name, str):
        raise _broken("query-name", "text", _shown(name))
    return name[:_MAX_VM_NAME].encode("utf-8", "backslashreplace").decode()


_MAX_VM_NAME = 1024


def votes_for_order(schema: QmpSchema, entries: Sequence[QmpEntry]) -> dict[BucketOrder, int]:
    """The number of histograms that fit only one order, by order; see the module. Without votes the order is
    unknown."""
    votes = dict.fromkeys(BucketOrder, 0)
    pairs = list(_histograms_with_sums(schema))
    for entry in entries:
        for histogram, total in pairs:
            buckets, total_value = entry.values.get(histogram), entry.values.get(total)
            if isinstance(buckets, tuple) and isinstance(total_value, int) and len(buckets) <= _MAX_SUMMED_BUCKETS:
                forwards, backwards = _can_sum_to(buckets, total_value), _can_sum_to(buckets[::-1], total_value)
                if forwards != backwards:
                    votes[BucketOrder.FIRST_FIRST if forwards else BucketOrder.LAST_FIRST] += 1
    return votes


def _histograms_with_sums(schema: QmpSchema) -> Iterator[tuple[str, str]]:
    by_name = {d.name: d for d in schema.descriptors}
    for name, histogram in by_name.items():
        total = by_name.get(name.removesuffix("_hist") + "_ns")
        if histogram.kind is Kind.LOG_HISTOGRAM and total is not None and total.scale == histogram.scale:
            yield name, total.name


def _can_sum_to(buckets: Sequence[int], total: int) -> bool:
    """Whether values in these log buckets can add up to ``total``. The first bucket is {0}, the last one unbounded."""
    least = sum(count * (1 << index - 1) for index, count in enumerate(buckets) if index)
    most = sum(count * ((1 << index) - 1) for index, count in enumerate(buckets))
    return least <= total and (total <= most or buckets[-1] > 0)


def _parse_schema(item: Mapping[str, object], scope: Scope) -> QmpSchema:
    stats = _list_of_objects(item.get("stats"), "stats of a schema", most=MAX_STATS)
    descriptors = tuple(_parse_descriptor(stat) for stat in stats)
    if len({descriptor.name for descriptor in descriptors}) != len(descriptors):
        raise _broken("stats of a schema", "each name once", "one twice")
    return QmpSchema(_text(item, "provider"), scope, descriptors)


def _parse_descriptor(item: Mapping[str, object]) -> Descriptor:
    unit = item.get("unit")
    base = item.get("base", 10)
    if not isinstance(base, int):
        raise _broken("base of a stat", "a number", _shown(base))
    return Descriptor(
        _text(item, "name"),
        _KINDS.get(_text(item, "type"), _WORD_WITHOUT_NUMBER),
        Unit.NONE if unit is None else _UNITS.get(str(unit), _WORD_WITHOUT_NUMBER),
        _BASES.get(base, Unknown(base)),
        exponent=_number(item.get("exponent", 0), "exponent of a stat", least=-(2**15), most=2**15 - 1),
        bucket_size=_number(item.get("bucket-size", 0), "bucket size of a stat", most=2**32 - 1),
    )


def _parse_entry(item: Mapping[str, object]) -> QmpEntry:
    path = item.get("qom-path")
    stats = _list_of_objects(item.get("stats"), "stats of an entry", most=MAX_STATS)
    return QmpEntry(
        _text(item, "provider"),
        path if isinstance(path, str) and len(path) <= MAX_NAME else None,
        {_text(stat, "name"): _parse_value(stat.get("value")) for stat in stats},
    )


def _parse_value(value: object) -> Value:
    if isinstance(value, list):
        if not 0 < len(value) <= MAX_BUCKETS:
            raise _broken("value of a stat", f"1 to {MAX_BUCKETS} buckets", str(len(value)))
        return tuple(_number(number, "bucket") for number in value)
    return _number(value, "value of a stat")


def _number(value: object, what: str, *, least: int = 0, most: int = 2**64 - 1) -> int:
    if not isinstance(value, int) or not least <= value <= most:
        raise _broken(what, f"a number from {least} to {most}", _shown(value))
    return int(value)


def _text(item: Mapping[str, object], key: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise _broken(key, f"a word of at most {MAX_NAME} printable characters", _shown(value))
    return value


def _list_of_objects(value: object, what: str, *, most: int = MAX_STATS) -> list[Mapping[str, object]]:
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise _broken(what, "a list of objects", _shown(value))
    if len(value) > most:
        raise _broken(what, f"at most {most} objects", str(len(value)))
    return value


def _shown(value: object) -> str:
    """The beginning of a value. A container is not printed: it may be long, or nested too deeply for repr."""
    if isinstance(value, list | Mapping):
        return f"{type(value).__name__} of {len(value)}"
    return repr(value[:80] if isinstance(value, str) else value)[:80]


def _broken(what: str, expected: str, got: str) -> FormatError:
    # An answer arrives as JSON objects, which have no byte offsets.
    return FormatError(f"QMP: {what}", offset=0, expected=expected, got=got)
