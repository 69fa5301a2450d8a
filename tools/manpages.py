#!/usr/bin/env python3
"""Writes a man page for every command, from click's help: ``tools/manpages.py DIRECTORY``.

The pages are made when packages are built, and are not committed: they say nothing that the help does not. click-man is
not used: it does not see commands that are loaded late, prints click's mark of a block of lines as a control character,
and does not escape what roff takes for its own. The date of a page is SOURCE_DATE_EPOCH, if that is set.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from inspect import cleandoc
from pathlib import Path

import click

from kvmscope.cli.group import main as kvmscope

COMMANDS_PAGE = Path(__file__).resolve().parent.parent / "docs/reference/commands.md"
_BLOCK_OF_LINES = "\b"
_CODE = re.compile(r"`+([^`]+)`+")
_EXIT_CODES = re.compile(r"^## Exit codes\n(?P<section>.*?)^## ", re.MULTILINE | re.DOTALL)
_AS_TYPED = str.maketrans({"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"})
_ROW = re.compile(r"^\| (?P<code>[0-9][0-9, ]*) \| (?P<meaning>.*) \|$", re.MULTILINE)


def pages() -> Mapping[str, str]:
    """Text by name of the file, such as ``kvmscope-lab-run.1``."""
    return {f"{_page_name(context)}.1": _page(context) for context in _contexts("kvmscope", kvmscope)}


def _contexts(name: str, command: click.Command, parent: click.Context | None = None) -> Iterator[click.Context]:
    """Of a command and all below it."""
    context = command.make_context(name, [], parent, resilient_parsing=True)
    yield context
    for below, subcommand in _subcommands(context):
        yield from _contexts(below, subcommand, context)


def _subcommands(context: click.Context) -> Iterator[tuple[str, click.Command]]:
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None and not command.hidden:
                yield name, command


def _page_name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _page(context: click.Context) -> str:
    name = _page_name(context)
    date = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    lines = [
        f'.TH "{name.upper()}" 1 {date} "kvmscope {version("kvmscope")}" "User Commands"',
        ".nh",
        ".ad l",
        ".SH NAME",
        rf"{_escaped(name)} \- {_escaped(_summary(context.command))}",
        ".SH SYNOPSIS",
        f".B {_escaped(context.command_path)}",
        _escaped(" ".join(context.command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *_description(cleandoc(context.command.help or "")),
        *_options(context),
        *_commands(context),
    ]
    if context.parent is None:
        lines += _exit_status()
    return "\n".join((*lines, *_see_also(context))) + "\n"


def _summary(command: click.Command) -> str:
    """The line beside the name, which man-db's whatis shows."""
    first = cleandoc(command.help or "").partition("\n\n")[0]
    return " ".join((command.short_help or first).split()).rstrip(".")


def _description(text: str) -> Iterator[str]:
    """Paragraphs, and blocks of lines as they are: examples."""
    for number, paragraph in enumerate(text.split("\n\n")):
        if paragraph.startswith(_BLOCK_OF_LINES):
            yield from (".PP", ".RS 4", ".nf", *map(_escaped, paragraph.splitlines()[1:]), ".fi", ".RE")
        else:
            yield from (*([".PP"] if number else []), *map(_text, paragraph.splitlines()))


def _options(context: click.Context) -> Iterator[str]:
    yield ".SH OPTIONS"
    for parameter in context.command.get_params(context):
        names, about = parameter.get_help_record(context) or ("", "")
        if about:
            yield from (".TP", rf"\fB{_escaped(names)}\fR", _text(about))


def _commands(context: click.Context) -> Iterator[str]:
    found = list(_subcommands(context))
    if found:
        yield ".SH COMMANDS"
    for name, command in found:
        page = _escaped(f"{_page_name(context)}-{name}")
        yield from (".TP", rf"\fB{page}\fR(1)", _text(_summary(command)))


def _exit_status() -> Iterator[str]:
    """The table of the reference, which holds for every command."""
    found = _EXIT_CODES.search(COMMANDS_PAGE.read_text(encoding="utf-8"))
    assert found is not None, f"{COMMANDS_PAGE} has no exit codes"
    yield ".SH EXIT STATUS"
    for row in _ROW.finditer(found["section"]):
        yield from (".TP", rf"\fB{row['code']}\fR", _text(row["meaning"]))


def _see_also(context: click.Context) -> Sequence[str]:
    if context.parent is None:
        return [".SH SEE ALSO", r"\fBsystemctl\fR(1), \fBperf\fR(1)"]
    above = _escaped(_page_name(context.parent))
    return [".SH SEE ALSO", rf"\fB{above}\fR(1)"]


def _text(line: str) -> str:
    """A line of prose, in which what stands between backticks is code."""
    parts = _CODE.split(line)
    return "".join(rf"\fB{_escaped(part)}\fR" if odd else _escaped(part) for part, odd in _alternating(parts))


def _alternating(parts: Iterable[str]) -> Iterator[tuple[str, bool]]:
    return ((part, number % 2 == 1) for number, part in enumerate(parts))


def _escaped(text: str) -> str:
    """Text in which roff finds no escape and no request, and whose signs can be copied into a shell."""
    escaped = text.translate(_AS_TYPED)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a man page for every command, from its help.")
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
