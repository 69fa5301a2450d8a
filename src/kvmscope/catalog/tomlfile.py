"""TOML files that people write: entries that know their own line and those of their keys.

Not here: the meaning of the keys. Rule: a file is read as a whole or not at all; any mistake in it is one
``CatalogError`` with file, line, expected and found text.
tomllib does not keep lines, so a text that tomllib accepted is scanned again for the positions of its keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self, TypeAlias, TypeVar

from ..errors import CatalogError, mark

_Path: TypeAlias = tuple[str, ...]
_EnumT = TypeVar("_EnumT", bound=Enum)


def read_tables(text: str, file: str, table: str, *, beside: Collection[str] = ()) -> list[TomlEntry]:
    """The entries of ``[[table]]``, in the order of the file; empty if there are none.

    Raises CatalogError if the text is not TOML, or has top-level keys other than ``table`` and ``beside``.
    """
    return root_tables(read_root(text, file), table, beside=beside)


def root_tables(root: TomlEntry, table: str, *, beside: Collection[str] = ()) -> list[TomlEntry]:
    """As ``read_tables``, for a file that was read already."""
    for key in root:
        if key != table and key not in beside:
            raise root.error(key, f"[[{table}]]", shown(key))
    entries = root.get(table, [])
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise root.error(table, f"[[{table}]]", _kind(entries))
    return [TomlEntry(values, root.places, (table, str(index))) for index, values in enumerate(entries)]


def read_root(text: str, file: str) -> TomlEntry:
    """The whole file as one entry. Raises CatalogError if the text is not TOML."""
    values = text.values if isinstance(text, ReadToml) else _loads(text, file)
    return TomlEntry(values, Places(text, file), ())


class ReadToml(str):
    """A TOML text with its parsed values."""

    __slots__ = ("values",)
    values: Mapping[str, Any]

    def __new__(cls, text: str, values: Mapping[str, Any]) -> Self:
        read = super().__new__(cls, text)
        read.values = values
        return read


def _loads(text: str, file: str) -> Mapping[str, Any]:
    import tomllib  # 6 ms of a start, which the texts of the catalogue spare (see ``data``)

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(text, file, str(error)) from None
    except RecursionError:
        raise CatalogError("", file=file, line=1, expected="TOML", found="brackets too deep") from None
    except ValueError as error:
        # An integer of more digits than Python converts (sys.set_int_max_str_digits); tomllib lets it through.
        raise CatalogError("", file=file, line=1, expected="TOML", found=str(error).partition(";")[0]) from None


class Places:
    """Positions of the keys of a text that tomllib has accepted, by path: ``("metric", "0", "name")``."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        # Built on the first error; a valid file needs no positions.
        self._found: dict[_Path, tuple[int, int]] | None = None

    def line(self, path: _Path) -> int:
        """The line of a key or, if it has none, of the entry that contains it."""
        return self.text.count("\n", 0, self._nearest(path)[0]) + 1

    def position(self, path: _Path, value: str, offset: int) -> tuple[int, int] | None:
        """Line and column of character ``offset`` of a string; None if it is written with escapes."""
        start = self._nearest(path)[1]
        # Past the quotes, and past the newline that TOML removes after three quotes.
        found = self.text.find(value, start, start + len(value) + 5)
        if found < 0 or not value:
            return None
        at = found + offset
        return self.text.count("\n", 0, at) + 1, at - self.text.rfind("\n", 0, at)

    def _nearest(self, path: _Path) -> tuple[int, int]:
        if self._found is None:
            self._found = {}
            for place, offsets in _scan(self.text):
                self._found.setdefault(place, offsets)
        while path and path not in self._found:
            path = path[:-1]
        return self._found.get(path, (0, 0))


