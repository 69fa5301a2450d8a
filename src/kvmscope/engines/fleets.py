"""Opens fleets: recordings in DuckDB, ClickHouse, Prometheus.

Recordings are thinned first, to the statistics that rules and metrics read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from ..catalog.findings import load_findings
from ..catalog.metrics import formulas, load_metrics
from ..formula.check import Formula
from .clickhouse import open_clickhouse
from .clickhouse_tables import ROLL_UPS_S, database
from .duckdb_store import DEFAULT_MEMORY_BYTES
from .fleet import FleetStore
from .fleet_sql import FleetRelations, SqlFleet
from .recordings import open_recordings
from .thinning import THIN, NeededStats, RecordedSpan, read_span, thin_recordings
from .windows import WindowPlan

_PART_OF_DUCKDB: Final = 0.65
"""Of the memory: its limit is not that of the process, which has Python, Arrow and results beside it."""


def open_recorded_fleet(
    places: Sequence[str], *, interval_s: float | None = None, memory_bytes: int = DEFAULT_MEMORY_BYTES
) -> FleetStore:
    """The recordings at these places as a fleet.

    ``interval_s``: length of a window; by default a third of the time that was recorded. ``memory_bytes``: what this
    process may take; DuckDB is given a part of it. Raises RecordingError if nothing can be read, UsageError,
    Unavailable without DuckDB.
    """
    store = open_recordings(places, memory_bytes=round(memory_bytes * _PART_OF_DUCKDB))
    try:
        window_s = read_span(store).window_s(interval_s)
        stats = NeededStats.of(_formulas())
        thin_recordings(store, window_s, stats)
    except BaseException:
        store.close()
        raise
    # Thinned scenes are the ends of windows, so each window is from one to the next.
    return SqlFleet(store, ", ".join(places), FleetRelations(THIN, WindowPlan(), window_s, stats))


def open_clickhouse_fleet(
    url: str, *, interval_s: float | None = None, memory_bytes: int = DEFAULT_MEMORY_BYTES
) -> FleetStore:
    """The recordings that were loaded into this ClickHouse as a fleet.

    A roll-up is read where its scenes are those at the ends of windows. Raises UsageError, Unavailable.
    """
    store = open_clickhouse(url, memory_bytes=memory_bytes)
    try:
        span = read_span(store)
        resolution_s = _roll_up(span, interval_s)
        length_s = span.window_s(interval_s)
        every_s = math.ceil(length_s / resolution_s) * resolution_s if resolution_s else length_s
    except BaseException:
        store.close()
        raise
    # Windows of a roll-up begin with the first scene of one of its stretches, which it keeps.
    relations = FleetRelations(database(resolution_s), WindowPlan(int(every_s)), every_s, NeededStats.of(_formulas()))
    return SqlFleet(store, store.name, relations)


def _roll_up(span: RecordedSpan, interval_s: float | None) -> int:
    """The coarsest roll-up that keeps the ends of the windows, 0 for the raw relations.

    A length that was asked for must be a multiple of its resolution; one of our own is made so.
    """
    length_s = span.window_s(interval_s)
    fits = [each for each in ROLL_UPS_S if (length_s % each == 0 if interval_s else length_s >= 2 * each)]
    return max(fits, default=0)


def _formulas() -> Iterator[Formula]:
    """All that may be asked of a fleet."""
    yield from formulas(load_metrics()).values()
    for rule in load_findings():
        parts = (rule.when, rule.activity, rule.clears, rule.cost, rule.lost)
        yield from (part for part in parts if part is not None)
