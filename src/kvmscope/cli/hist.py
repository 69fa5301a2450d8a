"""``kvmscope hist``: one histogram, with the exact bounds of its buckets and the error of its quantiles."""

from __future__ import annotations

import click

from ..store.replay import LookPlan
from ..terminal.echo import echo_answer, echo_notes, terminal_width
from .history import is_span, reading_options
from .options import interval_option
from .session import begin_opening


@click.command("hist", short_help="A histogram with its buckets and quantiles.")
@click.argument("vm", metavar="VM[/VCPU]")
@click.argument("stat", required=False, metavar="[STAT]")
@interval_option(None, help="Show only the values added in this time; by default all.")
@click.option("--provider", metavar="NAME", help="Provider of the stat, if several have one of this name.")
@reading_options
def command(
    *, vm: str, stat: str | None, interval: float | None, provider: str | None, source: str, as_json: bool
) -> None:
    """Show a histogram with its buckets and quantiles; without STAT, list the histograms. For a VM, the histograms of
    its vCPUs are added up.

    A quantile is known only up to its bucket: its bounds are certain; the estimate assumes that values are spread
    evenly over the bucket.

    \b
    kvmscope hist web-1
    kvmscope hist web-1/0 halt_wait_hist
    kvmscope hist web-1 halt_wait_hist --interval 5s
    """
    opening = begin_opening(source, _plan(stat, interval))
    from ..sample import gaps_of
    from ..tasks.histograms import list_histograms, read_histogram
    from ..view.histogram import HistogramListView, HistogramView, histogram_lines, histogram_list_lines
    from ..view.text import note_lines

    view: HistogramView | HistogramListView
    with opening() as host:
        if stat is None:
            view = list_histograms(host, vm, provider)
            lines = histogram_list_lines(view, width=terminal_width())
        else:
            view, notes = read_histogram(host, vm, stat, provider, _interval_s(interval))
            lines = histogram_lines(view, width=terminal_width())
            echo_notes(notes)
    echo_answer(view, lines, as_json=as_json)
    if as_json:
        return
    echo_notes(note_lines(view.source.name, view.source.why_not, gaps_of(view.gaps, view.vm.id)))


def _plan(stat: str | None, interval: float | None) -> LookPlan:
    interval_s = _interval_s(interval)
    return LookPlan() if stat is None or interval_s is None else LookPlan((interval_s,), follows=True)


def _interval_s(typed: float | None) -> float | None:
    """The interval, None for since creation. Two times of a recording are an interval of any length."""
    return 0.0 if typed is None and is_span() else typed
