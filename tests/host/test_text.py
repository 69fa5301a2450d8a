from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.host.text import printable, without_surrogates

ANY_TEXT = st.text(st.characters(), max_size=200)  # lone surrogates included
NASTY = st.text(st.sampled_from("a ,\\x1b\x00\x1b\x07\x9b\x9d\x7f\n\r\t\u202e\u2066\u200b\ufeff\ud800\u0301\u2028é漢🖥"))


@pytest.mark.parametrize(
    "name", ["web-1", "build box", "instance-0000002a", "Müllers VM", "数据库", "база", "Việt", "שלום", "🖥 1"]
)
def test_ordinary_names_are_unchanged(name: str) -> None:
    assert printable(name) == name


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\r\tc", "a\\x0ab\\x0d\\x09c"),
        ("\x9b2J", "\\x9b2J"),
        ("\x7f", "\\x7f"),
        ("abc\u202edcb", "abc\\u202edcb"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("ad\u200bmin", "ad\\u200bmin"),
        ("\ufeffx", "\\ufeffx"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("a\u00a0b", "a\\xa0b"),
        ("\u3164", "\\u3164"),
        ("x\ufe0f", "x\\ufe0f"),
    ],
)
def test_what_a_terminal_obeys_or_hides_is_spelt_out(raw: str, shown: str) -> None:
    assert printable(raw) == shown


def test_marks_cannot_pile_up_or_reach_out_of_the_name() -> None:
    assert printable("\u0301a") == "\\u0301a"
    assert printable("e\u0301\u0302\u0303\u0304") == "e\u0301\u0302\\u0303\\u0304"


def test_an_overlong_name_is_cut_between_characters() -> None:
    assert printable("x" * 1_000_000, max_length=5) == "xxxx…"
    assert printable("ab\x1bcd", max_length=6) == "ab…"
    assert printable("12345", max_length=5) == "12345"
    with pytest.raises(ValueError, match="max_length"):
        printable("x", max_length=0)


@given(ANY_TEXT | NASTY, st.integers(1, 80))
def test_no_text_gets_a_control_through(text: str, max_length: int) -> None:
    shown = printable(text, max_length=max_length)
    assert len(shown) <= max_length
    assert shown.isprintable()
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not shown or not unicodedata.category(shown[0]).startswith("M")
    shown.encode("utf-8")


@given(ANY_TEXT | NASTY, st.integers(1, 80))
def test_what_was_made_printable_stays_as_it_is(text: str, max_length: int) -> None:
    shown = printable(text, max_length=max_length)
    assert printable(shown, max_length=max_length) == shown


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), max_size=64))
def test_printable_ascii_is_unchanged(text: str) -> None:
    assert printable(text) == text


def test_bytes_that_are_not_text_are_shown_as_bytes_and_json_gets_no_lone_surrogate() -> None:
    assert printable("web-\udcff") == without_surrogates("web-\udcff") == r"web-\xff"
    assert without_surrogates("数据\ud800") == "数据\\ud800"
    without_surrogates("数据\udc80\x1b").encode()
