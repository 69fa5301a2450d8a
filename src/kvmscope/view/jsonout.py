"""The one writer of JSON: any view as a JSON value, by the rules that ``values`` states.

Rule: unknown values are null. Bytes of names that are not UTF-8 are written as on screens. NaN and infinity are not
JSON and raise ValueError; a type that views do not have, such as numpy's numbers, raises TypeError. ``schemas``
describes the same types.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, NamedTuple, TypeAlias, get_type_hints

from ..host.text import without_surrogates
from ..sample import VmId
from ..units import rfc3339
from . import values
from .values import ABSENT_IF_NONE, INLINE, Moment, key_of

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

FORMAT = values.FORMAT

_NUMBERS = re.compile(r"\[\n\s*((?:\d+,\s+)*\d+)\n\s*\]")


def to_value(view: object) -> JsonValue:
    """A view, or a part of one, as a JSON value."""
    kind = type(view)
    write = _KNOWN_WRITERS.get(kind)
    if write is None:
        write = _KNOWN_WRITERS[kind] = _find_writer(kind)
    return write(view)


def _find_writer(kind: type) -> Callable[[Any], JsonValue]:
    """The writer for values of a type. Raises TypeError if views do not have that type."""
    if issubclass(kind, _PLAIN) and not issubclass(kind, Enum):
        return without_surrogates if issubclass(kind, str) else _as_it_is
    for written, write in _WRITERS:
        if issubclass(kind, written) and not issubclass(kind, bytes | bytearray):
            return write
    if dataclasses.is_dataclass(kind):
        return to_object
    raise TypeError(f"{kind.__name__} is not a type of which views are made")


def _as_it_is(value: Any) -> JsonValue:
    found: JsonValue = value
    return found


def to_object(view: Any) -> dict[str, JsonValue]:
    """A dataclass of a view as a JSON object."""
    found: dict[str, JsonValue] = {}
    for field in _fields(view.__class__):
        value = getattr(view, field.name)
        if field.is_inline:
            found |= _items(value)
        elif value is not None or not field.may_be_absent:
            found[field.key] = to_value(value)
    return found


class _ViewField(NamedTuple):
    """A field of a view. ``is_inline``: the mapping's keys replace the field. ``may_be_absent``: JSON omits a None."""

    name: str
    key: str
    is_inline: bool
    may_be_absent: bool


@cache
def _fields(view: Any) -> tuple[_ViewField, ...]:
    hints = get_type_hints(view, include_extras=True)
    notes = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    names = [each.name for each in dataclasses.fields(view)]
    return tuple(_ViewField(name, key_of(name), INLINE in notes[name], ABSENT_IF_NONE in notes[name]) for name in names)


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{number} is not a number of JSON")
    return number


def _items(mapping: Mapping[Any, Any]) -> dict[str, JsonValue]:
    found = dict(mapping.items())
    if _is_of_numbers(found):  # most of what is written: all metrics of every vCPU
        return found
    return {_key(key): to_value(value) for key, value in found.items()}


def _is_of_numbers(found: dict[Any, Any]) -> bool:
    """Whether a mapping is already valid JSON, from text to finite numbers and None; without a loop in Python."""
    values = found.values()
    if not ({*map(type, found)} <= _TEXT and {*map(type, values)} <= _NUMBER_TYPES):
        return False
    # A number that is not finite makes the sum so. If the sum alone overflows, the caller checks each number.
    return math.isfinite(sum(filter(None, values)))


_TEXT = {str}
_NUMBER_TYPES = {float, int, type(None)}


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"keys of JSON are text, not {type(key).__name__}")
    return key


_PLAIN = (bool, int, str, type(None))

_KNOWN_WRITERS: dict[type, Callable[[Any], JsonValue]] = {}
_WRITERS: tuple[tuple[type, Callable[[Any], JsonValue]], ...] = (
    (float, _finite),
    (Enum, lambda member: to_value(member.value)),
    (Mapping, _items),
    (Sequence, lambda sequence: [to_value(value) for value in sequence]),
    (VmId, str),
    (Moment, lambda moment: rfc3339(moment.ns)),
)


def dump(value: Any, *, one_line: bool = False) -> str:
    """JSON text with lists of numbers on one line; ``one_line``: all text on one line, for a stream of values."""
    if one_line:
        return json.dumps(value, allow_nan=False)
    # Line ends are escaped in strings, so that no string can look like such a list.
    text = json.dumps(value, indent=2, allow_nan=False)
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
