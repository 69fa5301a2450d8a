"""What publishing costs the VMM: an update in CPython, and what is published of memory.

An update is the whole statement, `stats.exits.add()`; a round is the fastest of 20 loops of 1,000, less such a loop
that does nothing, beside it. Rounds of each kind of update alternate, and the median is taken. The batch is one
addition of numpy to 1,000 counters in shared memory, beside as many calls of `add`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from timeit import Timer
from types import new_class

import numpy as np

from bench.result import Row
from bench.timing import duration, pairs, timed
from kvmscope import publish
from kvmscope.publish.cells import CounterCell
from kvmscope.schema import Scope, Unit

ROUNDS = 40
_LOOPS = 20
_CALLS = 1000
_COUNTER_NS = 150
_OFF_NS = 50
_BATCH_NS = 20_000


class ExitStats(publish.Stats, provider="bench", scope=Scope.VCPU):
    exits = publish.Counter("Exits.")
    queued = publish.Instant("Requests that wait.")
    longest = publish.Peak("The longest time.")
    stalled = publish.Boolean("It waits.")
    paused = publish.Bit("It waits, in a bit.")
    sizes = publish.LinearHistogram("Sizes.", size=16, bucket_size=4096)
    times = publish.LogHistogram("Times.", unit=Unit.SECONDS, exponent=-9)
    off = publish.Counter("Never enabled here.", group="off")
    off_times = publish.LogHistogram("Never enabled here.", group="off")


_UPDATES: Mapping[str, tuple[str, int | None]] = {
    "`Counter.add()`": ("stats.exits.add()", _COUNTER_NS),
    "`Counter.add(n)`": ("stats.exits.add(7)", _COUNTER_NS),
    "`add()` of a group that is off": ("stats.off.add()", _OFF_NS),
    "`record(n)` of a group that is off": ("stats.off_times.record(7)", _OFF_NS),
    "`Instant.set(n)`": ("stats.queued.set(7)", None),
    "`Peak.raise_to(n)`": ("stats.longest.raise_to(7)", None),
    "`Boolean.set(True)`": ("stats.stalled.set(True)", None),
    "`Bit.set(True)`": ("stats.paused.set(True)", None),
    "`LinearHistogram.record(n)`": ("stats.sizes.record(20_000)", None),
    "`LogHistogram.record(n)`": ("stats.times.record(20_000)", None),
}


def bench() -> Sequence[Row]:
    with publish.Vm("bench") as vm:
        stats = ExitStats(vm, vcpu=0)
        return [*_updates(stats), _batch(vm), *_sizes(vm)]


def _updates(stats: ExitStats) -> Iterator[Row]:
    nothing = _loop("pass", stats)
    loops = {what: _loop(update, stats) for what, (update, _) in _UPDATES.items()}
    taken: dict[str, list[float]] = {what: [] for what in loops}
    for _ in range(ROUNDS):
        empty = nothing()
        for what, loop in loops.items():
            taken[what].append(loop() - empty)
    for what, (_, limit) in _UPDATES.items():
        ns = median(taken[what])
        measured = f"{ns:.0f} ns (fastest {min(taken[what]):.0f} ns)"
        yield Row(what, measured, f"≤ {limit} ns" if limit else "", None if limit is None else ns <= limit)


def _loop(statement: str, stats: ExitStats) -> Callable[[], float]:
    """Nanoseconds of one statement, by a round."""
    timer = Timer(statement, globals={"stats": stats})
    return lambda: min(timer.repeat(_LOOPS, _CALLS)) / _CALLS * 1e9


def _batch(vm: publish.Vm) -> Row:
    counters = {f"stat_{number}": publish.Counter("A count.") for number in range(_CALLS)}
    stats = _class_of(counters)(vm)
    words = stats.publication.words
    cells = [getattr(stats, name) for name in counters]
    moved = np.arange(_CALLS, dtype=np.uint64)
    taken = pairs(timed(partial(np.add, words, moved, out=words)), timed(partial(_add_each, cells)), rounds=ROUNDS)
    ns = median(taken.first)
    what = f"{_CALLS:,} counters by one `np.add` on `publication.words`"
    note = f"fastest {duration(min(taken.first))}; {taken.ratio:.3f} of {_CALLS:,} calls of `add`"
    return Row(what, f"{duration(ns)} ({note})", f"≤ {duration(_BATCH_NS)}", ns <= _BATCH_NS)


def _add_each(cells: Sequence[CounterCell]) -> None:
    for cell in cells:
        cell.add(7)


def _sizes(vm: publish.Vm) -> Iterator[Row]:
    bits = _class_of({f"bit_{number}": publish.Bit("A state.") for number in range(64)}).stat_set.data_size
    yield Row("64 booleans as bits", f"{bits} bytes of data", "8 bytes", bits == 8)
    heavy = {f"hist_{number}": publish.LogHistogram("Times.", group="heavy") for number in range(100)}
    kind = _class_of({"exits": publish.Counter("Exits."), **heavy})
    bare = _class_of({"exits": publish.Counter("Exits.")})
    without = _file_size(bare(vm))
    added = [_file_size(kind(vm, groups=groups)) - without for groups in ((), ("heavy",))]
    yield Row("a group of 100 histograms adds, off", f"{added[0]} bytes", "0 bytes", added[0] == 0)
    yield Row("the same, on", f"{added[1]:,} bytes ({kind.stat_set.costs['heavy'].data_bytes:,} of data)")


def _class_of(declarations: Mapping[str, object]) -> type[publish.Stats]:
    keywords = {"provider": "bench", "scope": Scope.VM}
    return new_class("Declared", (publish.Stats,), keywords, lambda body: body.update(declarations))


def _file_size(stats: publish.Stats) -> int:
    with _closing_fd(stats.publication.open_fd()) as fd:
        return os.fstat(fd).st_size


@contextmanager
def _closing_fd(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