@dataclass(frozen=True, eq=False)
class TomlEntry(Mapping[str, Any]):
    """One table of a file. It reads like a dict; the other methods raise or return errors that name the place."""

    data: Mapping[str, Any]
    places: Places = field(repr=False)
    path: _Path

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    @property
    def file(self) -> str:
        return self.places.file

    @property
    def line(self) -> int:
        return self.places.line(self.path)

    @property
    def title(self) -> str:
        """``metric exits_per_s``; without a name or slug ``metric``."""
        name = self.data.get("name", self.data.get("slug", ""))
        kind = next((part for part in reversed(self.path) if not part.isdigit()), "")
        return f"{kind} {_cut(name) if isinstance(name, str) else ''}".strip()

    def error(self, key: str, expected: str, found: str) -> CatalogError:
        """The error for a key (``"remedy.any"`` for a nested one); an empty key means the whole entry."""
        path = (*self.path, *key.split(".")) if key else self.path
        what = ": ".join(part for part in (self.title, _cut(key)) if part)
        return CatalogError(what, file=self.file, line=self.places.line(path), expected=expected, found=found)

    def error_within(self, key: str, offset: int, expected: str, found: str) -> CatalogError:
        """The error at one character of the string ``key``: with line, column, and a mark under it."""
        text: str = self.data[key]
        path = (*self.path, *key.split("."))
        line, column = self.places.position(path, text, offset) or (self.places.line(path), None)
        return CatalogError(
            ": ".join(part for part in (self.title, key) if part),
            file=self.file,
            line=line,
            column=column,
            expected=expected,
            found=found if len(found) <= _FOUND_MAX else f"{found[:_FOUND_MAX]}…",
            excerpt=mark(text, offset),
        )

    def blame(self, key: str) -> Callable[[int, str, str], CatalogError]:
        """``error_within`` for one key."""
        return lambda offset, expected, found: self.error_within(key, offset, expected, found)

    def check_keys(self, required: Collection[str], optional: Collection[str] = ()) -> None:
        """Raises CatalogError if a key of ``required`` is missing, or a key is in neither of them."""
        for key in self:
            if key not in required and key not in optional:
                raise self.error(key, f"one of {', '.join(sorted((*required, *optional)))}", shown(key))
        for key in required:
            if key not in self:
                raise self.error("", f"a key {key!r}", "none")

    def string(self, key: str, default: str | None = None) -> str:
        """A string that is not blank, or ``default`` where the key is missing; CatalogError otherwise."""
        if key not in self and default is not None:
            return default
        value = self._present(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, "text", "blank text" if isinstance(value, str) else _kind(value))
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty where the key is missing."""
        value = self.get(key, [])
        if not isinstance(value, list):
            raise self.error(key, "a list of texts", _kind(value))
        for part in value:
            if not isinstance(part, str) or not part:
                raise self.error(key, "a list of texts", f"{_kind(part) if part != '' else 'an empty text'} in it")
        return tuple(value)

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number, or ``default`` where the key is missing."""
        if key not in self and default is not None:
            return default
        value = self._present(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(key, "a whole number", _kind(value))
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers; empty where the key is missing."""
        value = self.get(key, [])
        if not isinstance(value, list):
            raise self.error(key, "a list of whole numbers", _kind(value))
        for part in value:
            if not isinstance(part, int) or isinstance(part, bool):
                raise self.error(key, "a list of whole numbers", f"{_kind(part)} in it")
        return tuple(value)

    def boolean(self, key: str, *, default: bool) -> bool:
        """``true`` or ``false``; ``default`` where the key is missing."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "true or false", _kind(value))
        return value

    def choice(self, key: str, choices: type[_EnumT]) -> _EnumT:
        """The enum member with this value."""
        value = self._present(key)
        for member in choices:
            if member.value == value and type(member.value) is type(value):
                return member
        raise self.error(key, f"one of {', '.join(str(member.value) for member in choices)}", shown(value))

    def tables(self, key: str) -> tuple[TomlEntry, ...]:
        """The tables of a list, ``[[…key]]`` or inline; empty where the key is missing."""
        value = self.get(key, [])
        if not isinstance(value, list):
            raise self.error(key, "a list of tables", _kind(value))
        for part in value:
            if not isinstance(part, dict):
                raise self.error(key, "a list of tables", f"{_kind(part)} in it")
        return tuple(TomlEntry(part, self.places, (*self.path, key, str(index))) for index, part in enumerate(value))

    def table(self, key: str) -> TomlEntry:
        """The table of this key; empty where the key is missing."""
        value = self.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, "a table", _kind(value))
        return TomlEntry(value, self.places, (*self.path, key))

    def _present(self, key: str) -> Any:
        if key not in self:
            raise self.error("", f"a key {key!r}", "none")
        return self[key]


