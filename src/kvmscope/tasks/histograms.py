"""A histogram at one moment, or its increase over an interval."""

from __future__ import annotations

from ..collect import SceneHost
from ..console.progress import reading_progress
from ..view.histogram import HistogramListView, HistogramView, histogram_list_view, histogram_view
from ..view.subjects import find_subject, follow
from .following import read_interval


def list_histograms(host: SceneHost, vm: str, provider: str | None) -> HistogramListView:
    """The histograms of a subject. Raises UsageError if there is no such subject or provider."""
    scene = host.look()
    return histogram_list_view(scene, find_subject(scene, vm), provider)


def read_histogram(
    host: SceneHost, vm: str, stat: str, provider: str | None, interval_s: float | None
) -> tuple[HistogramView, list[str]]:
    """A histogram since the start or of an interval, with notes on a VM that ended. Raises UsageError as
    ``list_histograms`` does, and for a stat that is not a histogram."""
    scene = host.look()
    followed = follow(scene, vm)
    view = histogram_view(scene, find_subject(scene, vm), stat, provider)  # reject a wrong name before the wait
    if interval_s is None:
        return view, []
    length_s = host.interval_s(interval_s)
    with reading_progress(length_s):
        interval = read_interval(host, scene, length_s, followed)
    subject = followed.locate(interval.scene)
    if subject is not None and interval.window is not None:
        view = histogram_view(interval.scene, subject, stat, provider, window=interval.window)
    return view, interval.notes(followed)
