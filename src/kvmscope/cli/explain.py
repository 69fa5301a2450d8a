"""``kvmscope explain``: what a name of the catalogue means, and how it is on this host.

The meaning is shown before any VM is read; then what applies here, and the values. Both are in ``view.explain``.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from ..store.replay import LookPlan
from ..terminal.echo import echo_answer, echo_lines, page_width
from .history import is_recorded, reading_options
from .options import interval_option
from .session import open_host

if TYPE_CHECKING:
    from ..host.facts import Machine
    from ..view.explain import ExplainContext


@click.command("explain", short_help="What a stat, metric, rule or reason means here.")
@click.argument("words", nargs=-1, required=True, metavar="NAME")
@interval_option()
@click.option("--no-values", is_flag=True, help="Only what it means: read no VM.")
@reading_options
def command(*, words: tuple[str, ...], interval: float, no_values: bool, source: str, as_json: bool) -> None:
    """Show what NAME means, how stable it is, which caveats apply on this host, its values here, and what to compare it
    with. NAME is a stat, a metric or its title on a screen, a rule of the doctor, an inhibit reason, a caveat or a
    group.

    \b
    kvmscope explain pf_fast
    kvmscope explain I/O/s
    kvmscope explain poll-waste
    kvmscope explain pit_reinj
    """
    from ..tasks.explaining import machine_of
    from ..view.explain import ExplainContext, catalogue_lines, explain, explanation_view, here_lines

    name, machine = " ".join(words), machine_of(partial(open_host, source) if is_recorded() else None)
    shown = () if as_json else explain(ExplainContext(machine), name)
    echo_lines(catalogue_lines(shown, width=page_width()))
    sys.stdout.flush()
    view = explanation_view(_context(machine, source, None if no_values else interval, name), name)
    lines = here_lines(view.found, shown, width=page_width(), is_simulated=bool(view.simulated))
    echo_answer(view, lines, as_json=as_json)


def _context(machine: Machine, source: str, interval_s: float | None, name: str) -> ExplainContext:
    """With an interval of this host; without one if none is wanted or the host cannot be read."""
    from ..tasks.explaining import context_or_why_not, read_context
    from ..view.explain import ExplainContext

    if interval_s is None:
        return ExplainContext(machine, why_not="not asked for")
    read = context_or_why_not if source == "auto" else read_context
    return read(lambda: open_host(source, LookPlan((interval_s,))), machine, interval_s, name)
