"""``kvmscope diff``: changes between two recordings, times or sets of hosts that are larger than noise."""

from __future__ import annotations

import click

from ..console.progress import progress
from ..errors import UsageError
from ..terminal.echo import echo_answer, echo_damage, echo_notes, page_width
from .options import PLACE, json_option


@click.command("diff", short_help="What changed between two recordings or times, beyond noise.")
@click.argument("a", type=PLACE, metavar="A")
@click.argument("b", type=PLACE, metavar="[B]", required=False)
@click.option("--between-a", nargs=2, metavar="TIME TIME", help="Use only the part of A between these times.")
@click.option("--between-b", nargs=2, metavar="TIME TIME", help="Use only the part of B between these times.")
@click.option(
    "--host-a", multiple=True, metavar="HOST", help="Use only this host for side A; can be given several times."
)
@click.option(
    "--host-b", multiple=True, metavar="HOST", help="Use only this host for side B; can be given several times."
)
@click.option("--vm", metavar="VM", help="Compare only this VM.")
@click.option("--no-pairs", is_flag=True, help="Compare VMs as two groups, even if the same VMs are on both sides.")
@json_option
def command(
    *,
    a: str,
    b: str | None,
    between_a: tuple[str, str] | None,
    between_b: tuple[str, str] | None,
    host_a: tuple[str, ...],
    host_b: tuple[str, ...],
    vm: str | None,
    no_pairs: bool,
    as_json: bool,
) -> None:
    """Compare recording B with recording A. Without B, compare two times or two sets of hosts of A.

    Settings, stats and caveats that differ come first, then the metrics whose change is larger than the noise within
    each side. A metric whose stats count something else on the other kernel is not compared.

    \b
    kvmscope diff before/ after/
    kvmscope diff /var/lib/kvmscope --between-a 09:00 10:00 --between-b 11:00 12:00
    kvmscope diff fleet/ --host-a node-1 --host-b node-2
    """
    from ..tasks.differing import ChosenSide
    from ..view.diff import diff_view
    from ..view.diff_text import diff_lines

    sides = ChosenSide(a, between_a, host_a), ChosenSide(b or a, between_b, host_b)
    if sides[0] == sides[1]:
        raise UsageError("both sides are the same; name a second recording, times or hosts")
    opened = [side.open() for side in sides]
    for damage, notes, _ in opened:
        echo_damage(damage)
        echo_notes(notes)
    with progress("comparing"):
        view = diff_view(opened[0].source, opened[1].source, vm=vm, pairs=not no_pairs)
    echo_answer(view, diff_lines(view, width=page_width()), as_json=as_json)
