"""The tutorial runs as it is written: each of its commands, in one shell and in its order, on guests of the lab."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from monitoring import wait_for
from pages import DOCS, code_blocks
from tmux import terminal

PAGE = DOCS / "tutorial" / "first-hour.md"
PROGRAMS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.needs("kvm", "bpf", "root", "tmux")]


def commands() -> list[str]:
    blocks = [block for block in code_blocks(PAGE) if block.language == "console"]
    return [line[2:] for block in blocks for line in block.text.splitlines() if line.startswith("$ ")]


class TutorialShell:
    """A bash that runs one line after another and says how each ended; its jobs are those of the tutorial."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={**os.environ, "PATH": PROGRAMS, "COLUMNS": "120"},
        )
        self.run("set -m -o pipefail")

    def run(self, line: str) -> tuple[int, str]:
        """Exit code and output, stderr included."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\ncode=$?; echo; echo ended: $code\n")
        self._process.stdin.flush()
        output = ""
        for text in self._process.stdout:
            if found := re.fullmatch(r"ended: (\d+)\n", text):
                return int(found[1]), output
            output += text
        raise AssertionError(f"the shell ended at {line!r}: {output}")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("kill $(jobs -p) 2>/dev/null; wait\n")
        self._process.stdin.close()
        assert self._process.stdout is not None
        self._process.stdout.read()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def shell(folder: Path) -> Iterator[TutorialShell]:
    opened = TutorialShell(folder)
    try:
        yield opened
    finally:
        opened.close()


def test_every_command_of_the_tutorial_works_in_its_order(tmp_path: Path) -> None:
    assert len(commands()) >= 20
    outputs: dict[str, str] = {}
    with shell(tmp_path) as session:
        for line in commands():
            if line == "kvmscope top":
                look_at_top(tmp_path)
                continue
            code, outputs[line] = session.run(line.replace(" &", " > /dev/null &"))
            assert code == 0, f"{line}: {outputs[line]}"
            if name := re.search(r"lab run .*--name (\w+)", line):
                wait_for_vm(session, f"{name[1]}-0")
    assert all(name in outputs["kvmscope status"] for name in ("web-0", "web-1", "disk-0"))
    assert "disk-0" in outputs["kvmscope doctor disk-0"]
    assert "report.zip has" in outputs["kvmscope snapshot report.zip --anonymise"]
    assert (tmp_path / "report.html").stat().st_size > 10_000


def wait_for_vm(session: TutorialShell, name: str) -> None:
    """A person is slower than a guest's start; a test is not."""
    assert wait_for(lambda: name in session.run("kvmscope list --vms")[1])


def look_at_top(folder: Path) -> None:
    with terminal(folder, "top") as screen:
        screen.wait_for(lambda text: "web-0" in text)
        screen.keys("q")
        screen.wait_for(lambda text: "ended: 0" in text)
