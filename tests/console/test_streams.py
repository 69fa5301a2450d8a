"""Output that cannot be written: a full disk, a closed stdout, a reader that has gone, for every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmscope.cli.group import COMMANDS
from kvmscope.console.streams import write_file
from kvmscope.errors import OutputError

KVMSCOPE = [sys.executable, "-m", "kvmscope"]
FROM = ("--source", "published")
NO_OUTPUT, FOUND = 5, 1
VM, RECORDING, SAME_RECORDING = "the first VM", "a recording", "the recording by another path"
WRITING: dict[str, list[str]] = {
    "status": ["--interval", "50ms", *FROM],
    "read": [*FROM],
    "hist": [VM, "halt_wait_hist", *FROM],
    "apicv": [*FROM],
    "doctor": ["--rules"],
    "explain": ["exits", "--no-values"],
    "list": [*FROM],
    "check": [],
    "schema": ["diff", "6.1", "6.12"],
    "groups": [*FROM],
    "lab": ["run", "--list"],
    "diff": [RECORDING, SAME_RECORDING],
    "dump": ["--from", RECORDING],
    "report": [RECORDING],
    "sql": ["--from", RECORDING, "SELECT * FROM vms"],
    "fleet": ["schemas", RECORDING],
    "replay": [RECORDING],
    "episodes": [RECORDING],
    "snapshot": ["-", *FROM],
}
"""Arguments with which each command writes something, without root and without KVM."""

OTHERS = [
    ["--help"],
    ["--version"],
    ["read", "--help"],
    ["read", "--json", *FROM],
    ["schema", "diff", "6.1", "6.12", "--json"],
]
EVERY = [*([name, *arguments] for name, arguments in WRITING.items()), *OTHERS]
LEFT_OUT = {"attach", "detach", "demo", "govern", "record", "serve", "top"}
"""They change this host, take long, need a terminal, or write elsewhere; what writes for them is the same."""


@pytest.fixture(scope="module", autouse=True)
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from kvmscope.lab import simulate

    recording = tmp_path_factory.mktemp("streams") / "recording"
    words[RECORDING] = str(recording)
    words[SAME_RECORDING] = f"{recording}/../{recording.name}"
    with simulate.start(vms=3) as host:
        run(["record", RECORDING, "--for", "400ms", "--interval", "100ms", *FROM])
        answer = json.loads(run(["read", "exits", "--json", *FROM]).stdout)
        words[VM] = next(vm["id"] for vm in answer["vms"] if vm["pid"] == host.pid)
        yield


words: dict[str, str] = {}
"""What the words above stand for. A VM goes by its id, since other simulated hosts may have VMs of the same names."""


def test_every_command_is_tried() -> None:
    assert set(WRITING) | LEFT_OUT == set(COMMANDS)


def run(arguments: list[str], *, redirection: str = "", completes: bool = False) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "_KVMSCOPE_COMPLETE"}
    if completes:
        environment |= {"_KVMSCOPE_COMPLETE": "bash_complete", "COMP_WORDS": "kvmscope ", "COMP_CWORD": "1"}
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *KVMSCOPE, *arguments]
    command = [words.get(word, word) for word in command]
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=environment, check=False, timeout=60
    )


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
@pytest.mark.parametrize("arguments", EVERY, ids=" ".join)
def test_output_that_cannot_be_written_is_one_line_and_no_finding(arguments: list[str], redirection: str) -> None:
    done = run(arguments, redirection=redirection)
    assert done.returncode == NO_OUTPUT, done.stderr
    reason = "stdout is closed" if "&" in redirection else "No space left on device"
    assert done.stderr == f"kvmscope: the output could not be written: {reason}\n"


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_so_it_is_for_completion(redirection: str) -> None:
    assert run([], completes=True).stdout.splitlines()[0] == "plain,status"
    done = run([], redirection=redirection, completes=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (NO_OUTPUT, 1)


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "<&- 2>&-"])
def test_notes_that_cannot_be_written_are_dropped(redirection: str) -> None:
    assert run(["read", *FROM], redirection=redirection).returncode == 0
    assert run(["read", "no-such-vm", *FROM], redirection=redirection).returncode == 2


def with_reader_gone(arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [*KVMSCOPE, *(words.get(word, word) for word in arguments)],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    finally:
        os.close(writing)


@pytest.mark.parametrize("arguments", EVERY, ids=" ".join)
def test_a_reader_that_has_gone_changes_no_exit_code(arguments: list[str]) -> None:
    done, whole = with_reader_gone(arguments), run(arguments)
    assert (done.returncode, done.stderr.decode()) == (whole.returncode, whole.stderr)


@pytest.mark.parametrize("command", ["status", "apicv", "doctor"])
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["screen", "json"])
def test_a_watch_ends_with_its_reader(command: str, form: list[str]) -> None:
    done = with_reader_gone([command, "--watch", "--interval", "50ms", *form, *FROM])
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_closed_stdout_is_not_taken_by_a_file_of_the_command() -> None:
    done = run(["read", *FROM, "--json"], redirection=">&- 2>/dev/null")
    assert (done.returncode, done.stdout) == (NO_OUTPUT, "")


def test_a_file_that_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from kvmscope.console.streams import write_file\n"
    program += "write_file(Path(sys.argv[1]), bytes(100_000), is_new=sys.argv[2] == 'new')"
    for name, before, how in (("new.html", None, "any"), ("new.zip", None, "new"), ("old.html", b"the last", "any")):
        path = tmp_path / name
        if before is not None:
            path.write_bytes(before)
        limited = ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", sys.executable, "-c", program, str(path), how]
        done = subprocess.run(limited, capture_output=True, text=True, check=False)
        assert "OutputError: the output could not be written: File too large" in done.stderr
        assert (path.read_bytes() if path.exists() else None) == before
    assert [path.name for path in tmp_path.iterdir()] == ["old.html"]


def test_a_file_is_replaced_with_its_mode_and_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    path, link = tmp_path / "report.html", tmp_path / "link.html"
    path.write_bytes(b"before")
    path.chmod(0o640)
    link.symlink_to(path)
    write_file(link, b"after")
    assert (path.read_bytes(), path.stat().st_mode & 0o777, link.is_symlink()) == (b"after", 0o640, True)
    write_file(Path("/dev/null"), b"nothing")
    assert Path("/dev/null").is_char_device()


def test_a_new_file_takes_the_place_of_none(tmp_path: Path) -> None:
    path = tmp_path / "report.zip"
    write_file(path, b"first", is_new=True)
    with pytest.raises(OutputError, match="File exists"):
        write_file(path, b"second", is_new=True)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"first"]
