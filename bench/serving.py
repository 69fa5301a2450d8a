"""What a scrape of a large host costs: 1,280 VMs with 8 vCPUs each, invented values in records as the iterator leaves
them, of this kernel's schemas.

CPU time of the process from the sample to the last byte: sums over vCPUs, choice of series, names, text or messages.
Who the VMs are is known, as it is from the second scrape on. Reading the kernel is measured under "Reading a host". The
scrapes at the level of VMs have the default bound of 40,000 series; without it there are 353,000, and all of them are
measured too. Prometheus asks for gzip, so sizes are those of gzip, with the size before it. prometheus_client writes 50
of the names for 200 VMs or vCPUs each, from objects that are there already; it is compared by series, without
histograms.
"""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from bench.findings import LargeHost
from bench.result import Row
from bench.timing import duration
from kvmscope.analysis.totals import VmTotals
from kvmscope.export.budget import SeriesChoice
from kvmscope.export.exposition import ExportOptions, Reading, expose
from kvmscope.export.held import FindingHolds
from kvmscope.export.protobuf import write_protobuf
from kvmscope.export.series import HistogramSeries, Series, StatSeries
from kvmscope.export.stats import Detail
from kvmscope.export.subjects import Subjects
from kvmscope.export.text import write_text
from kvmscope.host.machine import read_machine
from kvmscope.scene import Scene
from kvmscope.view.jsonout import dump, to_value
from kvmscope.view.summary import host_summary
from kvmscope.view.watch import HostView, Watch
from kvmscope.web.server.compression import gzipped

SCRAPES, SCRAPES_FOR_MEMORY = 7, 10_000
_MS: Final = 1_000_000
_FAMILIES, _SUBJECTS = 50, 200
_VM_LEVEL: Final = ExportOptions(Detail.VM, SeriesChoice(limit=40_000))
_EVERY_VM_SERIES: Final = ExportOptions(Detail.VM)
_FULL: Final = ExportOptions(Detail.FULL)

Write = Callable[[Sequence[Series]], Iterator[bytes]]
_FORMATS: Final[Mapping[str, Write]] = {"text": write_text, "protobuf": write_protobuf}


def bench() -> Sequence[Row]:
    host = _ScrapedHost()
    full, text_bytes = host.scrape(_FULL, write_text)
    messages, message_bytes = host.scrape(_FULL, write_protobuf)
    ratio = message_bytes / text_bytes
    return [
        *_of_vms(host, "a scrape at the level of VMs", _VM_LEVEL),
        *_of_vms(host, "the same without a bound", _EVERY_VM_SERIES, has_limit=False),
        _at_most("a full scrape as text", full, 400, f"{text_bytes / 1e6:.0f} MB"),
        _at_most("the same as protobuf with native histograms", messages, 250, f"{message_bytes / 1e6:.0f} MB"),
        Row("its bytes ÷ those of the text", f"{ratio:.2f}", "≤ 0.35", ratio <= 0.35),
        _beside_prometheus_client(host),
        _memory(host),
        _summary(host.view),
    ]


def _of_vms(host: _ScrapedHost, what: str, options: ExportOptions, *, has_limit: bool = True) -> Iterator[Row]:
    """The two formats that servers ask for, without gzip and with it."""
    for name, write in _FORMATS.items():
        ns, size = host.scrape(options, write)
        packed_ns, packed = host.scrape(options, partial(_packed, write))
        cpu = f"{duration(ns)} of CPU time; with gzip {duration(packed_ns)}"
        sizes = f"{packed / 1e6:.2f} MB with gzip; {size / 1e6:.1f} MB without"
        if has_limit:
            yield Row(f"{what}, as {name}", cpu, "≤ 30 ms", ns <= 30 * _MS)
            yield Row("its size on the wire", sizes, "≤ 1 MB", packed <= 1e6)
        else:
            yield Row(f"{what}, as {name}", f"{cpu}; {sizes}")


def _packed(write: Write, series: Sequence[Series]) -> Iterator[bytes]:
    return gzipped(write(series))


class _ScrapedHost:
    """A host that has been watched for a few intervals."""

    def __init__(self) -> None:
        large = LargeHost(8)
        watch, holds, self._totals = Watch(), FindingHolds(), VmTotals()
        for sample in large.samples(4):
            self.scene = Scene(sample, large.identities, read_machine(), {})
            view = watch.add(self.scene)
            if view is not None:
                self.view, self._held = view, holds.update(view)
        self._subjects = Subjects(self.scene)

    def series(self, options: ExportOptions) -> tuple[Series, ...]:
        sums = self._totals.update(self.scene.sample)
        self._subjects = self._subjects.at(self.scene)
        return expose(Reading(self.scene, self._subjects, sums, self.view, self._held), options)

    def scrape(self, options: ExportOptions, write: Write) -> tuple[float, int]:
        """Nanoseconds of CPU time, and bytes."""
        taken, size = [], 0
        for _ in range(SCRAPES):
            # What a sample keeps of its columns is of one scrape alone.
            self.scene = replace(self.scene, sample=replace(self.scene.sample, blocks=_uncached(self.scene)))
            gc.collect()
            began = time.process_time_ns()
            size = sum(map(len, write(self.series(options))))
            taken.append(time.process_time_ns() - began)
        return median(taken[1:]), size


def _uncached(scene: Scene) -> Any:
    return tuple(replace(block) for block in scene.sample.blocks)


def _beside_prometheus_client(host: _ScrapedHost) -> Row:
    series = [each for each in host.series(_FULL) if not isinstance(each, HistogramSeries)]
    began = time.process_time_ns()
    sum(map(len, write_text(series)))
    ours = (time.process_time_ns() - began) / sum(each.count for each in series)
    registry, count = CollectorRegistry(), 0
    stats = {each.family.name: each for each in series if isinstance(each, StatSeries)}
    for name, each in list(stats.items())[:_FAMILIES]:
        gauge = Gauge(name, each.family.help, each.subjects.names, registry=registry)
        for row in each.rows[:_SUBJECTS].tolist():
            gauge.labels(*each.subjects.rows[row]).set(1)
            count += 1
    began = time.process_time_ns()
    generate_latest(registry)
    theirs = (time.process_time_ns() - began) / count
    factor = theirs / ours
    measured = f"{factor:.0f} × ({ours:.0f} ns and {theirs:.0f} ns a series)"
    return Row("prometheus_client ÷ kvmscope, CPU time a series of text", measured, "≥ 20", factor >= 20)


def _memory(host: _ScrapedHost) -> Row:
    options = ExportOptions(Detail.VM, SeriesChoice(limit=1000))
    for _ in range(100):
        sum(map(len, write_text(host.series(options))))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(SCRAPES_FOR_MEMORY // 10):
        sum(map(len, write_text(host.series(options))))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return Row(
        f"memory after {SCRAPES_FOR_MEMORY // 10:,} more scrapes", f"+{grown:.1f} MB", "flat: ≤ 1 MB", grown <= 1
    )


def _summary(view: HostView) -> Row:
    began = time.process_time_ns()
    size = len(dump(to_value(host_summary(view)), one_line=True))
    taken = time.process_time_ns() - began
    what = "what a page is sent at each interval"
    return Row(what, f"{size / 1000:.1f} kB, made in {duration(taken)} for all pages", "≤ 20 kB", size <= 20_000)


def _at_most(what: str, ns: float, limit_ms: float, note: str = "") -> Row:
    text = f"{duration(ns)} of CPU time" + (f"; {note}" if note else "")
    return Row(what, text, f"≤ {limit_ms:g} ms", ns <= limit_ms * _MS)
