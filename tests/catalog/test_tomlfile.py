"""TOML that people write: what is wrong is told with its place."""

from __future__ import annotations

import tomllib
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.catalog.tomlfile import TomlEntry, read_root, read_tables, unique
from kvmscope.errors import CatalogError, mark

TEXT = '''# A comment with [[metric]] in it.

[[metric]]
name = "first"
stats = [
    ["exits"],  # not a header: [[metric]]
    [
        "unit = 3",
    ],
]
help = """
unit = "no key"
[[metric]]
"""
unit = 'count'

[metric.remedy]
any = "x"
by.host = "y"

[[metric.step]]
do = "one"

[[metric.step]]
do = "two"

  [[metric]] # the second
  name = "second"
  formula = "rate(a)  + b"
  long = """
rate(a)
  + rate(b)"""
  escaped = "a\\tb"
'''


def entries() -> list[TomlEntry]:
    return read_tables(TEXT, "metrics.toml", "metric")


def test_entries_read_like_what_tomllib_gives() -> None:
    assert [dict(entry) for entry in entries()] == tomllib.loads(TEXT)["metric"]


@pytest.mark.parametrize(
    ("entry", "key", "line"),
    [
        (0, "", 3),
        (0, "name", 4),
        (0, "stats", 5),
        (0, "help", 11),
        (0, "unit", 15),
        (0, "remedy", 17),
        (0, "remedy.any", 18),
        (0, "remedy.by.host", 19),
        (0, "step", 21),
        (0, "step.0.do", 22),
        (0, "step.1", 24),
        (0, "step.1.do", 25),
        (0, "not.there", 3),
        (0, "remedy.nor.this", 17),
        (1, "", 27),
        (1, "name", 28),
    ],
)
def test_an_error_names_file_line_and_key(entry: int, key: str, line: int) -> None:
    error = entries()[entry].error(key, "this", "that")
    assert (error.file, error.line, error.expected, error.found) == ("metrics.toml", line, "this", "that")
    what = f"metric {['first', 'second'][entry]}" + (f": {key}" if key else "")
    assert str(error) == f"metrics.toml:{line}: {what}: expected this, found that"


def test_an_error_within_a_text_has_its_column_in_the_file() -> None:
    error = entries()[1].error_within("formula", 8, "a sign", "'+'")
    assert (error.line, error.column) == (29, 22)
    assert TEXT.splitlines()[28][21:23] == " +"
    assert error.excerpt == "    rate(a)  + b\n            ^"


def test_an_error_within_a_long_text_has_its_line() -> None:
    second = entries()[1]
    offset = second["long"].index("+")
    error = second.error_within("long", offset, "x", "y")
    assert (error.line, error.column) == (32, 3)
    assert error.excerpt == "      + rate(b)\n      ^"


def test_in_a_text_with_escapes_only_the_line_is_known() -> None:
    error = entries()[1].error_within("escaped", 2, "x", "y")
    assert (error.line, error.column) == (33, None)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a = 1\nb = \n", 2, 5),
        ("a = 1\na = 2\n", 2, 6),
        ('a = """\n\nb', 3, None),
        ("a = " + "[" * 5000, 1, None),
        ("a = " + "9" * 5000, 1, None),
    ],
)
def test_what_is_not_toml_is_an_error_with_its_line(text: str, line: int, column: int | None) -> None:
    with pytest.raises(CatalogError, match="expected TOML, found") as raised:
        read_root(text, "mine.toml")
    assert (raised.value.file, raised.value.line, raised.value.column) == ("mine.toml", line, column)


def test_a_table_of_another_name_is_refused() -> None:
    with pytest.raises(CatalogError, match=r"^f:3: metrics: expected \[\[metric\]\], found 'metrics'$"):
        read_tables("[[metric]]\n\n[[metrics]]\n", "f", "metric")
    assert read_tables("version = 1\n", "f", "metric", beside=["version"]) == []


@pytest.mark.parametrize("text", ["[metric]\n", "metric = 3\n", "metric = [1]\n"])
def test_a_table_that_is_no_list_of_tables_is_refused(text: str) -> None:
    with pytest.raises(CatalogError, match=r"expected \[\[metric\]\]"):
        read_tables(text, "f", "metric")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def entry(text: str) -> TomlEntry:
    return read_root(text, "f")


