"""``kvmscope explain``: the meaning of a catalogue name, and its values on this host.

The meaning is shown before any VM is read, then what applies here and the values. ``view.explain`` makes both.
"""

from __future__ import annotations

import sys
from functools import partial

import click

from ..store.replay import LookPlan
from ..terminal.echo import echo_answer, echo_lines, echo_notes, page_width
from .history import is_recorded, reading_options
from .options import interval_option
from .session import open_host


@click.command("explain", short_help="What a stat, metric, rule or reason means here.")
@click.argument("words", nargs=-1, required=True, metavar="NAME")
@interval_option()
@click.option("--no-values", is_flag=True, help="Show only the meaning, without reading a VM.")
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
    from ..tasks.explaining import explain_context, machine_of
    from ..view.explain import ExplainContext, catalogue_lines, catalogue_miss, explain, explanation_view, here_lines

    name, machine = " ".join(words), machine_of(partial(open_host, source) if is_recorded() else None)
    known = explain(ExplainContext(machine), name)
    if not known and not no_values:
        echo_notes([catalogue_miss(name)])
    shown = () if as_json else known
    echo_lines(catalogue_lines(shown, width=page_width()))
    sys.stdout.flush()
    context = explain_context(
        lambda interval_s: open_host(source, LookPlan((interval_s,))),
        machine,
        None if no_values else interval,
        name,
        must_read=source != "auto",
    )
    view = explanation_view(context, name)
    lines = here_lines(view.found, shown, width=page_width(), is_simulated=bool(view.simulated))
    echo_answer(view, lines, as_json=as_json)
