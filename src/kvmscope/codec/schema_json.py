"""Schema files: the stats of a kernel as JSON, to keep beside one's code and compare with the next kernel.

Elsewhere: where schemas come from (``sources``, ``catalog.kernels``), what a difference means (``analysis``).

Rule: a file is read as a whole or not at all; any error in it is one ``CatalogError`` with file, line, expected and
found. Unknown keys are ignored, so later versions can add some. A kind or unit without a name here is ``code N``, so
nothing is lost.
docs/reference/schemas.md describes the format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from ..errors import CatalogError
from ..schema import Base, KernelTables, Kind, Scope, Shape, Table, Unit, Unknown

FORMAT = "kvmscope/1"

_Place: TypeAlias = tuple[str, ...]
_Word = TypeVar("_Word", Kind, Unit)
_Enum = TypeVar("_Enum", Kind, Unit, Base)


def encode(kernel: KernelTables) -> str:
    """The text of a schema file, one line for each stat; ``parse(encode(x), …) == x`` except for the name."""
    head = {
        "format": FORMAT,
        "kernel": {
            "release": kernel.release,
            "architecture": kernel.architecture,
            "captured": kernel.captured,
            "how": kernel.how,
        },
    }
    tables = ",\n".join(_table_text(table) for table in kernel.tables)
    schemas = f"[\n{tables}\n  ]" if tables else "[]"
    start = json.dumps(head, indent=2).removesuffix("\n}")
    return f'{start},\n  "schemas": {schemas}\n}}\n'


def _table_text(table: Table) -> str:
    stats = ",\n".join(f"        {json.dumps(stat_json(name, shape))}" for name, shape in table.stats.items())
    head = f'"provider": {json.dumps(table.provider)}, "scope": "{table.scope.value}"'
    body = f"[\n{stats}\n      ]" if stats else "[]"
    return f'    {{\n      {head}, "data_size": {json.dumps(table.data_size)},\n      "stats": {body}\n    }}'


def stat_json(name: str, shape: Shape) -> dict[str, Any]:
    """One stat as in ``kvmscope list --json``, but with numbers for kinds and units without a name."""
    return {
        "name": name,
        "kind": _word(shape.kind),
        "unit": _word(shape.unit),
        "base": shape.base.number if isinstance(shape.base, Base) else f"code {shape.base.code}",
        "exponent": shape.exponent,
        "size": shape.size,
        "bucket_size": shape.bucket_size if shape.kind is Kind.LINEAR_HISTOGRAM else None,
        **({"bit": shape.bucket_size} if shape.unit is Unit.BIT else {}),
    }


def _word(part: Kind | Unit | Unknown) -> str:
    return f"code {part.code}" if isinstance(part, Unknown) else part.name.lower()


def parse(text: str, *, file: str) -> KernelTables:
    """Parse a schema file. ``file``: its name, also in errors. Raises CatalogError if the text is not a schema file."""
    try:
        root = json.loads(text)
    except json.JSONDecodeError as error:
        found = f"{error.msg[:1].lower()}{error.msg[1:]}"
        raise CatalogError("", file=file, line=error.lineno, column=error.colno, expected="JSON", found=found) from None
    except RecursionError:
        raise CatalogError("", file=file, line=1, expected="JSON", found="brackets too deep") from None
    node = _Node(root, (), text, file)
    if not isinstance(root, dict) or root.get("format") != FORMAT or "schemas" not in root:
        raise node.error(
            f'an object with "format": "{FORMAT}", "kernel" and "schemas", as `kvmscope schema dump` writes it'
        )
    kernel = node.get("kernel").of(dict)
    schemas = node.get("schemas")
    tables = [_parse_table(schema) for schema in schemas.items()]
    for index, table in enumerate(tables):
        if any((table.provider, table.scope) == (other.provider, other.scope) for other in tables[:index]):
            raise schemas.item(index).error(f"one schema of {table.provider} {table.scope.value}", "a second one")
    return KernelTables(
        name=file,
        release=kernel.get("release").text_or_none(),
        architecture=kernel.get("architecture").text_or_none(),
        captured=kernel.get("captured").of(bool).value,
        how=kernel.get("how").of(str).value,
        tables=tuple(tables),
    )


def _parse_table(node: _Node) -> Table:
    scope = node.get("scope")
    if scope.value not in [member.value for member in Scope]:
        raise scope.error(" or ".join(json.dumps(member.value) for member in Scope))
    size = node.get("data_size")
    stats: dict[str, Shape] = {}
    for stat in node.get("stats").items():
        name = stat.get("name").of(str)
        if name.value in stats:
            raise name.error("a unique name", f"{json.dumps(name.value)} again")
        stats[name.value] = _parse_shape(stat)
    return Table(
        node.get("provider").of(str).value,
        Scope(scope.value),
        MappingProxyType(stats),
        None if size.value is None else size.number(least=0),
    )


def _parse_shape(stat: _Node) -> Shape:
    kind, unit = _parse_word(stat.get("kind"), Kind), _parse_word(stat.get("unit"), Unit)
    bucket_size = 0
    if kind is Kind.LINEAR_HISTOGRAM:
        bucket_size = stat.get("bucket_size").number(least=0)
    elif unit is Unit.BIT:
        bucket_size = stat.get("bit").number(least=0)
    exponent = stat.get("exponent").number()
    return Shape(kind, unit, _parse_base(stat.get("base")), exponent, stat.get("size").number(least=0), bucket_size)


def _parse_word(node: _Node, words: type[_Word]) -> _Word | Unknown:
    known: dict[object, _Word] = {member.name.lower(): member for member in words}
    codes = {member.value for member in words}
    return _choose(node, known, codes)


def _parse_base(node: _Node) -> Base | Unknown:
    known: dict[object, Base] = {base.number: base for base in Base}
    return _choose(node, known, {base.value for base in Base})


def _choose(node: _Node, known: Mapping[object, _Enum], codes: Collection[int]) -> _Enum | Unknown:
    """The member with this name, or an ``Unknown`` for a number without a name."""
    if isinstance(node.value, str | int) and not isinstance(node.value, bool) and node.value in known:
        return known[node.value]
    code = re.fullmatch(r"code (\d|1[0-5])", str(node.value))
    if code is None or int(code[1]) in codes:
        raise node.error(f"one of {', '.join(map(str, known))}")
    return Unknown(int(code[1]))


@dataclass(frozen=True, slots=True)
class _Node:
    """A value of the file with its place."""

    value: Any
    path: _Place
    text: str
    file: str

    def get(self, key: str) -> _Node:
        """The value of a key. Raises CatalogError if this is not an object or lacks the key."""
        if not isinstance(self.value, dict):
            raise self.error("an object")
        if key not in self.value:
            raise self.error(f"a key {json.dumps(key)}", "none")
        return _Node(self.value[key], (*self.path, key), self.text, self.file)

    def items(self) -> list[_Node]:
        if not isinstance(self.value, list):
            raise self.error("a list")
        return [self.item(index) for index in range(len(self.value))]

    def item(self, index: int) -> _Node:
        return _Node(self.value[index], (*self.path, str(index)), self.text, self.file)

    def of(self, kind: type) -> _Node:
        """This node, if its value has this type. Raises CatalogError otherwise."""
        if not isinstance(self.value, kind):
            raise self.error({dict: "an object", bool: "true or false", str: "text"}[kind])
        return self

    def text_or_none(self) -> str | None:
        return None if self.value is None else str(self.of(str).value)

    def number(self, *, least: int | None = None) -> int:
        if type(self.value) is not int or (least is not None and self.value < least):
            raise self.error("a whole number" + ("" if least is None else f" from {least}"))
        return int(self.value)

    def error(self, expected: str, found: str | None = None) -> CatalogError:
        """An error about this value."""
        line = _line(self.text, self.path)
        what = ".".join(self.path)
        return CatalogError(what, file=self.file, line=line, expected=expected, found=found or _shown(self.value))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "…"


# --- the line of a value ----------------------------------------------------------------------------------------------

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[\[\]{},:]|[^\s\[\]{},:"]+')


def _line(text: str, path: _Place) -> int:
    """The line on which the value at a path begins, in valid JSON text."""
    at = next((at for place, at in _values(text) if place == path), 0)
    return text.count("\n", 0, at) + 1


def _values(text: str) -> Iterator[tuple[_Place, int]]:
    """Each value of a JSON text: its path and start offset."""
    path: list[str] = []
    lists: list[bool] = []
    key = ""
    expects_key = False
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word in "]}":
            lists.pop()
            path.pop()
            expects_key = False
        elif word == ",":
            if lists[-1]:
                path[-1] = str(int(path[-1]) + 1)
            expects_key = not lists[-1]
        elif word == ":":
            path[-1] = key
            expects_key = False
        elif expects_key:
            key = str(json.loads(word))
        else:
            yield tuple(path), token.start()
            if word in "[{":
                lists.append(word == "[")
                path.append("0" if lists[-1] else "")
                expects_key = not lists[-1]
