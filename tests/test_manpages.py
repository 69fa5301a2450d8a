"""The man pages that packages carry: one for each command, as its help has it, and without a complaint of roff."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from kvmscope.cli.group import COMMANDS
from kvmscope.cli.group import main as kvmscope

TOOL = Path(__file__).parent.parent / "tools/manpages.py"
DAY_S = 1_600_000_000
OPTION = re.compile(r"^ {7}(?=-)(.*?)(?: {2,}|$)", re.MULTILINE)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, TOOL, directory], check=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(DAY_S)})
    return directory


@pytest.fixture(scope="module")
def shown(pages: Path) -> dict[str, str]:
    """What a terminal shows, by page; roff's warnings are errors."""
    if shutil.which("man") is None:
        pytest.skip("man is not installed: tools/debian-packages.txt")
    return {path.stem: show(path) for path in sorted(pages.glob("*.1"))}


def show(page: Path) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "120", "MAN_KEEP_FORMATTING": "", "PAGER": "cat"}
    done = subprocess.run(
        ["man", "--warnings=w", "--local-file", page], capture_output=True, text=True, check=True, env=environment
    )
    assert not done.stderr, f"{page.name}: {done.stderr}"
    return done.stdout


def help_of(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "kvmscope", *words, "--help"], capture_output=True, check=True)
    return done.stdout.decode()


def test_every_command_and_subcommand_has_a_page(pages: Path) -> None:
    context = click.Context(kvmscope)
    expected = {"kvmscope"}
    for name in COMMANDS:
        command = kvmscope.get_command(context, name)
        expected.add(f"kvmscope-{name}")
        if isinstance(command, click.Group):
            expected |= {f"kvmscope-{name}-{below}" for below in command.list_commands(context)}
    assert {path.stem for path in pages.glob("*")} == expected


def test_a_page_has_the_options_of_the_help(shown: dict[str, str]) -> None:
    for words in ([], ["status"], ["groups", "try"], ["serve"], ["lab", "run"]):
        text = shown["-".join(["kvmscope", *words])]
        options = {option for line in OPTION.findall(text) for option in re.findall(r"--[a-z][a-z.-]*", line)}
        from_help = {
            option
            for line in re.findall(r"^ {2}(-.*?)(?: {2,}|$)", help_of(*words), re.MULTILINE)
            for option in re.findall(r"--[a-z][a-z.-]*", line)
        }
        assert options == from_help, words


def test_examples_can_be_copied_from_a_page_into_a_shell(shown: dict[str, str]) -> None:
    assert "           kvmscope read web-1 exits 'halt_*'\n" in shown["kvmscope-read"]
    for name, text in shown.items():
        assert not re.search("[‐−‘’\b]", text), name


def test_the_first_page_has_the_exit_codes_and_names_the_others(shown: dict[str, str]) -> None:
    page = shown["kvmscope"]
    assert re.search(r"^EXIT STATUS\n +0 +done$", page, re.MULTILINE)
    assert "130, 143" in page
    for name in COMMANDS:
        assert f"kvmscope-{name}(1)" in page


def test_whatis_finds_each_page(pages: Path) -> None:
    if (lexgrog := shutil.which("lexgrog")) is None:
        pytest.skip("man is not installed: tools/debian-packages.txt")
    done = subprocess.run([lexgrog, *sorted(pages.glob("*"))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "kvmscope-doctor - What is wrong, why it matters, and what to do" in done.stdout


def test_pages_have_the_date_of_their_source(pages: Path) -> None:
    assert '.TH "KVMSCOPE" 1 2020-09-13 "kvmscope ' in (pages / "kvmscope.1").read_text(encoding="utf-8")
