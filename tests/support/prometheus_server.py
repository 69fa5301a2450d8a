"""Debian's Prometheus over scenes that were put into its database, and over nothing else.

Between two moments no sample is seen (``--query.lookback-delta``), as after a scrape that lacked the series: backfilled
blocks have no staleness markers.
"""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvmscope.analysis.totals import VmTotals
from kvmscope.catalog.series_names import Family
from kvmscope.export.judged import identity_series
from kvmscope.export.stats import Detail, stat_series
from kvmscope.export.subjects import Subjects
from kvmscope.export.text import TextFormat, head_text, row_texts
from kvmscope.scene import Scene
from kvmscope.web.server.listen import ListenAddress, open_sockets

DEADLINE_S = 60


def exported_lines(
    instance: str, scenes: Sequence[Scene], detail: Detail = Detail.FULL
) -> Iterator[tuple[Family, str, str, float]]:
    """Each sample that ``serve`` has of these scenes: family, series with labels, value, Unix time."""
    totals = VmTotals()
    for scene in scenes:
        subjects, sums = Subjects(scene), totals.update(scene.sample)
        found = [*identity_series(scene, subjects), *stat_series(scene, subjects, sums, detail, frozenset())]
        for series in (each.series for each in found):
            for line in "".join(row_texts(series, TextFormat.OPENMETRICS)).splitlines():
                key, _, value = line.rpartition(" ")
                name, brace, labels = key.partition("{")
                full = f'{name}{{instance="{instance}",job="kvmscope"' + (f",{labels}" if brace else "}")
                yield series.family, full, value, scene.sample.taken_ns / 1e9


def open_metrics(hosts: Mapping[str, Sequence[Scene]]) -> str:
    """The samples of hosts, by ``instance``, as OpenMetrics with times."""
    lines: dict[Family, dict[str, list[str]]] = {}
    for instance, scenes in hosts.items():
        for family, series, value, time_s in exported_lines(instance, scenes):
            lines.setdefault(family, {}).setdefault(series, []).append(f"{series} {value} {time_s:.3f}\n")
    parts = []
    for family, of_family in lines.items():
        parts += [head_text(family, TextFormat.OPENMETRICS), *("".join(of) for of in of_family.values())]
    return "".join(parts) + "# EOF\n"


@contextmanager
def prometheus_over(text: str, folder: Path) -> Iterator[str]:
    """The URL of a Prometheus that has these samples of OpenMetrics."""
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if prometheus is None or promtool is None:
        pytest.skip("prometheus is not installed: tools/debian-packages.txt")
    source = folder / "samples.txt"
    source.write_text(text, encoding="utf-8")
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(source), str(folder / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with serving(folder, "--query.lookback-delta=1s") as url:
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
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}/-/ready")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    (socket,) = open_sockets([ListenAddress("127.0.0.1", 0)])
    with socket:
        port: int = socket.getsockname()[1]
        return port


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{url} is not ready")
