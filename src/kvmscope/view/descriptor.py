"""How a stat describes itself, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypedDict

from ..schema import Base, Descriptor, Kind, Unit
from .values import ABSENT_IF_NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class StatDescriptor:
    """A stat as its provider describes it."""

    name: Annotated[str, "Its name."]
    kind: Annotated[str | None, "Its kind; null if the kernel has a kind that is unknown here."]
    unit: Annotated[str | None, "Its unit; null if the kernel has a unit that is unknown here."]
    base: Annotated[int | None, "2 or 10: a raw value is in units of base ** exponent; null if it is unknown here."]
    exponent: Annotated[int, "See base."]
    size: Annotated[int, "Number of values: 1, or the buckets of a histogram."]
    bucket_size: Annotated[int | None, "Width of a bucket of a linear histogram, in raw values."]
    bit: Annotated[int | None, "The bit of its word that it is, if it is one bit.", ABSENT_IF_NONE] = None


class DescriptorFields(TypedDict):
    """The fields of a ``StatDescriptor``."""

    name: str
    kind: str | None
    unit: str | None
    base: int | None
    exponent: int
    size: int
    bucket_size: int | None
    bit: int | None


def descriptor_fields(stat: Descriptor) -> DescriptorFields:
    """How a stat describes itself: ``StatDescriptor(**descriptor_fields(stat))``."""
    return {
        "name": stat.name,
        "kind": stat.kind.name.lower() if isinstance(stat.kind, Kind) else None,
        "unit": stat.unit.name.lower() if isinstance(stat.unit, Unit) else None,
        "base": stat.base.number if isinstance(stat.base, Base) else None,
        "exponent": stat.exponent,
        "size": stat.size,
        "bucket_size": stat.bucket_size if stat.kind is Kind.LINEAR_HISTOGRAM else None,
        "bit": stat.bit,
    }
