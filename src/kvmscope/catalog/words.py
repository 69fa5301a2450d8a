"""The names of kinds and units in the catalogue's files."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ..schema import Kind, Unit


class Measure(NamedTuple):
    """A unit and the power of ten by which a descriptor scales it."""

    unit: Unit
    exponent: int


KINDS: Mapping[str, Kind] = MappingProxyType({kind.name.lower().replace("_", "-"): kind for kind in Kind})
"""``log-histogram`` -> Kind.LOG_HISTOGRAM."""

UNITS: Mapping[str, Measure] = MappingProxyType(
    {
        "none": Measure(Unit.NONE, 0),
        "nanoseconds": Measure(Unit.SECONDS, -9),
        "boolean": Measure(Unit.BOOLEAN, 0),
        "bytes": Measure(Unit.BYTES, 0),
        "cycles": Measure(Unit.CYCLES, 0),
    }
)
