"""Group apicv: what each event costs the vCPU that it happens to, by the kernel's own run statistics of BPF programs.

They include the kernel's two readings of its clock, which an empty program would show as well. The statistics are read
every 50 ms while lab guests cause the events, and the median over those spans is taken: the mean has in it whatever
else took the CPU away. Events of AVIC, of delivery and of inhibition cannot be made to happen, or not be hooked, on
every KVM: what did not run here has no row.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.result import Row
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.sources.bpf import libbpf
from kvmscope.sources.bpf.group import Hook
from kvmscope.sources.bpf.source import BpfSource

_LIMIT_NS = 200
_SPAN_S = 0.05


def bench() -> Sequence[Row]:
    source = BpfSource(groups=("apicv",))
    try:
        assert source.hooks is not None
        spans: dict[Hook, list[_Span]] = {hook: [] for hook in source.hooks.chosen}
        with libbpf.run_statistics():
            for workload, count, vcpus in (("msi", 30_000, 1), ("ipi", 30_000, 2)):
                with process.start(LabSpec(workload=workload, count=count, vcpus=vcpus)) as guests:
                    guests.go()
                    _watch(guests, source, spans)
        return [row for hook, found in spans.items() for row in _row(hook, found)]
    finally:
        source.close()


@dataclass(frozen=True, slots=True)
class _Span:
    """What one program did between two looks at its statistics."""

    runs: int
    time_ns: int


def _watch(guests: process.Running, source: BpfSource, spans: dict[Hook, list[_Span]]) -> None:
    before = {hook: _statistics(source, hook) for hook in spans}
    while not guests.wait_for_end(_SPAN_S):
        for hook, (runs, time_ns) in before.items():
            before[hook] = now = _statistics(source, hook)
            if now[0] > runs:
                spans[hook].append(_Span(now[0] - runs, now[1] - time_ns))


def _statistics(source: BpfSource, hook: Hook) -> tuple[int, int]:
    """Runs of a program, and the nanoseconds that they took."""
    return libbpf.ran(source.program.fd(hook.program))


def _row(hook: Hook, spans: Sequence[_Span]) -> Iterator[Row]:
    if spans:
        each = statistics.median(span.time_ns / span.runs for span in spans)
        mean = sum(span.time_ns for span in spans) / sum(span.runs for span in spans)
        runs = sum(span.runs for span in spans)
        measured = f"{each:.0f} ns ({runs:,} events in {len(spans)} spans; mean {mean:.0f} ns)"
        yield Row(f"an event of {hook}", measured, f"≤ {_LIMIT_NS} ns", each <= _LIMIT_NS)
