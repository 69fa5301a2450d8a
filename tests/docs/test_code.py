"""Command lines and code in the pages are accepted: commands, options and their values, files, syntax."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pages import PAGES, PROJECT, code_blocks, command_lines, name_of, simple_commands

pytest.importorskip("click")

import click

from kvmscope.cli import main

PLACEHOLDER = re.compile(r"…|\.\.\.|\[|\]|^[A-Z][A-Z_]*$|^<.*>$")
"""A word that stands for a value, as in a synopsis."""


def kvmscope_lines(page: Path) -> Iterator[tuple[str, list[str]]]:
    for line in command_lines(page):
        if "kvmscope" in line:
            for words in simple_commands(line):
                if Path(words[0]).name == "kvmscope":
                    yield line, words[1:]


def check(words: Sequence[str]) -> None:
    """Raises what click raises, if it does not know the command, an option, or a value of a choice."""
    command: click.Command = main
    context = click.Context(main, info_name="kvmscope")
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        assert found is not None, f"there is no command {rest[0]!r} of {context.command_path}"
        context = click.Context(found, parent=context, info_name=rest.pop(0))
        command = found
    values, left, _ = command.make_parser(context).parse_args([word for word in rest if word not in ("…", "...")])
    assert not left or isinstance(command, click.Group), f"{context.command_path} takes no {left}"
    for param in command.params:
        given = values.get(param.name)
        for value in given if isinstance(given, tuple | list) else [given]:
            if isinstance(param.type, click.Choice) and isinstance(value, str) and not PLACEHOLDER.search(value):
                param.type.convert(value, param, context)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_line_is_one_that_kvmscope_knows(page: Path) -> None:
    for line, words in kvmscope_lines(page):
        try:
            check(words)
        except click.BadOptionUsage:
            assert words[-1].startswith("--"), f"{line}: an option lacks its value"  # prose may name an option alone
        except click.ClickException as problem:
            pytest.fail(f"{line}: {problem.format_message()}")


def test_a_line_with_an_unknown_option_command_or_choice_is_found() -> None:
    check(["doctor", "--fail-on", "warning", "--json"])
    for words in (["doctor", "--nope"], ["doctor", "--fail-on", "purple"], ["hist", "a", "b", "c"]):
        with pytest.raises((click.ClickException, AssertionError)):
            check(words)
    with pytest.raises(AssertionError):
        check(["nope"])


def test_a_shell_line_is_split_into_its_commands() -> None:
    line = "sudo kvmscope status --json | jq . > out.json && A=1 kvmscope doctor  # why"
    assert list(simple_commands(line)) == [
        ["kvmscope", "status", "--json"],
        ["jq", "."],
        ["out.json"],
        ["kvmscope", "doctor"],
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_of_other_languages_is_sound(page: Path) -> None:
    for block in code_blocks(page):
        where = f"{name_of(page)}:{block.line}"
        if block.language == "python":
            compile(block.text, where, "exec")
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "yaml":
            list(pytest.importorskip("yaml").safe_load_all(block.text))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_targets_that_commands_name_are_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in command_lines(page):
        for words in simple_commands(line):
            if words[0] == "make":
                assert {word for word in words[1:] if re.fullmatch(r"[a-z-]+", word)} <= targets, line
            for word in words:
                if re.match(r"(\./)?(examples|tools|contrib|bench|tests)/[\w./-]+$", word):
                    assert (PROJECT / word).exists(), line


def test_pages_show_many_commands() -> None:
    assert sum(1 for page in PAGES for _ in kvmscope_lines(page)) > 100