def test_fields_are_read_by_their_types() -> None:
    good = entry('s = "x"\nl = ["a", "b"]\ni = 3\nb = true\nc = "red"\nt = [{u = 1}, {u = 2}]\n[sub]\nv = 4\n')
    assert (good.string("s"), good.string("none", "default")) == ("x", "default")
    assert (good.strings("l"), good.strings("none")) == (("a", "b"), ())
    assert (good.integer("i"), good.integer("none", 7)) == (3, 7)
    assert (good.boolean("b", default=False), good.boolean("none", default=False)) == (True, False)
    assert good.choice("c", Colour) is Colour.RED
    assert [part.integer("u") for part in good.tables("t")] == [1, 2]
    assert (good.table("sub").integer("v"), len(good.table("none"))) == (4, 0)
    assert good.table("sub").error("v", "x", "y").line == 8
    good.check_keys(["s", "l", "i", "b", "c"], ["t", "sub", "more"])


@pytest.mark.parametrize(
    ("text", "method", "message"),
    [
        ("k = 3", "string", r"f:1: k: expected text, found a whole number \(3\)"),
        ('k = "  "', "string", "expected text, found blank text"),
        ("j = 1", "string", "f:1: expected a key 'k', found none"),
        ("j = 1", "integer", "expected a key 'k', found none"),
        ('k = "x"', "strings", "expected a list of texts, found text"),
        ("k = [1]", "strings", r"expected a list of texts, found a whole number \(1\) in it"),
        ('k = ["a", {}]', "strings", "expected a list of texts, found a table in it"),
        ('k = ["a", ""]', "strings", "expected a list of texts, found an empty text in it"),
        ("k = [{}, 1]", "tables", r"expected a list of tables, found a whole number \(1\) in it"),
        ("k = true", "integer", "expected a whole number, found true or false"),
        ("k = 1.5", "integer", "expected a whole number, found a number"),
        ("k = 2020-01-01", "integer", "expected a whole number, found a date or time"),
        ("k = {}", "tables", "expected a list of tables, found a table"),
        ("k = []", "table", "expected a table, found an empty list"),
    ],
)
def test_a_field_of_another_type_is_refused(text: str, method: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        getattr(entry(text), method)("k")


def test_a_value_that_is_no_choice_is_refused_and_the_choices_are_told() -> None:
    with pytest.raises(CatalogError, match="expected one of red, blue, found 'green'"):
        entry('c = "green"').choice("c", Colour)
    with pytest.raises(CatalogError, match="expected true or false, found a whole number"):
        entry("b = 1").boolean("b", default=True)


def test_keys_that_lack_or_are_too_many_are_refused() -> None:
    with pytest.raises(CatalogError, match=r"^f:2: colour: expected one of a, b, found 'colour'$"):
        entry("a = 1\ncolour = 2\n").check_keys(["a"], ["b"])
    with pytest.raises(CatalogError, match=r"^f:1: expected a key 'b', found none$"):
        entry("a = 1\n").check_keys(["a", "b"])


def test_a_value_that_comes_twice_names_the_line_of_the_first() -> None:
    twice = read_tables('[[m]]\nname = "x"\n[[m]]\nname = "y"\n[[m]]\nname = "x"\n', "f", "m")
    unique(twice[:2], "name")
    with pytest.raises(CatalogError, match="f:6: m x: name: expected a unique name, found 'x', which line 1 has"):
        unique(twice, "name")


@pytest.mark.parametrize("value", ["[]", "{}", "3"])
def test_a_name_that_is_not_a_text_is_refused(value: str) -> None:
    with pytest.raises(CatalogError, match="f:2: m: name: expected text, found"):
        unique(read_tables(f"[[m]]\nname = {value}\n", "f", "m"), "name")


def test_a_long_value_is_quoted_in_part() -> None:
    with pytest.raises(CatalogError) as raised:
        entry(f'c = "{"x" * 5000}"').choice("c", Colour)
    assert len(str(raised.value)) < 200


def test_the_mark_stands_under_its_character_also_past_tabs_and_at_the_end() -> None:
    assert mark("a\tb", 2) == "    a\tb\n     \t^"
    assert mark("ab", 2) == "    ab\n      ^"


@given(st.text(alphabet="[]{}=.,#'\"\\ \n\tab1"))
def test_any_text_is_read_or_is_the_one_error(text: str) -> None:
    try:
        root = read_root(text, "f")
    except CatalogError as error:
        assert 1 <= error.line <= text.count("\n") + 1
    else:
        for key in root:
            assert root.error(key, "x", "y").line <= text.count("\n") + 1
