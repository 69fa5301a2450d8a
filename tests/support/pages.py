"""The pages that people read, and what a test can take from them: blocks of code, command lines, links, anchors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
ROOT_PAGES = tuple(
    path
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "contrib/README.md",
        "contrib/packaging/README.md",
        "examples/README.md",
    )
    if (path := PROJECT / name).is_file()
)
PAGES = (*ROOT_PAGES, *sorted(DOCS.rglob("*.md")))

_FENCE = re.compile(r"^( *)```([\w-]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_OPERATORS = frozenset({"|", "||", "&&", ";", "&", ">", ">>", "<", "2>", "("})
_ASSIGNMENT = re.compile(r"\w+=\S*")
_WRAPPERS = ("sudo", "nohup", "nice", "time")


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """One fenced block: its language (``""`` where none is named), its text, and the line where it begins."""

    language: str
    text: str
    line: int


def name_of(page: Path) -> str:
    """For the ids of tests."""
    return str(page.relative_to(PROJECT))


def code_blocks(page: Path) -> Iterator[CodeBlock]:
    """Every fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        indent = len(found[1])
        lines = (line[indent:] for line in found[3].splitlines(keepends=True))
        yield CodeBlock(found[2], "".join(lines), text.count("\n", 0, found.start()) + 1)


def command_lines(page: Path) -> Iterator[str]:
    """All lines of ``sh`` blocks, those behind ``$`` of ``console`` blocks, ``kvmscope …`` in spans and indented."""
    for block in code_blocks(page):
        lines = block.text.replace("\\\n", " ").splitlines()
        if block.language in ("sh", "bash", "shell"):
            yield from (line for line in lines if line.strip() and not line.lstrip().startswith("#"))
        elif block.language == "console":
            yield from (line[2:] for line in lines if line.startswith(("$ ", "# ")))
        elif not block.language:
            yield from (line for line in lines if line.startswith("kvmscope "))
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    yield from (" ".join(span.split()) for span in re.findall(r"`((?:sudo )?kvmscope [^`]+)`", prose))
    yield from re.findall(r"^    (kvmscope .*)$", prose, re.MULTILINE)


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a shell line, split at pipes and lists: words without assignments, redirections and ``sudo``."""
    line = re.sub(r" {2,}\(.*\)$", "", line)  # a remark beside an indented command
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in _OPERATORS or set(word) <= set("|&;<>()"):
            if command := list(_without_wrappers(words)):
                yield command
            words = []
        else:
            words.append(word)


def _without_wrappers(words: list[str]) -> list[str]:
    while words and (words[0] in _WRAPPERS or _ASSIGNMENT.fullmatch(words[0])):
        words = words[1:]
    return words


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Targets within the project as (path, anchor); either may be empty."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", prose):
        if "://" not in target:
            yield target, anchor


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them: lower case, no punctuation, hyphens."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def pages_behind(page: Path) -> set[Path]:
    """The pages and files of the project that a page links to."""
    return {(page.parent / target).resolve() for target, _ in links(page) if target}
