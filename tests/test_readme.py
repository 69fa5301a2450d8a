"""What README says works: its commands run, and its Python. tests/docs holds its links, options and targets."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec

PROJECT = Path(__file__).parent.parent
README = PROJECT / "README.md"
TEXT = README.read_text(encoding="utf-8") if README.exists() else ""

pytestmark = pytest.mark.skipif(not TEXT, reason="there is no README.md yet")

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
NAME = re.compile(r"\b([a-z]+(?:-[a-z]+)*)-(\d+)\b")
"""How the VMs are called that README's commands name; in tests they are guests that sleep and wake."""


def commands() -> list[str]:
    """The lines of its shell blocks that call kvmscope; in a console block only those behind a prompt."""
    found = []
    for kind, block in BLOCKS:
        if kind in ("sh", "console"):
            prompt = "$ " if kind == "console" else ""
            lines = (line for line in block.splitlines() if line.startswith(f"{prompt}kvmscope"))
            found += [line.removeprefix(prompt) for line in lines]
    return list(dict.fromkeys(found))


@contextmanager
def guests_named_in(command: str) -> Iterator[None]:
    with ExitStack() as running:
        for stem, number in set(NAME.findall(command)):
            spec = LabSpec(workload="halt", name=stem, vms=int(number) + 1, vcpus=1, period_us=5000)
            running.enter_context(process.start(spec)).go()
        yield


def run(command: str) -> tuple[int, str, str]:
    """Run one line; what goes on for ever is interrupted after its first line, as a person would."""
    words = shlex.split(command, comments=True)
    assert words[0] == "kvmscope"
    with subprocess.Popen(
        [sys.executable, "-m", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        first = child.stdout.readline() if "--watch" in words else ""
        if "--watch" in words:
            child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    return child.returncode, first + out, err


def test_it_shows_commands() -> None:
    assert len(commands()) >= 3


@pytest.mark.live
@pytest.mark.needs("kvm", "bpf")
@pytest.mark.parametrize("command", commands())
def test_every_command_runs(command: str) -> None:
    with guests_named_in(command):
        status, out, err = run(command)
    assert status == 0, err
    assert out.strip(), "it shows nothing"


@pytest.mark.live
@pytest.mark.needs("kvm", "bpf")
@pytest.mark.parametrize("code", [block for kind, block in BLOCKS if kind == "python"])
def test_every_piece_of_python_runs(code: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
