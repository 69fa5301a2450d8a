"""Debian's Prometheus over scenes that were put into its database, and over nothing else.

Backfilled blocks have no staleness markers, so a series that a scrape lacked is still seen for five minutes.
``NO_LOOK_BACK`` is for tests of what is absent.
"""

from __future__ import annotations

import shutil
import subprocess
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from monitoring import free_port, running

from kvmscope.analysis.totals import VmTotals
from kvmscope.catalog.series_names import Family
from kvmscope.export.exposition import ExportOptions, Reading, expose
from kvmscope.export.held import FindingHolds
from kvmscope.export.stats import Detail
from kvmscope.export.subjects import Subjects
from kvmscope.export.text import TextFormat, head_text, row_texts
from kvmscope.scene import Scene
from kvmscope.view.watch import Watch

NO_LOOK_BACK = "--query.lookback-delta=1s"


@dataclass(frozen=True)
class ExportedSample:
    """One line of a scrape. ``series``: with its labels. ``time_s``: Unix time."""

    family: Family
    series: str
    value: str
    time_s: float


def exported_samples(
    instance: str, scenes: Sequence[Scene], detail: Detail = Detail.FULL, *, is_judged: bool = False
) -> Iterator[ExportedSample]:
    """Each sample that ``serve`` has of these scenes; ``is_judged``: metrics, findings and verdicts too."""
    totals, watch, holds = VmTotals(), Watch(), FindingHolds()
    for scene in scenes:
        view = watch.add(scene) if is_judged else None
        held = holds.update(view) if view else ()
        reading = Reading(scene, Subjects(scene), totals.update(scene.sample), view, held)
        for series in expose(reading, ExportOptions(detail)):
            for line in "".join(row_texts(series, TextFormat.OPENMETRICS)).splitlines():
                key, _, value = line.rpartition(" ")
                name, brace, labels = key.partition("{")
                full = f'{name}{{instance="{instance}",job="kvmscope"' + (f",{labels}" if brace else "}")
                yield ExportedSample(series.family, full, value, scene.sample.taken_ns / 1e9)


def open_metrics_of(samples: Iterable[ExportedSample]) -> str:
    """OpenMetrics with times."""
    lines: dict[Family, dict[str, list[str]]] = {}
    for each in samples:
        line = f"{each.series} {each.value} {each.time_s:.3f}\n"
        lines.setdefault(each.family, {}).setdefault(each.series, []).append(line)
    parts = []
    for family, of_family in lines.items():
        parts += [head_text(family, TextFormat.OPENMETRICS), *("".join(of) for of in of_family.values())]
    return "".join(parts) + "# EOF\n"


@contextmanager
def prometheus_over(text: str, folder: Path, *options: str) -> Iterator[str]:
    """The URL of a Prometheus that has these samples of OpenMetrics."""
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if prometheus is None or promtool is None:
        pytest.skip("prometheus is not installed: tools/debian-packages.txt")
    source = folder / "samples.txt"
    source.write_text(text, encoding="utf-8")
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(source), str(folder / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with serving(folder, *options) as url:
        yield url


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """A Prometheus with a database in a folder."""
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("prometheus is not installed: tools/debian-packages.txt")
    config = folder / "prometheus.yml"
    config.write_text("global: {}\n", encoding="utf-8")
    port = free_port()
    command = [
        prometheus,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        *options,
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/-/ready"):
        yield url


@contextmanager
def victoria_metrics_over(text: str, folder: Path) -> Iterator[str]:
    """The URL of a VictoriaMetrics that has these samples of OpenMetrics, and looks back no further than 15 s."""
    program = shutil.which("victoria-metrics")
    if program is None:
        pytest.skip("victoria-metrics is not installed: tools/debian-packages.txt")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ("-retentionPeriod=100y", "-search.maxStalenessInterval=15s", "-search.maxQueryLen=32768")
    command = [program, f"-storageDataPath={folder}", f"-httpListenAddr=127.0.0.1:{port}", *options]
    with running(command, f"{url}/health"):
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        body = "\n".join(f"{sample} {round(float(stamp) * 1000)}" for sample, _, stamp in lines)
        urllib.request.urlopen(f"{url}/api/v1/import/prometheus", data=body.encode()).close()
        urllib.request.urlopen(f"{url}/internal/force_flush").close()
        yield url
