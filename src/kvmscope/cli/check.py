"""``kvmscope check``: what can be read here, by which source, and why not by the others."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

import click

from ..errors import KvmscopeError
from .echo import echo_lines, wrapped
from .options import json_option
from .session import open_live_host

if TYPE_CHECKING:
    from ..view.check import CheckedSource

_NO_SOURCE = 3


@click.command("check", short_help="What can be read here, by which source, and why not the rest.")
@json_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """Show what can be read here, by which source, and why not by the others.

    Exits with 3 if nothing can be read: no source sees every VM, and the others can read none.
    """
    from .. import collect
    from ..host.machine import read_machine
    from ..view.check import DETAIL_INDENT, CheckView, check_lines, checked_host
    from ..view.jsonout import dump, to_value

    sources = tuple(map(_try, collect.SOURCES))
    host = checked_host(read_machine(), user=_user(), is_root=os.geteuid() == 0)
    view = CheckView(host=host, sources=sources)
    if as_json:
        click.echo(dump(to_value(view)))
    else:
        echo_lines(wrapped(check_lines(view), indent=DETAIL_INDENT))
    if view.best is None:
        ctx.exit(_NO_SOURCE)


def _try(name: str) -> CheckedSource:
    from ..view.check import failed_source, opened_source

    try:
        with open_live_host(name) as host:
            sample = host.read()
    except KvmscopeError as error:
        return failed_source(name, error)
    return opened_source(name, sample)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.geteuid()}"
