"""``kvmscope schema diff``: the differences of stats between two kernels."""

from __future__ import annotations

import sys

import click

from ..terminal.echo import echo_answer, wrapped
from .options import json_option


@click.command("diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="[B]", default="here")
@json_option
def diff(*, before: str, after: str, as_json: bool) -> None:
    """Compare the stats of kernel A with those of kernel B, by default this one.

    A kernel is `here`, a file of `kvmscope schema dump`, or one that is known by name: 6.1, arm64-7.3. Exits with 1 if
    there is a difference.

    \b
    kvmscope schema diff 6.1 7.3
    kvmscope schema diff 6.12          # what an upgrade from 6.12 to this kernel changed
    """
    from ..analysis.schema_diff import compare
    from ..catalog.stats import load_stats
    from ..tasks.kernels import read_kernel
    from ..view.schema_diff import TEXT_INDENT, schema_diff_lines, schema_diff_view

    view = schema_diff_view(compare(read_kernel(before), read_kernel(after), load_stats()))
    echo_answer(view, wrapped(schema_diff_lines(view), indent=TEXT_INDENT), as_json=as_json)
    sys.exit(1 if view.differences else 0)
