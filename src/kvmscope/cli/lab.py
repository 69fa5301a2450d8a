"""``kvmscope lab``: small guests to try kvmscope on; each subcommand is a module ``lab_NAME``, loaded when used."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import click

_SUBCOMMANDS = ("run", "simulate", "kernel")


class _LazyGroup(click.Group):
    """A group whose commands stand in modules of their own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in _SUBCOMMANDS if find_spec(_module(name))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = getattr(importlib.import_module(_module(cmd_name)), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.command("lab", cls=_LazyGroup)
def lab() -> None:
    """Small guests that do a known number of things, to try kvmscope on."""


def _module(name: str) -> str:
    return f"{__package__}.lab_{name}"
