"""The tree of errors: by whose fault, with what evidence, under which slug."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmscope import errors
from kvmscope.errors import (
    CatalogError,
    FormatError,
    KvmscopeError,
    PermissionNeeded,
    SourceError,
    Unavailable,
    UsageError,
)

MESSAGES = Path(__file__).parent.parent / "docs/reference/messages.md"


def tree(kind: type[KvmscopeError] = KvmscopeError) -> Iterator[type[KvmscopeError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def test_the_tree_is_the_one_that_the_module_draws() -> None:
    drawn = re.findall(r"[├└]── (\w+)|^    (\w+)$", errors.__doc__ or "", re.MULTILINE)
    assert {first or second for first, second in drawn} == {kind.__name__ for kind in tree()}
    assert issubclass(Unavailable, SourceError)
    assert issubclass(PermissionNeeded, SourceError)
    assert not issubclass(FormatError, SourceError)


def test_every_error_has_a_slug_of_its_own() -> None:
    slugs = [kind.slug for kind in tree()]
    assert len(set(slugs)) == len(slugs)
    assert all("slug" in vars(kind) for kind in tree())


@pytest.mark.parametrize("kind", list(tree()))
def test_every_slug_is_a_heading_of_the_messages(kind: type[KvmscopeError]) -> None:
    headings = re.findall(r"^## (\S+)$", MESSAGES.read_text(encoding="utf-8"), re.MULTILINE)
    assert kind.slug in headings


def test_every_heading_of_the_messages_is_a_slug() -> None:
    headings = re.findall(r"^## (\S+)$", MESSAGES.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(headings) <= {kind.slug for kind in tree()}


def test_a_format_error_tells_where_what_was_expected_and_what_was_there() -> None:
    error = FormatError("stats header", offset=16, expected="24 bytes", got="7")
    assert str(error) == "stats header at byte 16: expected 24 bytes, got 7"
    assert (error.what, error.offset, error.expected, error.got) == ("stats header", 16, "24 bytes", "7")


def test_a_catalog_error_tells_the_place_what_was_expected_and_what_was_there() -> None:
    error = CatalogError("metric halts: unit", file="metrics.toml", line=41, expected="cpus or count", found="'cpu'")
    assert str(error) == "metrics.toml:41: metric halts: unit: expected cpus or count, found 'cpu'"
    assert (error.what, error.file, error.line, error.column) == ("metric halts: unit", "metrics.toml", 41, None)
    assert (error.expected, error.found, error.excerpt) == ("cpus or count", "'cpu'", "")
    marked = CatalogError("", file="f", line=1, column=3, expected="a name", found="')'", excerpt="  a)\n   ^")
    assert str(marked) == "f:1:3: expected a name, found ')'\n  a)\n   ^"


@pytest.mark.parametrize("kind", [SourceError, Unavailable, PermissionNeeded])
def test_a_source_error_tells_the_reason_the_remedy_the_path_and_the_answer(kind: type[SourceError]) -> None:
    error = kind("no such thing", remedy="make one", path="/dev/thing", errno=2)
    assert str(error) == error.reason == "no such thing"
    assert (error.remedy, error.path, error.errno) == ("make one", "/dev/thing", 2)
    bare = kind("no such thing")
    assert (bare.remedy, bare.path, bare.errno) == ("", None, None)


def test_a_usage_error_names_what_may_have_been_meant() -> None:
    error = UsageError("there is no stat 'exit'", nearest=("exits", "exit_x"))
    assert str(error) == "there is no stat 'exit'; did you mean exits, exit_x?"
    assert error.nearest == ("exits", "exit_x")
    assert str(UsageError("there is none")) == "there is none"
