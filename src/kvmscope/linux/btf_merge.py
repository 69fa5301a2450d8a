"""Merges the BTF of the kernel and its modules, for users who may read the files but not open BTF objects.

The BTF of a module is split: its type ids and string offsets continue where vmlinux's end. libbpf finds modules by BTF
object ids, which need CAP_SYS_ADMIN; one file with all types only needs /sys/kernel/btf, which all users may read.
Pure: bytes in, bytes out. The first module is appended to vmlinux unchanged; the next ones are renumbered.
Source: include/uapi/linux/btf.h; Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import FormatError

_HEADER: Final = struct.Struct("=HBBIIIII")
_MAGIC: Final = 0xEB9F
_WORD: Final = 4
_TYPE_WORDS: Final = 3

_REFERS: Final = frozenset({2, 8, 9, 10, 11, 12, 13, 14, 17, 18})
"""Kinds whose third word is a type id: pointer, typedef, qualifiers, function, prototype, variable, tags."""

_FIXED: Final = {1: ((), 1), 3: ((0, 1), 3), 14: ((), 1), 17: ((), 1)}
"""Kinds followed by a fixed number of words: (the words that are type ids, the number of words)."""

_MEMBERS: Final = {4: (0, 1, 3), 5: (0, 1, 3), 6: (0, None, 2), 13: (0, 1, 2), 15: (None, 0, 3), 19: (0, None, 3)}
"""Kinds with members: (word that is a name, word that is a type id, words of each)."""

_LAST_KIND: Final = 19


@dataclass(frozen=True, slots=True)
class BtfSections:
    """The two sections of a BTF."""

    types: bytes
    strings: bytes

    def encode(self) -> bytes:
        sizes = 0, len(self.types), len(self.types), len(self.strings)
        return _HEADER.pack(_MAGIC, 1, 0, _HEADER.size, *sizes) + self.types + self.strings


def parse_sections(data: bytes) -> BtfSections:
    """Raises FormatError if this is not BTF of this machine's byte order."""
    if len(data) < _HEADER.size:
        raise FormatError("BTF", offset=0, expected=f"a header of {_HEADER.size} bytes", got=f"{len(data)} bytes")
    magic, _, _, header_size, types_at, types_size, strings_at, strings_size = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise FormatError("BTF", offset=0, expected=hex(_MAGIC), got=hex(magic))
    if header_size + max(types_at + types_size, strings_at + strings_size) > len(data) or types_size % _WORD:
        raise FormatError("BTF", offset=8, expected="sections within the file", got=f"{len(data)} bytes")
    types, strings = header_size + types_at, header_size + strings_at
    return BtfSections(data[types : types + types_size], data[strings : strings + strings_size])


def merge(vmlinux: bytes, modules: Sequence[bytes]) -> bytes:
    """One BTF, not split, with the types of all. Raises FormatError."""
    base = parse_sections(vmlinux)
    types, strings = [base.types], [base.strings]
    base_count = sum(1 for _ in _iter_types(array("I", base.types))) if len(modules) > 1 else 0
    more_types, more_strings = 0, 0
    for data in modules:
        module = parse_sections(data)
        words = array("I", module.types)
        if more_types or more_strings:
            _renumber(words, base_count + 1, more_types, len(base.strings), more_strings)
        if len(modules) > 1:
            more_types += sum(1 for _ in _iter_types(words))
        more_strings += len(module.strings)
        types.append(words.tobytes())
        strings.append(module.strings)
    return BtfSections(b"".join(types), b"".join(strings)).encode()


def _renumber(words: array[int], first_type: int, more_types: int, first_string: int, more_strings: int) -> None:
    """Make room for other modules: increase the module's own type ids and string offsets; those of vmlinux stay."""

    def move(place: int, first: int, by: int) -> None:
        if words[place] >= first:
            words[place] += by

    for at, kind, count in _iter_types(words):
        move(at, first_string, more_strings)
        if kind in _REFERS:
            move(at + 2, first_type, more_types)
        behind = at + _TYPE_WORDS
        for place in _FIXED.get(kind, ((), 0))[0]:
            move(behind + place, first_type, more_types)
        name, refers, size = _MEMBERS.get(kind, (None, None, 0))
        for member in range(behind, behind + count * size, size or 1):
            if name is not None:
                move(member + name, first_string, more_strings)
            if refers is not None:
                move(member + refers, first_type, more_types)


def _iter_types(words: array[int]) -> Iterator[tuple[int, int, int]]:
    """Place, kind and number of members of each type."""
    at, end = 0, len(words)
    while at < end:
        info = words[at + 1] if at + 2 < end else 0
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        if not 0 < kind <= _LAST_KIND:
            raise FormatError("BTF type", offset=at * _WORD, expected=f"a kind from 1 to {_LAST_KIND}", got=str(kind))
        yield at, kind, count
        at += _TYPE_WORDS + (count * _MEMBERS[kind][2] if kind in _MEMBERS else _FIXED.get(kind, ((), 0))[1])
    if at != end:
        raise FormatError("BTF type", offset=at * _WORD, expected="an end with the section", got=f"{end * _WORD} bytes")
