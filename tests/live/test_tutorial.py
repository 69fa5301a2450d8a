"""The tutorial runs as it is written: each of its commands, in one shell and in its order, on guests of the lab."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from monitoring import wait_for
from page_shell import PageShell, shell
from pages import DOCS, code_blocks
from tmux import terminal

PAGE = DOCS / "tutorial" / "first-hour.md"

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.needs("kvm", "bpf", "root", "tmux")]


def commands() -> list[str]:
    blocks = [block for block in code_blocks(PAGE) if block.language == "console"]
    return [line[2:] for block in blocks for line in block.text.splitlines() if line.startswith("$ ")]


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


def wait_for_vm(session: PageShell, name: str) -> None:
    """A person is slower than a guest's start; a test is not."""
    assert wait_for(lambda: name in session.run("kvmscope list --vms")[1])


def look_at_top(folder: Path) -> None:
    with terminal(folder, "top") as screen:
        screen.wait_for(lambda text: "web-0" in text)
        screen.keys("q")
        screen.wait_for(lambda text: "ended: 0" in text)
