"""``kvmscope schema diff``: what became of the stats from one kernel to another."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from .options import json_option

if TYPE_CHECKING:
    from ..analysis.schema_diff import Difference, SchemaDiff

_INDENT = 6


@click.command("diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="[B]", default="here")
@json_option
def diff(*, before: str, after: str, as_json: bool) -> None:
    """Compare the stats of kernel A with those of kernel B, which is this one if it is not named.

    A kernel is `here`, a file of `kvmscope schema dump`, or one that is known by name: 6.1, arm64-7.3. Exits with 1 if
    there is a difference.

    \b
    kvmscope schema diff 6.1 7.3
    kvmscope schema diff 6.12          # what an upgrade from 6.12 to this kernel changed
    """
    from ..analysis.schema_diff import compare
    from ..catalog.stats import load_stats
    from ..view.jsonout import dump
    from .echo import echo_lines, wrapped
    from .schema_kernels import read_kernel

    found = compare(read_kernel(before), read_kernel(after), load_stats())
    if as_json:
        click.echo(dump(diff_json(found)))
    else:
        echo_lines(wrapped(diff_lines(found), indent=_INDENT))
    sys.exit(1 if found.differences else 0)


def diff_json(found: SchemaDiff) -> dict[str, Any]:
    """Both kernels, and every difference."""
    from ..view.jsonout import FORMAT
    from .schema_kernels import kernel_json

    return {
        "format": FORMAT,
        "before": kernel_json(found.before),
        "after": kernel_json(found.after),
        "differences": [_difference_json(difference) for difference in found.differences],
        "not_compared": list(found.not_compared),
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    return {
        "provider": difference.provider,
        "scope": difference.scope.value,
        "name": difference.name,
        "what": difference.turn.value,
        "before": difference.before,
        "after": difference.after,
        "tier": difference.tier.value if difference.tier else None,
        "replaced_by": list(difference.replaced_by),
        "text": difference.text,
    }


def diff_lines(found: SchemaDiff) -> list[str]:
    """For people: what came and went first, then what is counted in another way, then what means something else."""
    from ..analysis.schema_diff import Turn
    from ..host.text import printable
    from ..view.text import columns, counted
    from .schema_kernels import kernel_text

    lines = [f"from {kernel_text(found.before)}", f"to   {kernel_text(found.after)}"]
    sections = {
        "gone": (Turn.REMOVED, Turn.RENAMED),
        "new": (Turn.ADDED,),
        "described in another way": (Turn.KIND, Turn.UNIT, Turn.SCALE, Turn.SIZE),
        "the same name, another meaning": (Turn.MEANING,),
    }
    for title, turns in sections.items():
        part = [difference for difference in found.differences if difference.turn in turns]
        if not part:
            continue
        lines += ["", f"{title}:"]
        names = [(f"{each.scope.value}", printable(_full_name(each)), each) for each in part]
        rows = columns([(f"  {scope}", name, _tier_text(each), _what(each)) for scope, name, each in names])
        for row, each in zip(rows, part, strict=True):
            lines += [row, *([f"{' ' * _INDENT}{each.text}"] if each.text else [])]
    if found.not_compared:
        names_text = ", ".join(map(printable, found.not_compared))
        lines += ["", f"not compared, since only one of the two tells of it: {names_text}"]
    count = counted(len(found.differences), "difference") if found.differences else "no difference"
    return [*lines, "", count]


def _full_name(difference: Difference) -> str:
    return difference.name if difference.provider == "kvm" else f"{difference.provider}.{difference.name}"


def _tier_text(difference: Difference) -> str:
    return difference.tier.value if difference.tier else "uncatalogued"


def _what(difference: Difference) -> str:
    from ..analysis.schema_diff import Turn

    match difference.turn:
        case Turn.REMOVED if difference.replaced_by:
            return f"{difference.before}; use {', '.join(difference.replaced_by)}"
        case Turn.REMOVED:
            return difference.before or ""
        case Turn.RENAMED:
            return f"is {difference.after} now"
        case Turn.ADDED | Turn.MEANING:
            return difference.after or ""
        case turn:
            return f"{turn.value} {difference.before} -> {difference.after}"
