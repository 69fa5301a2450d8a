"""Groups of commands whose commands stand in modules of their own, which are loaded when used."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import click


class LazyGroup(click.Group):
    """The command ``NAME`` of the group ``lab`` is the function ``NAME`` of the module ``lab_NAME``."""

    subcommands: tuple[str, ...] = ()

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in self.subcommands if find_spec(self._module(name))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = getattr(importlib.import_module(self._module(cmd_name)), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def _module(self, name: str) -> str:
        return f"{__package__}.{self.name}_{name}"


def lazy_group(*subcommands: str) -> type[LazyGroup]:
    """A class of groups that have these commands, as far as their modules are there."""
    return type("LazyGroup", (LazyGroup,), {"subcommands": subcommands})
