"""``kvmscope read``: raw values as the kernel has them. Nothing is scaled, derived or left out."""

from __future__ import annotations

import click

from ..terminal.echo import echo_answer, echo_lines, echo_notes
from .history import reading_options
from .session import begin_opening


@click.command("read", short_help="Raw values as the kernel has them.")
@click.argument("vm", required=False, metavar="[VM[/VCPU]]")
@click.argument("stats", nargs=-1, metavar="[STAT]…")
@click.option("--provider", metavar="NAME", help="Only stats of this provider; `kvmscope list` lists them.")
@reading_options
def command(*, vm: str | None, stats: tuple[str, ...], provider: str | None, source: str, as_json: bool) -> None:
    """Read raw values as the kernel has them, all of them or those named.

    A VM is named by its name, process id or id; VM/0 is its vCPU 0. STAT may contain * and ?.

    \b
    kvmscope read web-1/0
    kvmscope read web-1 exits 'halt_*'
    kvmscope read exits
    """
    opening = begin_opening(source)
    from ..sample import gaps_of
    from ..view.reading import reading_lines, reading_view, stat_query, unknown_lines
    from ..view.text import no_vm_line, note_lines

    with opening() as host:
        scene = host.look()
    query = stat_query(scene, vm, stats, provider)
    if as_json:
        echo_answer(reading_view(scene, query), (), as_json=True)
        return
    echo_lines(reading_lines(scene, query))
    sample = scene.sample
    if not len(sample.vms):
        echo_notes([no_vm_line(sample.source, sample.gaps)])
    about = None if query.subject is None else sample.vms.vm_id(query.subject.vm)
    echo_notes([*note_lines(sample.source, scene.why_not, gaps_of(sample.gaps, about)), *unknown_lines(scene, query)])
