"""Merged BTF: every type keeps its name and what it refers to, by a reader of our own and by libbpf."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.errors import FormatError, Unavailable
from kvmscope.linux.btf_merge import BtfSections, merge, parse_sections
from kvmscope.linux.libbpf import library

INT, PTR, STRUCT, FUNC, PROTO = 1, 2, 4, 12, 13


class Writer:
    """A BTF, or one that is split from ``base``."""

    def __init__(self, base: Writer | None = None) -> None:
        self.types = b""
        self.strings = b"" if base else b"\0"
        self._strings_before = len(base.strings) if base else 0
        self.last: int = base.last if base else 0

    def name(self, text: str) -> int:
        place = self._strings_before + len(self.strings)
        self.strings += text.encode() + b"\0"
        return place

    def add(self, kind: int, name: str, third: int, *behind: int, members: int = 0) -> int:
        place = self.name(name) if name else 0
        self.types += struct.pack(f"=3I{len(behind)}I", place, kind << 24 | members, third, *behind)
        self.last += 1
        return self.last

    def encode(self) -> bytes:
        return BtfSections(self.types, self.strings).encode()


def kernel() -> Writer:
    base = Writer()
    base.add(INT, "int", 4, 32)
    return base


def module(base: Writer, name: str) -> Writer:
    """``struct NAME { int number_of_NAME; struct NAME *next_of_NAME; }; int NAME_ends(struct NAME *)``."""
    own = Writer(base)
    number, pointer = own.name(f"number_of_{name}"), own.name(f"next_of_{name}")
    whole = own.last + 1
    own.add(STRUCT, name, 16, number, 1, 0, pointer, whole + 1, 64, members=2)
    own.add(PTR, "", whole)
    own.add(PROTO, "", 1, 0, whole + 1, members=1)
    own.add(FUNC, f"{name}_ends", whole + 2)
    return own


def read_back(data: bytes) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Of each struct its members' names with what they are; of each function the struct that it takes."""
    sections = parse_sections(data)
    words = struct.unpack(f"={len(sections.types) // 4}I", sections.types)
    types: list[tuple[int, int, tuple[int, ...]]] = [(0, 0, ())]
    at = 0
    while at < len(words):
        name, info, third = words[at : at + 3]
        kind, members = info >> 24, info & 0xFFFF
        behind = {INT: 1, STRUCT: 3 * members, PROTO: 2 * members}.get(kind, 0)
        types.append((kind, name, (third, *words[at + 3 : at + 3 + behind])))
        at += 3 + behind

    def text(place: int) -> str:
        return sections.strings[place:].partition(b"\0")[0].decode()

    def described(number: int) -> str:
        kind, name, rest = types[number]
        return f"{described(rest[0])} *" if kind == PTR else text(name)

    structs, functions = {}, {}
    for kind, name, rest in types:
        if kind == STRUCT:
            structs[text(name)] = tuple(f"{described(rest[i + 1])} {text(rest[i])}" for i in (1, 4))
        if kind == FUNC:
            functions[text(name)] = described(types[rest[0]][2][2])
    return structs, functions


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "bb", "ccc")])
def test_types_of_all_modules_keep_their_names_and_references(names: tuple[str, ...]) -> None:
    base = kernel()
    structs, functions = read_back(merge(base.encode(), [module(base, name).encode() for name in names]))
    assert structs == {name: (f"int number_of_{name}", f"{name} * next_of_{name}") for name in names}
    assert functions == {f"{name}_ends": f"{name} *" for name in names}


def test_libbpf_takes_the_result_as_one_btf(tmp_path: Path) -> None:
    try:
        lib = library()
    except Unavailable as error:
        pytest.skip(str(error))
    base = kernel()
    path = tmp_path / "btf"
    path.write_bytes(merge(base.encode(), [module(base, name).encode() for name in ("a", "b")]))
    pointer = ctypes.c_void_p(lib.btf__parse(str(path).encode(), None))
    assert pointer
    found = [lib.btf__find_by_name_kind(pointer, name, kind) for name, kind in ((b"a", 4), (b"b", 4), (b"b_ends", 12))]
    lib.btf__free(pointer)
    assert found == [2, 6, 9]


@given(st.binary(max_size=200))
def test_any_bytes_are_merged_or_a_format_error(data: bytes) -> None:
    for modules in ([data], [data, data]):
        with pytest.raises(FormatError):
            merge(data, modules)
    base = kernel()
    whole = module(base, "a").encode()
    for cut in range(len(whole)):
        with pytest.raises(FormatError):
            merge(base.encode(), [whole[:cut], whole[:cut]])
