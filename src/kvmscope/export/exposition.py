"""All series of one scrape: its own read of the host, and the latest metrics, findings and verdicts.

Counts are read at the scrape. Metrics, findings and verdicts need an interval, and come from the last watched one;
their age is a series itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..analysis.totals import VmSum
from ..catalog.series_names import OWN_PREFIX, SIMULATED, Family, FamilyType
from ..scene import Scene
from ..view.watch import HostView
from .budget import ClassedSeries, KeptSeries, SeriesChoice, choose
from .held import HeldFinding
from .judged import apicv_series, finding_series, identity_series, metric_series
from .labels import LabelSets, label_sets, shown_text
from .limits import SERIES_OF_VMS
from .series import NumberSeries, Series, numbers
from .stats import Detail, stat_series
from .subjects import Subjects

NO_LABELS: Final = LabelSets((), ((),))

_MOST_REASONS: Final = 50


def _own(name: str, help_: str, unit: str = "", type_: FamilyType = FamilyType.GAUGE) -> Family:
    return Family(f"{OWN_PREFIX}_{name}", type_, help_, unit)


UP: Final = _own("up", "Whether this host could be read for this scrape.")
SCRAPE_DURATION: Final = _own(
    "scrape_duration_seconds", "How long reading the host and choosing the series took.", "seconds"
)
_SOURCE: Final = _own("source_info", "The source that is read; the value is 1.")
_GAPS: Final = _own("gaps", "Number of things that could not be read, by reason.")
_SERIES: Final = _own("series", "Number of series of this scrape, without those of kvmscope itself.")
_LEFT_OUT: Final = _own(
    "series_left_out", "Number of series that are not written, by the class they are left out with."
)
_INTERVAL: Final = _own("interval_seconds", "Length of the interval of metrics, findings and verdicts.", "seconds")
_AGE: Final = _own("interval_age_seconds", "Time since the end of that interval.", "seconds")
_NOT_JUDGED: Final = _own("rule_not_judged", "1 if a rule of kvmscope doctor cannot be checked, for some or all VMs.")


@dataclass(frozen=True)
class Reading:
    """The input of a scrape. ``subjects`` and ``sums`` belong to the scene. ``held``: findings after the interval of
    ``view``, which is the last one; None if none has passed yet.
    """

    scene: Scene
    subjects: Subjects
    sums: Sequence[VmSum]
    view: HostView | None = None
    held: Sequence[HeldFinding] = ()


@dataclass(frozen=True)
class ExportOptions:
    """The choice of data to export from a host."""

    detail: Detail = Detail.VM
    choice: SeriesChoice = field(default_factory=SeriesChoice)


def export_options(
    detail: str, include: tuple[str, ...] = (), exclude: tuple[str, ...] = (), limit: int | None = None
) -> ExportOptions:
    """The options that a user typed. ``limit``: maximum number of series; 0 for no limit, None for the default."""
    level = Detail(detail)
    if limit is None and level is Detail.VM:
        limit = SERIES_OF_VMS
    return ExportOptions(level, SeriesChoice(include, exclude, limit or None))


def expose(reading: Reading, options: ExportOptions) -> tuple[Series, ...]:
    """Every series of a scrape except ``kvmscope_up`` and the duration of the scrape."""
    kept = choose(list(_found(reading, options.detail)), options.choice)
    return (*kept.series, *filter(lambda series: series.count, _own_series(reading, kept)))


def own_number(family: Family, value: float) -> NumberSeries:
    """A series about kvmscope itself, without labels."""
    return numbers(family, NO_LABELS, [value])


def _found(reading: Reading, detail: Detail) -> Iterator[ClassedSeries]:
    subjects, view = reading.subjects, reading.view
    yield from identity_series(reading.scene, subjects)
    yield from finding_series(subjects, reading.held)
    if view is not None:
        yield from apicv_series(subjects, view.verdicts)
        yield from metric_series(subjects, view)
    detailed = frozenset(subjects.rows[each.vm] for each in reading.held if each.vm in subjects.rows)
    yield from stat_series(reading.scene, subjects, reading.sums, detail, detailed)


def _own_series(reading: Reading, kept: KeptSeries) -> Iterator[NumberSeries]:
    sample, view = reading.scene.sample, reading.view
    yield own_number(SIMULATED, int(sample.simulated))
    yield numbers(_SOURCE, label_sets(("source",), ((sample.source,),)), [1])
    reasons = Counter(shown_text(gap.reason) for gap in sample.gaps).most_common(_MOST_REASONS)
    yield numbers(_GAPS, _one_label("reason", [reason for reason, _ in reasons]), [count for _, count in reasons])
    yield own_number(_SERIES, sum(series.count for series in kept.series))
    yield numbers(_LEFT_OUT, _one_label("class", list(kept.left_out)), list(kept.left_out.values()))
    if view is not None:
        yield own_number(_INTERVAL, view.window.interval_s)
        yield own_number(_AGE, max(0.0, (sample.monotonic_ns - view.scene.sample.monotonic_ns) / 1e9))
        rules = list(dict.fromkeys(missing.rule for missing in view.judgement.not_judged))
        yield numbers(_NOT_JUDGED, _one_label("rule", rules), [1] * len(rules))


def _one_label(name: str, values: Sequence[str]) -> LabelSets:
    return label_sets((name,), tuple((value,) for value in values))
