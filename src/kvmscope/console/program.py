"""A program of commands: any error becomes lines on stderr and an exit code.

Rule: an error is shown as one line with the reason and one with what to try. docs/reference/commands.md lists the exit
codes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from ..errors import (
    CatalogError,
    FormatError,
    KvmscopeError,
    OutputError,
    QueryError,
    RecordingError,
    SourceError,
    UsageError,
)
from . import limits, streams
from .commands import OWN_OPTIONS, LateGroup
from .interrupts import Interruption

_USAGE, _NO_SOURCE, _BAD_DATA, _NO_OUTPUT, _INTERRUPTED = 2, 3, 4, 5, 130


class CommandProgram(LateGroup):
    """The outermost group. ``printable``: makes a line of untrusted text fit for a terminal."""

    def __init__(self, *args: Any, printable: Callable[[str], str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._printable = printable

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """As in click, except that errors become lines and exit codes here, whenever they are raised."""
        sys.exit(self.run(sys.argv[1:] if args is None else args, **extra))

    def run(self, args: Sequence[str], **extra: Any) -> int:
        """Run the command line and flush all output; the exit code."""
        exit_code = self._run(list(args), extra)
        try:
            sys.stdout.flush()
        except OutputError as error:
            return self._end_with(error)
        return exit_code

    def _run(self, args: list[str], extra: dict[str, Any]) -> int:
        try:
            return self._obey(args, extra)
        except click.ClickException as error:
            context = error.ctx if isinstance(error, click.UsageError) else None
            path = context.command_path if context else self.name
            _say(self._one_line(error.format_message()), f"{path} --help")
            return error.exit_code
        except KvmscopeError as error:
            return self._end_with(error)
        except (OSError, MemoryError, ImportError, RuntimeError) as error:
            unusable = limits.unusable(error)
            if unusable is None:
                raise
            return self._end_with(unusable)
        except KeyboardInterrupt as error:
            streams.drop()
            return error.exit_code if isinstance(error, Interruption) else _INTERRUPTED

    def _obey(self, args: list[str], extra: dict[str, Any]) -> int:
        name = self.name or ""
        variable = f"_{name.upper()}_COMPLETE"
        if instruction := os.environ.get(variable):
            from click.shell_completion import shell_complete

            return shell_complete(self, extra, name, variable, instruction)
        if not OWN_OPTIONS & set(args):
            limits.require_open_files()
        try:
            with self.make_context(name, args, **extra) as ctx:
                self.invoke(ctx)
        except click.exceptions.Exit as exit_:
            return exit_.exit_code
        except SystemExit as exit_:
            return exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 1
        return 0

    def _end_with(self, error: KvmscopeError) -> int:
        reason = self._one_line(str(error)) if isinstance(error, UsageError) else str(error)
        if isinstance(error, QueryError) and error.excerpt:
            reason += "\n" + "\n".join(map(self._excerpt_line, error.excerpt.splitlines()))
        _say(reason, error.remedy if isinstance(error, SourceError) else "")
        return _exit_code(error)

    def _one_line(self, text: str) -> str:
        """The text on one line, fit for a terminal: a message may quote anything that the user typed."""
        return self._printable(" ".join(text.split()))

    def _excerpt_line(self, text: str) -> str:
        """A line whose blanks are kept, such as those before a marker under a query."""
        return self._printable(text.replace("\t", " "))


def _exit_code(error: KvmscopeError) -> int:
    if isinstance(error, SourceError):
        return _NO_SOURCE
    if isinstance(error, OutputError):
        return _NO_OUTPUT
    return _BAD_DATA if isinstance(error, FormatError | CatalogError | RecordingError) else _USAGE


def _say(reason: str, remedy: str) -> None:
    click.echo(f"kvmscope: {reason}", err=True)
    if remedy:
        click.echo(f"  try: {remedy}", err=True)
