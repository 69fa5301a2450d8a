"""The command line as a whole: exit codes, what goes where, and that everything is documented."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from kvmscope.catalog.metrics import load_metrics
from kvmscope.cli import main
from kvmscope.cli.group import COMMANDS
from kvmscope.errors import FormatError, KvmscopeError, PermissionNeeded, Unavailable

pytestmark = pytest.mark.whole_host

DOCS = Path(__file__).parents[2] / "docs"
PAGES_OF_LAB = ("commands.md", "lab.md", "kernels.md")
KVMSCOPE = [sys.executable, "-m", "kvmscope"]


def every_command() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        yield name, command


@pytest.mark.parametrize(("name", "command"), list(every_command()))
def test_every_command_and_flag_stands_in_the_docs(name: str, command: click.Command) -> None:
    text = (DOCS / "reference/commands.md").read_text(encoding="utf-8")
    assert f"## `kvmscope {name}" in text
    section = text.split(f"## `kvmscope {name}")[1].split("\n## ")[0]
    flags = [flag for param in command.params if isinstance(param, click.Option) for flag in param.opts]
    assert [flag for flag in flags if f"`{flag}" not in section] == []


@pytest.mark.parametrize(("name", "command"), list(every_command()))
def test_every_command_explains_itself(name: str, command: click.Command) -> None:
    assert command.help, name
    assert all(param.help for param in command.params if isinstance(param, click.Option))


def test_every_flag_of_the_lab_stands_in_some_page() -> None:
    from kvmscope.cli.lab import lab

    assert isinstance(lab, click.Group)
    text = "".join((DOCS / "reference" / name).read_text(encoding="utf-8") for name in PAGES_OF_LAB)
    context = click.Context(lab)
    commands = [lab.get_command(context, name) for name in lab.list_commands(context)]
    options = [param for command in commands if command for param in command.params if isinstance(param, click.Option)]
    assert options
    assert [flag for option in options for flag in option.opts if f"`{flag}" not in text] == []


def test_every_metric_stands_in_the_docs() -> None:
    text = (DOCS / "reference/commands.md").read_text(encoding="utf-8")
    rows = [f"| {metric.title} | `{metric.name}` |" for metric in load_metrics() if metric.column]
    assert [row for row in rows if row not in text] == []


def every_error(kind: type[KvmscopeError] = KvmscopeError) -> Iterator[type[KvmscopeError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from every_error(child)


@pytest.mark.parametrize("error", list(every_error()), ids=lambda error: error.__name__)
def test_every_slug_is_a_heading_of_the_messages(error: type[KvmscopeError]) -> None:
    lines = (DOCS / "reference/messages.md").read_text(encoding="utf-8").splitlines()
    assert f"## {error.slug}" in lines


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("no KVM here", remedy="buy one"), 3),
        (PermissionNeeded("not you", remedy="buy one"), 3),
        (FormatError("file", offset=4, expected="a", got="b"), 4),
    ],
)
@pytest.mark.parametrize("command", ["status", "read", "list", "hist"])
def test_errors_have_exit_codes_and_stdout_stays_clean(kvmscope: Any, command: str, error: Any, code: int) -> None:
    arguments = ["web-1", "exits"] if command == "hist" else []
    result = kvmscope.run(command, *arguments, error=error)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(f"kvmscope: {error}")
    assert ("  try: buy one" in result.stderr) == (code == 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stauts"], "there is no command 'stauts'; did you mean status?"),
        (["status", "--sauce", "bpf"], "--sauce"),
        (["--sauce", "bpf"], "--sauce"),
        (["status", "web-1", "extra"], "extra"),
        (["lab", "rum"], "rum"),
        (["attach", "--mode", "rw"], "'rw' is not a mode such as 0440"),
        (["attach", "--group", "no-such-group"], "there is no group 'no-such-group'"),
        (["attach", "--slots", "0"], "--slots"),
    ],
)
def test_usage_errors_exit_with_2_and_say_where_help_is(kvmscope: Any, arguments: list[str], message: str) -> None:
    result = kvmscope.run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("kvmscope: ")
    assert message in result.stderr


def test_an_unknown_source_is_a_usage_error() -> None:
    done = subprocess.run([*KVMSCOPE, "status", "--source", "bfp"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "did you mean bpf?" in done.stderr


def test_help_and_version() -> None:
    for arguments in (["--help"], ["-h"], ["read", "--help"], ["--version"]):
        done = subprocess.run([*KVMSCOPE, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "kvmscope" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], *([command, "--help"] for command in ("read", "status", "doctor", "top"))]
)
def test_who_asks_for_help_waits_for_no_numbers(arguments: list[str]) -> None:
    """numpy takes 50 ms, the catalogue 30."""
    script = f"""