def unique(entries: Collection[TomlEntry], key: str) -> None:
    """Raises CatalogError if two entries have the same text for ``key``, or an entry has no text for it."""
    seen: dict[str, TomlEntry] = {}
    for entry in entries:
        first = seen.setdefault(entry.string(key), entry)
        if first is not entry:
            raise entry.error(key, f"a unique {key}", f"{shown(entry[key])}, which line {first.line} has")


_QUOTED_MAX, _FOUND_MAX = 60, 200
_TYPES: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def shown(value: Any) -> str:
    """A value as an error quotes it: its text, shortened, or otherwise its type."""
    if isinstance(value, str):
        return repr(_cut(value))
    return _kind(value)


def _cut(text: str) -> str:
    return text if len(text) <= _QUOTED_MAX else f"{text[:_QUOTED_MAX]}…"


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a table"
    return f"{_TYPES.get(type(value), 'a date or time')} ({_cut(str(value))})"


def _syntax_error(text: str, file: str, message: str) -> CatalogError:
    place = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    what = re.sub(r" \(at .*\)$", "", message)
    found = what[:1].lower() + what[1:]
    if place is None:
        lines = text.count("\n") + 1
        return CatalogError("", file=file, line=lines, expected="TOML", found=f"{found} (at the end)")
    line, column = int(place[1]), int(place[2])
    return CatalogError("", file=file, line=line, column=column, expected="TOML", found=found)


# --- positions of keys ------------------------------------------------------------------------------------------------

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')"""
_KEY = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER = re.compile(rf"(\[\[?)[ \t]*({_KEY})[ \t]*\]")
_ASSIGNMENT = re.compile(rf"({_KEY})[ \t]*=[ \t]*")
_LINE = re.compile(r"^[ \t]*(?=[^\s#])", re.MULTILINE)
_TOKEN = re.compile(
    r'''"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*|[\[\]{}\n]''', re.DOTALL
)


def _scan(text: str) -> Iterator[tuple[_Path, tuple[int, int]]]:
    """Each key and header of a valid text, with its offset and that of its value."""
    inside: _Path = ()
    tables: dict[_Path, int] = {}
    for start in _statements(text):
        if header := _HEADER.match(text, start):
            inside = _resolve(_parts(header[2]), tables, is_array=header[1] == "[[")
            yield from ((inside[:length], (start, start)) for length in range(1, len(inside) + 1))
        elif assignment := _ASSIGNMENT.match(text, start):
            path = inside
            for part in _parts(assignment[1]):
                path = (*path, part)
                yield path, (start, assignment.end())


def _statements(text: str) -> Iterator[int]:
    """The start of each statement: the first character of a line outside strings and brackets."""
    at = 0
    while line := _LINE.search(text, at):
        yield line.end()
        at = _end_of_statement(text, line.end())


def _end_of_statement(text: str, start: int) -> int:
    depth = 0
    for token in _TOKEN.finditer(text, start):
        if token[0] == "\n" and depth == 0:
            return token.end()
        depth += (token[0] in "[{") - (token[0] in "]}")
    return len(text)


def _resolve(path: _Path, tables: dict[_Path, int], *, is_array: bool) -> _Path:
    """The path with the index of the entry after the name of each array of tables."""
    resolved: _Path = ()
    for place, part in enumerate(path, start=1):
        resolved = (*resolved, part)
        if place == len(path) and is_array:
            tables[resolved] = tables.get(resolved, -1) + 1
        if resolved in tables:
            resolved = (*resolved, str(tables[resolved]))
    return resolved


def _parts(key: str) -> _Path:
    return tuple(part.strip("\"'") for part in re.findall(_PART, key))
