"""Series over time as OpenMetrics with time stamps, which ``promtool tsdb create-blocks-from openmetrics`` reads.

OpenMetrics requires all points of one label set together, but scenes come in order of time. So lines are kept by family
and label set, in memory up to a limit and then in a temporary database, and written at the end.
Source: OpenMetrics 1.0, "Interleaving" and "Timestamps".
"""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from ..catalog.series_names import Family, metric_family
from ..closing import Closable
from ..console.temporary import OwnedDirectory
from ..errors import OutputError, UsageError
from ..schema import Scope
from ..view.dump import DumpedScene
from .budget import SeriesChoice, SeriesClass, choose
from .judged import identity_series
from .labels import LabelSets
from .series import HistogramSeries, Series, StatSeries, numbers
from .stats import Detail, stat_series
from .subjects import Subjects
from .text import TextFormat, head_text, row_texts

_IN_MEMORY_BYTES: Final = 32 << 20
_EVERYTHING: Final = SeriesChoice()
_OWN_LABELS: Final = frozenset({"vm", "vcpu", "le"})


def constant_labels(typed: Iterable[str]) -> dict[str, str]:
    """Labels from texts of the form NAME=VALUE. Raises UsageError for other texts."""
    found = {}
    for text in typed:
        match = re.fullmatch(r"([a-zA-Z_][a-zA-Z0-9_]*)=(.*)", text, re.DOTALL)
        if match is None or match[1] in _OWN_LABELS or match[1].startswith("__"):
            raise UsageError(f"--label {text!r}: expected NAME=VALUE, where NAME is a label that kvmscope does not set")
        found[match[1]] = match[2]
    return found


class TimedText(Closable):
    """Collects dumped scenes, and then writes all lines. A context manager; ``labels``: added to every series."""

    def __init__(self, labels: Mapping[str, str], *, in_memory_bytes: int = _IN_MEMORY_BYTES) -> None:
        self._labels = dict(labels)
        self._limit = in_memory_bytes
        self._families: dict[str, Family] = {}
        self._subjects: Subjects | None = None
        self._kept: dict[tuple[int, str], list[str]] = {}
        self._kept_bytes = 0
        with _temporary_errors():
            self._folder = OwnedDirectory("dump")
            self._database = sqlite3.connect(self._folder.path / "lines", isolation_level=None)
            self._database.execute("PRAGMA journal_mode = OFF")
            self._database.execute("PRAGMA synchronous = OFF")
            self._database.execute(
                "CREATE TABLE lines (family INTEGER, labels TEXT, place INTEGER PRIMARY KEY, text TEXT)"
            )

    def text_of(self, scenes: Iterable[DumpedScene]) -> Iterator[str]:
        """The whole text of these scenes, which are in order of time: one family after another, in pieces."""
        for scene in scenes:
            self._add_scene(scene)
        return self._pieces()

    def _add_scene(self, dumped: DumpedScene) -> None:
        scene = dumped.scene
        self._subjects = Subjects(scene) if self._subjects is None else self._subjects.at(scene)
        stamp = _stamp(scene.sample.taken_ns)
        for series in _series_of(dumped, self._subjects):
            self._add(series, stamp)

    def _pieces(self) -> Iterator[str]:
        self._spill()
        with _temporary_errors():
            self._database.execute("CREATE INDEX by_series ON lines (family, labels, place)")
            rows = self._database.execute("SELECT family, text FROM lines ORDER BY family, labels, place")
        families = list(self._families.values())
        last = -1
        for place, text in rows:
            if place != last:
                yield head_text(families[place], TextFormat.OPENMETRICS)
                last = place
            yield text
        yield "# EOF\n"

    def close(self) -> None:
        self._database.close()
        self._folder.close()

    def _add(self, series: Series, stamp: str) -> None:
        if self._families.setdefault(series.family.name, series.family) != series.family:
            return  # a publisher has changed the stat of this name
        place = list(self._families).index(series.family.name)
        labelled = replace(series, subjects=self._with_labels(series.subjects))
        texts = labelled.subjects.texts
        for row, text in zip(series.rows.tolist(), row_texts(labelled, TextFormat.OPENMETRICS), strict=True):
            lines = text.replace("\n", f" {stamp}\n")
            self._kept.setdefault((place, texts[row]), []).append(lines)
            self._kept_bytes += len(lines)
        if self._kept_bytes > self._limit:
            self._spill()

    def _with_labels(self, sets: LabelSets) -> LabelSets:
        if not self._labels:
            return sets
        more = tuple(self._labels.values())
        return LabelSets((*self._labels, *sets.names), tuple((*more, *row) for row in sets.rows))

    def _spill(self) -> None:
        rows = ((place, labels, "".join(lines)) for (place, labels), lines in self._kept.items())
        with _temporary_errors():
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO lines (family, labels, text) VALUES (?, ?, ?)", rows)
            self._database.execute("COMMIT")
        self._kept.clear()
        self._kept_bytes = 0


@contextmanager
def _temporary_errors() -> Iterator[None]:
    """Raises OutputError if the directory for temporary files cannot hold the lines."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutputError(
            f"{reason}; lines are kept in a temporary file until the end, and TMPDIR names its directory", errno.EIO
        ) from None


def _series_of(dumped: DumpedScene, subjects: Subjects) -> Iterable[Series]:
    """The identities of the VMs, and their chosen stats and metrics."""
    scene, level = dumped.scene, dumped.choice.level
    for each in identity_series(scene, subjects):
        if each.of is SeriesClass.CORE:
            yield each.series
    sums = dumped.sums if level is Scope.VM else ()
    detail = Detail.VM if level is Scope.VM else Detail.FULL
    found = [
        each for each in stat_series(scene, subjects, sums, detail, frozenset()) if _is_wanted(each.series, dumped)
    ]
    for series in choose(found, _EVERYTHING).series:
        if (series.subjects is subjects.vcpus) == (level is Scope.VCPU):
            yield series
    for metric in dumped.choice.metrics:
        column = dumped.metric_column(metric)
        if column is not None:
            yield numbers(metric_family(metric, level), subjects.vms if level is Scope.VM else subjects.vcpus, column)


def _is_wanted(series: Series, dumped: DumpedScene) -> bool:
    return isinstance(series, StatSeries | HistogramSeries) and dumped.choice.wants(series.descriptor)


def _stamp(time_ns: int) -> str:
    """Seconds to the millisecond, the resolution of Prometheus."""
    return f"{time_ns // 10**9}.{time_ns // 10**6 % 1000:03}"
