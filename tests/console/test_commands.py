"""Groups of commands that load late, and what errors of a program become."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from kvmscope.console.commands import CommandPlace, DefaultGroup, LateGroup, places_below
from kvmscope.console.program import CommandProgram
from kvmscope.errors import FormatError, KvmscopeError, OutputError, QueryError, Unavailable, UsageError

PACKAGE = "late_commands"
MODULE = """
import click

@click.command("{name}", short_help="It says {name}.")
@click.argument("words", nargs=-1)
@click.option("--loud", is_flag=True)
def {name}(words, loud):
    click.echo(" ".join(["{name}", *words]) + "!" * loud)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    directory = tmp_path / PACKAGE
    directory.mkdir()
    (directory / "__init__.py").touch()
    for name in ("bark", "purr"):
        (directory / f"pet_{name}.py").write_text(MODULE.format(name=name), encoding="ascii")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return PACKAGE


def pet(package: str, *, default: str | None = None) -> LateGroup:
    return LateGroup("pet", places=places_below("pet", "bark", "purr"), package=package, default=default)


def loaded() -> set[str]:
    return {name.partition(".")[2] for name in sys.modules if name.startswith(f"{PACKAGE}.")}


def invoke(group: click.Group, *args: str) -> Result:
    return CliRunner().invoke(group, args)


def test_a_late_group_loads_the_command_that_is_used_and_no_other(package: str) -> None:
    assert invoke(pet(package), "purr", "softly").stdout == "purr softly\n"
    assert loaded() == {"pet_purr"}


def test_the_help_of_a_late_group_loads_no_command_whose_line_it_has(package: str) -> None:
    places = {"purr": CommandPlace("pet_purr", "purr", "It purrs.")}
    assert "purr  It purrs." in invoke(LateGroup("pet", places=places, package=package), "--help").stdout
    assert loaded() == set()


def test_without_lines_of_its_own_the_help_has_those_of_the_commands(package: str) -> None:
    assert "purr  It says purr." in invoke(pet(package), "--help").stdout


def test_completion_names_commands_with_their_lines(package: str) -> None:
    group = pet(package)
    items = group.shell_complete(click.Context(group), "p")
    assert [(item.value, item.help) for item in items] == [("purr", "It says purr.")]


@pytest.mark.parametrize(
    ("args", "said"),
    [((), "bark\n"), (("--loud",), "bark!\n"), (("purr",), "purr\n"), (("bark", "twice"), "bark twice\n")],
)
def test_the_default_is_meant_where_no_command_is_named(package: str, args: tuple[str, ...], said: str) -> None:
    assert invoke(pet(package, default="bark"), *args).stdout == said


def test_a_word_that_is_near_to_a_command_is_not_taken_for_the_default(package: str) -> None:
    done = invoke(pet(package, default="bark"), "pur")
    assert done.exit_code == 2
    assert "there is no command 'pur'; did you mean purr?" in done.stderr


def test_a_group_of_commands_in_place_can_have_a_default() -> None:
    group = DefaultGroup("pet", commands=[click.Command("bark", callback=lambda: click.echo("woof"))], default="bark")
    assert invoke(group).stdout == "woof\n"


def program(error: Exception) -> CommandProgram:
    def fail() -> None:
        raise error

    here = {"callback": fail, "invoke_without_command": True}
    return CommandProgram("kvmscope", places={}, package=PACKAGE, printable=ascii, **here)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (UsageError("no such VM"), 2),
        (Unavailable("no KVM", remedy="buy one"), 3),
        (FormatError("file", offset=0, expected="a", got="b"), 4),
        (OutputError("disk full", errno.ENOSPC), 5),
    ],
)
def test_an_error_becomes_a_line_and_an_exit_code(error: KvmscopeError, exit_code: int) -> None:
    done = invoke(program(error))
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert done.stderr.startswith("kvmscope: ")
    assert ("  try: buy one\n" in done.stderr) == isinstance(error, Unavailable)


def test_untrusted_text_of_a_usage_error_goes_through_what_makes_it_printable() -> None:
    assert invoke(program(UsageError("no VM\n\x1b[31m"))).stderr == "kvmscope: 'no VM \\x1b[31m'\n"


def test_files_that_cannot_be_opened_any_more_are_an_error_with_what_helps() -> None:
    done = invoke(program(OSError(errno.EMFILE, "Too many open files", "/proc/1/maps")))
    assert done.exit_code == 3
    assert "no more files can be opened" in done.stderr
    assert "ulimit -n" in done.stderr


def test_another_oserror_is_a_fault_of_the_program_and_stays_one() -> None:
    with pytest.raises(OSError, match="No such"):
        program(OSError(errno.ENOENT, "No such file")).run([])


def test_an_error_of_a_query_shows_its_excerpt() -> None:
    done = invoke(program(QueryError("no such view", query="SELECT x", offset=7)))
    assert done.stderr.splitlines()[-2:] == ["'    SELECT x'", "'           ^'"]
