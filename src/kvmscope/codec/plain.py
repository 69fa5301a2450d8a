"""Values of kvmscope's types to JSON values and back, by type hints.

Covers the parts of scenes: dataclasses (also generic ones), enums, tuples, frozen sets, mappings, ``bytes`` as base64,
and unions. Elsewhere: arrays of numbers, and output for users and programs (``view``).

Rule: ``load(T, dump(T, value)) == value``; anything that ``dump`` cannot have written is a FormatError that names the
place. A missing key takes the field's default, and an unknown key is ignored, so a later version can add fields.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar, Union

from ..errors import FormatError

_SCALARS = (bool, int, float, str)


def dump(hint: Any, value: Any) -> Any:
    """``value``, of the type of ``hint``, as a JSON value."""
    return _codec(hint).dump(value)


def load(hint: Any, plain: Any, *, what: str, offset: int = 0) -> Any:
    """The value for which ``dump`` returned ``plain``. Raises FormatError for ``what``, with the place in it, at byte
    ``offset``."""
    try:
        return _codec(hint).load(plain)
    except _MismatchError as found:
        raise FormatError(
            f"{what}{found.place}", offset=offset, expected=found.expected, got=f"{found.got!r:.60}"
        ) from None


class _MismatchError(Exception):
    def __init__(self, expected: str, got: object) -> None:
        super().__init__(expected)
        self.expected = expected
        self.got = got
        self.place = ""

    def below(self, step: str) -> _MismatchError:
        self.place = step + self.place
        return self


@dataclasses.dataclass(frozen=True, slots=True)
class _Codec:
    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]
    holds: Callable[[Any], bool]
    """Whether a value is of this type, for unions."""


@cache
def _codec(hint: Any) -> _Codec:
    if hint is None or hint is type(None):
        return _Codec(lambda value: value, _expecting("null", lambda plain: plain is None), lambda value: value is None)
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return _union(typing.get_args(hint))
    if dataclasses.is_dataclass(origin or hint):
        return _dataclass(hint)
    if origin is not None:
        return _container(origin, typing.get_args(hint))
    return _leaf(hint)


def _leaf(hint: Any) -> _Codec:
    if hint is bytes:
        return _Codec(
            lambda value: base64.b64encode(value).decode(), _load_bytes, lambda value: isinstance(value, bytes)
        )
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _Codec(
            lambda value: value.value, lambda plain: _load_enum(hint, plain), lambda value: isinstance(value, hint)
        )
    if hint in _SCALARS:
        exact = (int, float) if hint is float else (hint,)

        def is_it(value: Any) -> bool:
            return type(value) in exact

        return _Codec(lambda value: value, _expecting(hint.__name__, is_it), is_it)
    raise TypeError(f"no JSON form for {hint!r}")


def _container(origin: Any, arguments: tuple[Any, ...]) -> _Codec:
    if origin is tuple and arguments[1:] == (...,):
        return _sequence(tuple, _codec(arguments[0]))
    if origin is tuple:
        return _fixed_tuple([_codec(argument) for argument in arguments])
    if origin is frozenset:
        return _sequence(frozenset, _codec(arguments[0]))
    if issubclass(origin, Mapping):
        return _mapping(_codec(arguments[1]))
    raise TypeError(f"no JSON form for {origin!r}")


def _sequence(make: type[tuple[Any, ...]] | type[frozenset[Any]], item: _Codec) -> _Codec:
    def dump_items(value: Collection[Any]) -> list[Any]:
        return [item.dump(each) for each in (sorted(value) if make is frozenset else value)]

    def load_items(plain: Any) -> Any:
        return make([_at(f"[{i}]", item, each) for i, each in enumerate(_of(plain, list, "a list"))])

    return _Codec(dump_items, load_items, lambda value: isinstance(value, make))


def _fixed_tuple(items: list[_Codec]) -> _Codec:
    def load_items(plain: Any) -> Any:
        if len(_of(plain, list, "a list")) != len(items):
            raise _MismatchError(f"{len(items)} values", plain)
        return tuple(_at(f"[{i}]", item, each) for i, (item, each) in enumerate(zip(items, plain, strict=True)))

    return _Codec(
        lambda value: [item.dump(each) for item, each in zip(items, value, strict=True)],
        load_items,
        lambda value: isinstance(value, tuple) and len(value) == len(items),
    )


def _mapping(item: _Codec) -> _Codec:
    def load_items(plain: Any) -> Any:
        pairs = _of(plain, dict, "an object").items()
        return MappingProxyType({key: _at(f".{key}", item, each) for key, each in pairs})

    return _Codec(
        lambda value: {key: item.dump(each) for key, each in value.items()},
        load_items,
        lambda value: isinstance(value, Mapping),
    )


def _union(members: tuple[Any, ...]) -> _Codec:
    """The codec of a union: one member besides None is stored directly, several as an object that names the member."""
    codecs = {
        getattr(member, "__name__", str(member)): _codec(member) for member in members if member is not type(None)
    }
    optional = type(None) in members
    if len(codecs) == 1:
        [only] = codecs.values()
        return _Codec(
            lambda value: None if value is None else only.dump(value),
            lambda plain: None if plain is None else only.load(plain),
            lambda value: value is None or only.holds(value),
        )

    def dump_one(value: Any) -> Any:
        if value is None:
            return None
        name = next(name for name, codec in codecs.items() if codec.holds(value))
        return {"type": name, "value": codecs[name].dump(value)}

    def load_one(plain: Any) -> Any:
        if plain is None and optional:
            return None
        fields = _of(plain, dict, "an object")
        name = fields.get("type")
        if not isinstance(name, str) or name not in codecs:
            raise _MismatchError(f"a type among {', '.join(codecs)}", name)
        return _at(".value", codecs[name], fields.get("value"))

    return _Codec(dump_one, load_one, lambda value: any(codec.holds(value) for codec in codecs.values()))


def _dataclass(hint: Any) -> _Codec:
    cls = typing.get_origin(hint) or hint
    hints = typing.get_type_hints(cls)
    parameters: tuple[TypeVar, ...] = getattr(cls, "__parameters__", ())
    bound = dict(zip(parameters, typing.get_args(hint), strict=False))
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    codecs = {name: _codec(_substituted(hints[name], bound)) for name in fields}
    needed = [name for name, field in fields.items() if _has_no_default(field)]

    def load_fields(plain: Any) -> Any:
        given = _of(plain, dict, f"an object ({cls.__name__})")
        if missing := [name for name in needed if name not in given]:
            raise _MismatchError(f"the key {missing[0]}", given)
        return cls(**{name: _at(f".{name}", codec, given[name]) for name, codec in codecs.items() if name in given})

    return _Codec(
        lambda value: {name: codec.dump(getattr(value, name)) for name, codec in codecs.items()},
        load_fields,
        lambda value: isinstance(value, cls),
    )


def _substituted(hint: Any, bound: Mapping[TypeVar, Any]) -> Any:
    """The hint with type variables replaced: ``T | None`` of ``Fact[str]`` is ``str | None``."""
    if isinstance(hint, TypeVar):
        return bound[hint]
    arguments = typing.get_args(hint)
    if not arguments or not bound:
        return hint
    replaced = tuple(_substituted(argument, bound) for argument in arguments)
    if typing.get_origin(hint) in (Union, types.UnionType):
        return Union[replaced]  # noqa: UP007 - built from a tuple at run time
    return typing.get_origin(hint)[replaced]


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _at(step: str, codec: _Codec, plain: Any) -> Any:
    try:
        return codec.load(plain)
    except _MismatchError as found:
        raise found.below(step) from None


def _of(plain: Any, kind: type, expected: str) -> Any:
    if not isinstance(plain, kind):
        raise _MismatchError(expected, plain)
    return plain


def _expecting(expected: str, is_it: Callable[[Any], bool]) -> Callable[[Any], Any]:
    def load_it(plain: Any) -> Any:
        if not is_it(plain):
            raise _MismatchError(expected, plain)
        return plain

    return load_it


def _load_bytes(plain: Any) -> bytes:
    try:
        return base64.b64decode(_of(plain, str, "base64"), validate=True)
    except (binascii.Error, ValueError):
        raise _MismatchError("base64", plain) from None


def _load_enum(cls: type[Enum], plain: Any) -> Enum:
    try:
        return cls(plain)
    except ValueError:
        raise _MismatchError(f"one of {', '.join(str(member.value) for member in cls)}", plain) from None
