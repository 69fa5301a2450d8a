"""Texts of messages: the reader of the code finds them in every shape, and finds those that are really printed."""

from __future__ import annotations

import errno
import os
import re
import runpy
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("click")

from kvmscope.codec.statsfile import parse
from kvmscope.errors import FormatError
from kvmscope.linux import kvm_device
from kvmscope.store.snapshot_names import Pseudonyms

PROJECT = Path(__file__).parent.parent
TOOL = runpy.run_path(str(PROJECT / "tools/messages.py"))
MESSAGES = TOOL["messages"]()
PAGE = (PROJECT / "docs/reference/message-texts.md").read_text(encoding="utf-8")


def texts_of(code: str, folder: Path, **others: str) -> list[str]:
    """What the tool reads out of a package with this module, each with its remedy behind a slash."""
    for name, text in {"raising": code, **others}.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return [f"{each.text} / {each.remedy}".removesuffix(" / ") for each in TOOL["messages"](folder)]


SHAPES = {
    "a text": ("raise UsageError('no such thing')", ["no such thing"]),
    "a value": ("def f(name): raise UsageError(f'no VM {name} here')", ["no VM … here"]),
    "a condition": ("def f(n): raise UsageError('a list' if n else f'some {n}')", ["a list", "some …"]),
    "a condition before": (
        "def f(n):\n t = 'one' if n else 'some'\n raise UsageError(f'{t} of them')",
        ["one of them", "some of them"],
    ),
    "more of it": ("def f():\n t = 'this'\n t += ' and that'\n raise UsageError(t)", ["this and that"]),
    "another text": ("def f():\n t = 'old text'\n t = 'new text'\n raise UsageError(t)", ["new text"]),
    "what a function makes": ("def g(x): return f'group {x}'\ndef f(n): raise UsageError(g(n))", ["group …"]),
    "what callers pass": (
        "def g(why): raise UsageError(f'not here: {why}')\ng('it is gone')\ng('x')",
        ["not here: it is gone", "not here: …"],
    ),
    "a table": (
        "T = {1: 'gone away', 2: 'not yet'}\ndef f(n): raise UsageError(T.get(n, 'who knows'))",
        ["gone away", "not yet", "who knows"],
    ),
    "another's words": ("def f(e): raise UsageError(str(e))", []),
    "a remedy": ("raise Unavailable('no libbpf', remedy='apt install it')", ["no libbpf / apt install it"]),
    "pairs of a branch": (
        "def f():\n if 1: a, b = 'it 1', 'do 1'\n else: a, b = 'it 2', 'do 2'\n raise Unavailable(a, remedy=b)",
        ["it 1 / do 1", "it 2 / do 2"],
    ),
    "pairs of a function": (
        "def g(n):\n if n: return 'it 1', 'do 1'\n return 'it 2', 'do 2'\n"
        "def f():\n a, b = g(1)\n raise Unavailable(a, remedy=b)",
        ["it 1 / do 1", "it 2 / do 2"],
    ),
    "parts": (
        "def f(n): raise FormatError('name', offset=n, expected=f'{n} bytes', got='none')",
        ["name at byte …: expected … bytes, got …"],
    ),
    "a gap": ("Gap('the VM ended')", ["the VM ended"]),
}


@pytest.mark.parametrize(("code", "expected"), SHAPES.values(), ids=SHAPES)
def test_texts_are_found_in_every_shape_of_code(code: str, expected: list[str], tmp_path: Path) -> None:
    assert texts_of(code, tmp_path) == expected


def test_texts_are_found_across_modules(tmp_path: Path) -> None:
    imports = "from .words import WHY, because\n"
    raising = "def f(): raise UsageError(f'{WHY} of it')\ndef g(): raise UsageError(because())"
    words = "WHY = 'the end'\ndef because(): return 'it is so'"
    assert texts_of(imports + raising, tmp_path, words=words) == ["it is so", "the end of it"]


def is_listed(said: str) -> bool:
    """Whether the page has a message, also behind the path or the place that it is about."""
    parts = said.split(": ")
    rests = [": ".join(parts[at:]) for at in range(len(parts))]
    return any(message.matches(rest) for message in MESSAGES for rest in rests)


@pytest.mark.parametrize(
    "line",
    [
        "status nobody",
        "explain exit",
        "hist web-1/0 nope",
        "read web-1/9",
        "doctor --count nope",
        "status --at 14:05",
        "status --at yesterday --from /nowhere",
        "replay /nowhere",
        "sql --csv --json 1",
        "lab run --workload pio --vms 0",
        "lab kernel 2.4 -- true",
        "schema diff no-kernel 6.12",
        "schema check --stated /dev/null",
        "dump --between -5m -1m",
        "doctor --watch --fail-on warning",
        "fleet status --prometheus nowhere",
        "serve --web.listen-address nowhere",
        "snapshot -",
        "diff a a",
    ],
)
def test_what_commands_print_stands_on_the_page(line: str, kvmscope: Any, crafted: Any) -> None:
    done = kvmscope.run(*line.split(), on=[crafted.before, crafted.after])
    assert done.exit_code in (2, 3, 4), done.output
    (said,) = re.findall(r"^kvmscope: (.*)", done.stderr, re.MULTILINE)
    assert is_listed(said.partition("; did you mean")[0]), said


def test_another_sentence_does_not_stand_there() -> None:
    assert not is_listed("the guest has lost its keys")


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EACCES])
def test_why_kvm_cannot_be_opened_stands_there_with_what_would_help(code: int) -> None:
    error = kvm_device.explain(OSError(code, os.strerror(code)), "/dev/kvm")
    of_kind = [message for message in MESSAGES if message.slug == error.slug and message.matches(error.reason)]
    assert any(fnmatch(error.remedy, message.remedy.replace("…", "*")) for message in of_kind)
    assert all(f"- `{message.text}`" in PAGE for message in of_kind)


@pytest.mark.parametrize("size", [0, 8, 24, 40])
def test_what_is_wrong_with_a_file_stands_there(size: int) -> None:
    with pytest.raises(FormatError) as caught:
        parse(bytes(size))
    assert is_listed(str(caught.value))


@pytest.mark.parametrize("slug", ["gap", "permission", "source"])
def test_an_anonymised_snapshot_keeps_the_words_of_what_is_missing(slug: str) -> None:
    """They are ours, and say what a host lacks."""
    texts = [text for each in MESSAGES if each.slug == slug for text in (each.text, each.remedy)]
    words = {word for text in texts for word in text.replace(TOOL["HOLE"], " ").split()}
    assert len(words) > 20
    assert {word for word in words if Pseudonyms().text(word) != word} == set()
