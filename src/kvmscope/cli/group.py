"""The ``kvmscope`` command itself: which commands there are, and what becomes of errors.

Commands are modules of this package and are imported when one of them is used, so that ``--version`` is quick.
Rule: whatever a command raises ends here, as one line of why, one of what to try, and DESIGN's exit code.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from ..errors import CatalogError, FormatError, KvmscopeError, SourceError

COMMANDS: Mapping[str, str] = {
    "status": "status:command",
    "read": "read:command",
    "hist": "hist:command",
    "apicv": "apicv:command",
    "doctor": "doctor:command",
    "explain": "explain:command",
    "list": "list:command",
    "check": "check:command",
    "schema": "schema:schema",
    "groups": "groups:command",
    "attach": "attach:command",
    "detach": "detach:command",
    "demo": "demo:command",
    "lab": "lab:lab",
}
"""Where each command is: module of this package, and its name there. The first is what ``kvmscope`` alone does."""

_DEFAULT = "status"
_OWN_OPTIONS = ("-h", "--help", "--version")

_USAGE, _NO_SOURCE, _BAD_DATA, _INTERRUPTED = 2, 3, 4, 130


class KvmscopeGroup(click.Group):
    """A group that loads its commands late, has a default one, and maps errors to exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in _OWN_OPTIONS):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=2)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KvmscopeError as error:
            _say(str(error), error.remedy if isinstance(error, SourceError) else "")
            ctx.exit(_exit_code(error))
        except click.ClickException as error:
            of = error.ctx if isinstance(error, click.UsageError) and error.ctx else ctx
            _say(error.format_message(), f"{of.command_path} --help")
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            # Whoever read this has enough. What is still in the buffer must not fail again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        return result


def _exit_code(error: KvmscopeError) -> int:
    if isinstance(error, SourceError):
        return _NO_SOURCE
    return _BAD_DATA if isinstance(error, FormatError | CatalogError) else _USAGE


def _say(reason: str, remedy: str) -> None:
    click.echo(f"kvmscope: {reason}", err=True)
    if remedy:
        click.echo(f"  try: {remedy}", err=True)
