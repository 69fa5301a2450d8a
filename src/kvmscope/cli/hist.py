"""``kvmscope hist``: one histogram, with the real bounds of its buckets and quantiles with their error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..console.progress import reading_progress
from ..store.replay import LookPlan
from .echo import echo_answer, echo_notes, terminal_width
from .history import is_span, reading_options
from .options import interval_option
from .session import begin_opening

if TYPE_CHECKING:
    from ..collect import SceneHost
    from ..view.histogram import HistogramListView, HistogramView


@click.command("hist", short_help="A histogram with its buckets and quantiles.")
@click.argument("vm", metavar="VM[/VCPU]")
@click.argument("stat", required=False, metavar="[STAT]")
@interval_option(None, help="Only values added in this time; else all.")
@click.option("--provider", metavar="NAME", help="The stat of this provider, if several have one of this name.")
@reading_options
def command(
    *, vm: str, stat: str | None, interval: float | None, provider: str | None, source: str, as_json: bool
) -> None:
    """Show a histogram with its buckets and quantiles; without STAT, list the histograms. For a VM, the histograms of
    its vCPUs are added up.

    A quantile is known only up to its bucket: the interval holds it for certain; the estimate assumes values that are
    spread evenly over the bucket.

    \b
    kvmscope hist web-1
    kvmscope hist web-1/0 halt_wait_hist
    kvmscope hist web-1 halt_wait_hist --interval 5s
    """
    opening = begin_opening(source, _plan(stat, interval))
    from ..view.histogram import HistogramView, histogram_lines, histogram_list_lines
    from ..view.text import note_lines

    with opening() as host:
        view = _list(host, vm, provider) if stat is None else _read(host, vm, stat, provider, interval)
    width = terminal_width()
    if isinstance(view, HistogramView):
        lines = histogram_lines(view, width=width)
    else:
        lines = histogram_list_lines(view, width=width)
    echo_answer(view, lines, as_json=as_json)
    if as_json:
        return
    gaps = [gap for gap in view.gaps if gap.vm in (None, view.vm.id)]
    echo_notes(note_lines(view.source.name, view.source.why_not, gaps))


def _plan(stat: str | None, interval_s: float | None) -> LookPlan:
    if stat is None or (interval_s is None and not is_span()):
        return LookPlan()
    return LookPlan((interval_s or 0.0,), follows=True)


def _list(host: SceneHost, vm: str, provider: str | None) -> HistogramListView:
    from ..view.histogram import histogram_list_view
    from ..view.subjects import find_subject

    scene = host.look()
    return histogram_list_view(scene, find_subject(scene, vm), provider)


def _read(host: SceneHost, vm: str, stat: str, provider: str | None, interval_s: float | None) -> HistogramView:
    from ..tasks.following import read_interval
    from ..view.histogram import histogram_view
    from ..view.subjects import find_subject, follow

    scene = host.look()
    followed = follow(scene, vm)
    view = histogram_view(scene, find_subject(scene, vm), stat, provider)  # a wrong name is refused before the wait
    if interval_s is None and not is_span():
        return view
    length_s = host.interval_s(interval_s or 0.0)
    with reading_progress(length_s):
        interval = read_interval(host, scene, length_s, followed)
    echo_notes(interval.notes(followed))
    subject = followed.locate(interval.scene)
    if subject is None or interval.window is None:
        return view
    return histogram_view(interval.scene, subject, stat, provider, window=interval.window)
