"""Keys of a terminal: each by its name, none lost, whatever comes at once or in pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from kvmscope.console.keys import KeyReader, keys_of


@pytest.fixture
def pipe() -> Iterator[tuple[KeyReader, int]]:
    ours, theirs = os.pipe()
    yield KeyReader(ours), theirs
    os.close(ours)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("\x1b[C\x1b[C\x1b[D", ["right", "right", "left"]),
        ("\x1bOC\x1bOH\x1b[1~", ["right", "home", "home"]),
        ("g-5m\r", ["g", "-", "5", "m", "enter"]),
        ("\x1b", ["escape"]),
        ("\x1b[99;5u\x1b[15~x\n", ["", "", "x", "enter"]),
        ("é漢", ["é", "漢"]),
        ("\x7f\0", ["backspace", "\0"]),
    ],
)
def test_what_comes_at_once_is_key_after_key(text: str, keys: list[str]) -> None:
    assert list(keys_of(text)) == keys


def test_no_key_is_lost_and_bytes_that_are_not_utf_8_are_none(pipe: tuple[KeyReader, int]) -> None:
    keys, terminal = pipe
    os.write(terminal, b"14:05\xff" + "é".encode()[:1])
    assert [keys.read(1.0) for _ in range(5)] == list("14:05")
    os.write(terminal, "é".encode()[1:] + b"\r")
    assert [keys.read(1.0) for _ in range(2)] == ["é", "enter"]
    assert keys.read(0.0) is None


def test_a_terminal_that_has_gone_ends_it(pipe: tuple[KeyReader, int]) -> None:
    keys, terminal = pipe
    os.write(terminal, b"x")
    os.close(terminal)
    assert [keys.read(None) for _ in range(2)] == ["x", "q"]
