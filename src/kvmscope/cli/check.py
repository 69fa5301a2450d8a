"""``kvmscope check``: which sources can read this host, and why the others cannot."""

from __future__ import annotations

import click

from ..terminal.echo import echo_answer, wrapped
from .options import json_option
from .session import open_live_host

_NO_SOURCE = 3


@click.command("check", short_help="What can be read here, by which source, and why not the rest.")
@json_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """Show what can be read here, by which source, and why not by the others.

    Exits with 3 if nothing can be read: no source sees every VM, and the others can read none.
    """
    from ..tasks.sources import check_host
    from ..view.check import DETAIL_INDENT, check_lines

    view = check_host(open_live_host)
    echo_answer(view, wrapped(check_lines(view), indent=DETAIL_INDENT), as_json=as_json)
    if view.best is None:
        ctx.exit(_NO_SOURCE)
