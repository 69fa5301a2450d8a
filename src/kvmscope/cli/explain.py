"""``kvmscope explain``: what a name of the catalogue means, and how it is on this host.

The meaning is shown before any VM is read; then what applies here, and the values. Both are in ``view.explain``.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from ..console.progress import progress, reading_progress
from ..errors import SourceError
from ..store.replay import LookPlan
from .echo import echo_answer, echo_lines, page_width
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
    from ..view.explain import ExplainContext, catalogue_lines, explain, explanation_view, here_lines

    name, machine = " ".join(words), _machine(source)
    shown = () if as_json else explain(ExplainContext(machine), name)
    echo_lines(catalogue_lines(shown, width=page_width()))
    sys.stdout.flush()
    view = explanation_view(_read(machine, source, None if no_values else interval, name), name)
    lines = here_lines(view.found, shown, width=page_width(), is_simulated=bool(view.simulated))
    echo_answer(view, lines, as_json=as_json)


def _machine(source: str) -> Machine:
    """The machine that is looked at."""
    if not is_recorded():
        from ..host.machine import read_machine

        return read_machine()
    with open_host(source) as host:
        return host.look().machine


def _read(machine: Machine, source: str, interval_s: float | None, name: str) -> ExplainContext:
    """With an interval of this host; without one if none is wanted or the host cannot be read."""
    from ..analysis.window import Window
    from ..host.text import printable
    from ..tasks.following import read_interval
    from ..view.explain import ExplainContext, HostWindow, check_name

    if interval_s is None:
        return ExplainContext(machine, why_not="not asked for")
    try:
        with contextlib.ExitStack() as stack:
            with progress(f"looking for {printable(name)} on this host"):
                host = stack.enter_context(open_host(source, LookPlan((interval_s,))))
                scene = host.look()
            check_name(ExplainContext(machine), name, scene.sample)  # a wrong name is refused before the wait
            length_s = host.interval_s(interval_s)
            with reading_progress(length_s):
                interval = read_interval(host, scene, length_s)
    except SourceError as error:
        if source != "auto":
            raise
        return ExplainContext(machine, why_not=error.reason)
    assert isinstance(interval.window, Window)
    return ExplainContext(machine, HostWindow(interval.scene, interval.window))
