"""Groups of commands for click: each command in its own module, loaded when used; a default command; suggestions.

click itself parses options and runs commands.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

OWN_OPTIONS = frozenset({"-h", "--help", "--version"})
"""Options of a group itself, which need no command: they do not start the default command."""


@dataclass(frozen=True, slots=True)
class CommandPlace:
    """The module of a command, and its name there. ``short_help``: its line in the help of its group, which then does
    not load the command; without it, the command's own."""

    module: str
    name: str
    short_help: str = ""


def places_below(group: str, *names: str) -> dict[str, CommandPlace]:
    """The command ``run`` of the group ``lab`` is the function ``run`` of the module ``lab_run``."""
    return {name: CommandPlace(f"{group}_{name}", name) for name in names}


class DefaultGroup(click.Group):
    """A group with a command that is meant where none is named; for an unknown one it says which are near."""

    def __init__(self, *args: Any, default: str | None = None, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if self._default is not None and not ctx.resilient_parsing and self._names_none(args):
            args = [self._default, *args]
        return super().parse_args(ctx, args)

    @staticmethod
    def _names_none(args: list[str]) -> bool:
        return not args or (args[0].startswith("-") and args[0] not in OWN_OPTIONS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if args[0] not in names:
            import difflib  # takes 3 ms, which a start with correct words need not pay

            near = difflib.get_close_matches(args[0], names, n=2)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx=ctx)
        return super().resolve_command(ctx, args)


class LateGroup(DefaultGroup):
    """A group that imports a command when it is used. ``places``: its commands, in the order of its help; their modules
    are in ``package``."""

    def __init__(self, *args: Any, places: Mapping[str, CommandPlace], package: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._places = places
        self._package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self._places.get(cmd_name)
        if place is None:
            return None
        command = getattr(importlib.import_module(f"{self._package}.{place.module}"), place.name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if not all(place.short_help for place in self._places.values()):
            super().format_commands(ctx, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.short_help) for name, place in self._places.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = [name for name in self._places if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=self._short_help(ctx, name)) for name in names), *options]

    def _short_help(self, ctx: click.Context, name: str) -> str:
        command = None if self._places[name].short_help else self.get_command(ctx, name)
        return self._places[name].short_help if command is None else command.get_short_help_str()
