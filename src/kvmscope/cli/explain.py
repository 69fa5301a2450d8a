"""``kvmscope explain``: what a name of the catalogue means, and how it is on this host.

The meaning is shown before any VM is read; then what applies here, and the values. Both are in ``view.explain``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from ..errors import SourceError
from ..store.replay import LookPlan
from .echo import echo_lines, page_width
from .history import history_options, is_recorded
from .options import json_option, parse_duration, source_option
from .session import open_host

if TYPE_CHECKING:
    from ..host.facts import Machine
    from ..view.explain import ExplainContext, Explanation


@click.command("explain", short_help="What a stat, metric, rule or reason means here.")
@click.argument("words", nargs=-1, required=True, metavar="NAME")
@click.option(
    "--interval",
    callback=parse_duration,
    default="1s",
    show_default=True,
    metavar="TIME",
    help="Length of the interval.",
)
@click.option("--no-values", is_flag=True, help="Only what it means: read no VM.")
@history_options
@source_option
@json_option
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
    name, machine = " ".join(words), _machine(source)
    interval_s = None if no_values else interval
    if as_json:
        from ..view.explain import explanation_view
        from ..view.jsonout import dump, to_value

        click.echo(dump(to_value(explanation_view(_read(machine, source, interval_s, name), name))))
        return
    meanings = _echo_meaning(machine, name)
    context = _read(machine, source, interval_s, name)
    echo_lines(_host_text(context, name, meanings))


def _machine(source: str) -> Machine:
    """The machine that is looked at."""
    if not is_recorded():
        from ..host.machine import read_machine

        return read_machine()
    with open_host(source) as host:
        return host.look().machine


def _echo_meaning(machine: Machine, name: str) -> tuple[Explanation, ...]:
    """What the catalogue says of the name, at once."""
    from ..view.explain import ExplainContext, explain, meaning_lines

    found = explain(ExplainContext(machine), name)
    echo_lines(_apart(meaning_lines(each, width=page_width()) for each in found))
    sys.stdout.flush()
    return found


def _read(machine: Machine, source: str, interval_s: float | None, name: str) -> ExplainContext:
    """With an interval of this host; without one if none is wanted or the host cannot be read."""
    from ..analysis.window import Window
    from ..view.explain import ExplainContext, HostWindow, check_name
    from .following import read_interval

    if interval_s is None:
        return ExplainContext(machine, why_not="not asked for")
    try:
        with open_host(source, LookPlan((interval_s,))) as host:
            scene = host.look()
            check_name(ExplainContext(machine), name, scene.sample)  # a wrong name is refused before the wait
            interval = read_interval(host, scene, host.interval_s(interval_s))
    except SourceError as error:
        if source != "auto":
            raise
        return ExplainContext(machine, why_not=error.reason)
    assert isinstance(interval.window, Window)
    return ExplainContext(machine, HostWindow(interval.scene, interval.window))


def _host_text(context: ExplainContext, name: str, meanings: tuple[Explanation, ...]) -> Iterator[str]:
    """What applies on this host; of stats that only this host has the meaning too."""
    from ..view.explain import explanation_view, host_lines, meaning_lines, title_of
    from ..view.text import SIMULATED

    found = explanation_view(context, name).found
    known = {title_of(each) for each in meanings}
    if context.live is not None and context.live.window.current.simulated:
        yield SIMULATED
    for place, each in enumerate(found):
        if title_of(each) not in known:
            yield from [""] if place else []
            yield from meaning_lines(each, width=page_width())
        elif len(found) > 1:
            yield from ["", f"On this host: {title_of(each)}"]
        yield from host_lines(each, width=page_width())


def _apart(texts: Iterable[Iterable[str]]) -> Iterator[str]:
    """Texts with an empty line between them."""
    for place, lines in enumerate(texts):
        yield from [""] if place else []
        yield from lines
