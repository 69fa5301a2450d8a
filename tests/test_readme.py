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

from kvmscope.catalog.findings import load_findings
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec

PROJECT = Path(__file__).parent.parent
README = PROJECT / "README.md"
TEXT = README.read_text(encoding="utf-8") if README.exists() else ""

pytestmark = pytest.mark.skipif(not TEXT, reason="there is no README.md yet")

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
NO_SOURCE = 3
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


def commands_to_start_with() -> list[str]:
    (block,) = (block for kind, block in BLOCKS if kind == "sh" and "kvmscope demo" in block)
    return str(block).splitlines()


def shown_finding() -> str:
    (block,) = (block for kind, block in BLOCKS if kind == "console" and "kvmscope doctor" in block)
    return " ".join(block.split())


@contextmanager
def guests_named_in(command: str) -> Iterator[None]:
    with ExitStack() as running:
        for stem, number in set(NAME.findall(command)):
            spec = LabSpec(workload="halt", name=stem, vms=int(number) + 1, vcpus=1, period_us=5000)
            running.enter_context(process.start(spec)).go()
        yield


def run(command: str, *, before: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run one line; what goes on for ever is interrupted after its first line, as a person would."""
    words = shlex.split(command, comments=True)
    assert words[0] == "kvmscope"
    with subprocess.Popen(
        [*before, sys.executable, "-m", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        first = child.stdout.readline() if "--watch" in words else ""
        if "--watch" in words:
            child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    return child.returncode, first + out, err


def test_it_shows_commands() -> None:
    assert len(commands()) >= 3


def test_there_are_five_commands_to_start_with() -> None:
    assert len(commands_to_start_with()) == 5


def may_start_programs() -> bool:
    """Whether an unprivileged user's program may start this interpreter, which may lie below /root."""
    start = [*NOBODY, "sh", "-c", 'exec "$0" -c ""', sys.executable]
    return subprocess.run(start, capture_output=True, check=False).returncode == 0


@pytest.mark.whole_host
@pytest.mark.needs("nobody")
@pytest.mark.parametrize("command", commands_to_start_with())
def test_a_user_who_may_read_nothing_can_start_with_these(command: str) -> None:
    if "demo" in command and not may_start_programs():
        pytest.skip(f"an unprivileged user may not run {sys.executable} with kvmscope")
    status, out, err = run(command, before=NOBODY)
    assert status == (NO_SOURCE if "exit code 3" in command else 0), err
    assert out.strip(), "it shows nothing"


def test_the_finding_has_the_words_of_its_rule() -> None:
    (rule,) = (rule for rule in load_findings() if f"[{rule.slug}]" in shown_finding())
    assert f"{rule.severity.name} web-0: {rule.title} [{rule.slug}]" in shown_finding()
    assert f"impact: {' '.join(rule.explanation.split())} fix: {rule.remedies[0].do}" in shown_finding()


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
