"""Every option of every command, with values that nobody means: a line that says so and exit code 2, no traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner

from kvmscope.cli import main
from kvmscope.cli.options import PLACE, FilePath, WholeNumber, parse_duration
from kvmscope.errors import UsageError

NONSENSE = (
    *("", " ", "nonsense", "-", "-1", "0", "-0", "0.0", "nan", "-nan", "inf", "1e999", "1e5", "0x10", "1_0", "+1"),
    *("99999999999999999999", "99999999999999999999s", "9" * 5000, "1.5.5s", "1s2", "1 s ", "s", "1µs", "1S"),
    *("٣", "١s", "１", "1\x00", "\x00", "\udcff", "a\nb", "%s", "{}", "../..", "--", "x" * 100_000),
)


def every_command(
    group: click.Group = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        else:
            yield (*path, name), command


def every_option() -> Iterator[Any]:
    for path, command in every_command():
        for param in command.params:
            if isinstance(param, click.Option) and not param.is_flag:
                yield pytest.param(command, param, id=f"{' '.join(path)} {param.opts[0]}")


def parsed(command: click.Command, option: click.Option, value: str) -> Any:
    """The value that the command would get. Raises what parsing raises."""
    assert option.name is not None
    arguments = ["x" for param in command.params if isinstance(param, click.Argument) and param.required]
    context = command.make_context("it", [f"{option.opts[0]}={value}", *arguments])
    return context.params[option.name]


@pytest.mark.parametrize(("command", "option"), list(every_option()))
def test_no_option_takes_nonsense(command: click.Command, option: click.Option) -> None:
    taken = []
    for value in NONSENSE:
        try:
            got = parsed(command, option, value)
        except (click.UsageError, UsageError) as error:
            assert str(error), value[:20]
        else:
            if not _is_plausible(option, got):
                taken.append((value[:30], got))
    assert _takes_text(option) or taken == []


def _takes_text(option: click.Option) -> bool:
    """Whether it takes a name, a text or a place, which its command looks up."""
    return option.type in {click.STRING, PLACE} and option.callback is None


def _is_plausible(option: click.Option, got: Any) -> bool:
    """A number that means what it says, in a range that has both ends."""
    if option.callback is parse_duration:
        return bool(0.001 <= got <= 10_000 * 3600)
    if got == option.flag_value:
        return True  # click takes the value of an option whose value may be left out
    if isinstance(option.type, click.Choice):
        return bool(got in option.type.choices)
    if isinstance(option.type, FilePath):
        return bool(got.name) and "\0" not in str(got)
    if isinstance(got, tuple):
        return got == (0,)
    return isinstance(option.type, WholeNumber) and bool(option.type.least <= int(got) <= option.type.most)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("500ms", 0.5), ("1s", 1.0), ("2m", 120.0), ("1.5", 1.5), ("3 min", 180.0), ("10000h", 36e6)],
)
def test_a_time_has_a_unit_or_is_in_seconds(value: str, seconds: float) -> None:
    assert parse_duration(click.Context(main), click.Option(["--for"]), value) == seconds


@pytest.mark.parametrize("value", [text for text in NONSENSE if "\x00" not in text])
@pytest.mark.parametrize("option", ["--source", "--provider", "--fail-on"])
def test_a_name_that_is_nowhere_is_a_line_and_exit_code_2(option: str, value: str) -> None:
    command = {"--source": "list", "--provider": "read", "--fail-on": "doctor"}[option]
    result = CliRunner().invoke(main, [command, f"{option}={value}", *([] if option == "--source" else ["--source=x"])])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("kvmscope: ")
    assert len(result.stderr.splitlines()) <= 2
    assert len(result.stderr) < 600


COMMANDS = (
    *("status", "read", "list", "check", "apicv", "doctor", "explain exits", "schema dump", "schema diff 6.1"),
    *("groups", "groups try exits", "attach", "detach", "demo", "lab run --count 1", "lab simulate"),
)


@pytest.mark.parametrize("files", [8, 16, 40])
@pytest.mark.parametrize("command", COMMANDS)
def test_too_few_files_are_told_with_what_helps(command: str, files: int) -> None:
    limited = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", sys.executable, "-m", "kvmscope", *command.split()]
    done = subprocess.run(limited, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"kvmscope: this process may have {files} files open, and kvmscope needs up to 64\n"
        "  try: a higher limit of open files, such as `ulimit -n 4096`\n"
    )


def test_help_needs_few_files() -> None:
    limited = ["sh", "-c", 'ulimit -n 8; exec "$@"', "sh", sys.executable, "-m", "kvmscope", "read", "--help"]
    assert subprocess.run(limited, capture_output=True, check=False, timeout=30).returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        *("status --from", "doctor --from", "dump --from", "sql --from", "serve --from", "snapshot --from"),
        *("record", "report", "replay", "episodes", "diff", "fleet status", "fleet doctor", "fleet load"),
    ],
)
def test_an_empty_word_is_no_recording(command: str) -> None:
    result = CliRunner().invoke(main, [*command.split(), ""])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'' is not the path of a recording" in result.stderr