import sys
from kvmscope.cli import main
try:
    main({arguments!r}, prog_name="kvmscope")
except SystemExit:
    pass
heavy = {{"numpy", "rich.console", "textual", "pyarrow", "tomllib", "kvmscope.catalog.stats"}}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.fixture
def simulated() -> Iterator[Any]:
    from kvmscope.lab import simulate

    with simulate.start(vms=3) as host:
        yield host


SIMULATED = ["--source", "published"]


def test_a_reader_that_has_enough_is_no_error(simulated: Any) -> None:
    command = subprocess.Popen([*KVMSCOPE, "read", *SIMULATED], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout is not None
    assert command.stderr is not None
    command.stdout.close()
    stderr = command.stderr.read().decode()
    command.stderr.close()
    assert command.wait() == 0
    assert "Traceback" not in stderr
    assert "Broken" not in stderr


def test_ctrl_c_ends_a_watch_as_a_success(simulated: Any) -> None:
    arguments = ["status", "--watch", "--json", "--interval", "50ms", *SIMULATED]
    command = subprocess.Popen([*KVMSCOPE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout is not None
    lines = [command.stdout.readline() for _ in range(2)]
    command.send_signal(signal.SIGINT)
    _, stderr = command.communicate(timeout=30)
    assert (command.returncode, stderr) == (0, b"")
    assert all(json.loads(line)["simulated"] is True for line in lines)


def test_ctrl_c_ends_other_commands_quietly(simulated: Any) -> None:
    arguments = ["status", "--interval", "10m", *SIMULATED]
    with subprocess.Popen([*KVMSCOPE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        _wait_until_it_sleeps(command.pid)
        command.send_signal(signal.SIGINT)
        stdout, stderr = command.communicate(timeout=30)
    assert (command.returncode, stdout, stderr) == (130, b"", b"")


def _wait_until_it_sleeps(pid: int) -> None:
    """Until the process has read its first sample: it is in clock_nanosleep."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if "nanosleep" in Path(f"/proc/{pid}/wchan").read_text(encoding="ascii"):
            return
        time.sleep(0.02)
    pytest.fail("the command did not come to wait for its second sample")


@pytest.mark.parametrize(
    "arguments",
    [["status", "--interval", "50ms"], ["read"], ["list", "--vms"], ["list"], ["read", "exits"]],
    ids=" ".join,
)
def test_every_screen_of_a_simulated_host_says_so(simulated: Any, arguments: list[str]) -> None:
    plain = subprocess.run([*KVMSCOPE, *arguments, *SIMULATED], capture_output=True, text=True, check=True)
    assert plain.stdout.startswith("SIMULATED")
    assert "\x1b" not in plain.stdout
    as_json = subprocess.run([*KVMSCOPE, *arguments, *SIMULATED, "--json"], capture_output=True, text=True, check=True)
    answer = json.loads(as_json.stdout)
    assert (answer["simulated"], answer["format"]) == (True, "kvmscope/1")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_without_our_signs_gets_a_screen(simulated: Any, encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    arguments = ["status", "--interval", "50ms", *SIMULATED]
    done = subprocess.run([*KVMSCOPE, *arguments], capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"exits/s" in done.stdout
