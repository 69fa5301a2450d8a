"""Opens fleets: recordings in DuckDB, ClickHouse, Prometheus.

Recordings are thinned first, to the statistics that a query reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

from ..store.fleet_index import RESOLUTION_S
from .clickhouse import open_clickhouse
from .clickhouse_tables import ROLL_UPS_S, database
from .duckdb_store import DEFAULT_MEMORY_BYTES
from .fleet import FleetStore
from .fleet_sql import SqlFleet
from .pulled import PulledRecordings
from .recordings import open_recordings
from .refusal import QueryEngine
from .thinning import RecordedSpan, ThinnableStore, ThinnedRecordings, read_span

_PART_OF_DUCKDB: Final = 0.65
"""DuckDB's share of the memory limit. The rest is for Python, Arrow and results in the same process."""


def open_recorded_fleet(
    places: Sequence[str], *, interval_s: float | None = None, memory_bytes: int = DEFAULT_MEMORY_BYTES
) -> FleetStore:
    """The recordings at these places as a fleet.

    ``interval_s``: length of a window; by default about a third of the recorded time, as for the same recordings in
    ClickHouse. ``memory_bytes``: limit of this process; DuckDB gets a part of it. Raises RecordingError if nothing can
    be read, UsageError, Unavailable without DuckDB.
    """
    open_store = partial(open_recordings, places, memory_bytes=round(memory_bytes * _PART_OF_DUCKDB), keeps_order=False)
    store = open_store(uses_index=True)
    try:
        window_s, resolution_s = _window(read_span(store), interval_s)
    except BaseException:
        store.close()
        raise
    if store.is_indexed and resolution_s != RESOLUTION_S:
        store.close()
        store = open_store()
    return _thinned_fleet(store, ", ".join(places), window_s, QueryEngine.DUCKDB)


def open_clickhouse_fleet(
    url: str, *, interval_s: float | None = None, memory_bytes: int = DEFAULT_MEMORY_BYTES
) -> FleetStore:
    """The recordings in this ClickHouse as a fleet.

    A roll-up is read where its scenes are those at the ends of windows. Raises UsageError, Unavailable.
    """
    store = open_clickhouse(url, memory_bytes=memory_bytes)
    try:
        window_s, resolution_s = _window(read_span(store), interval_s)
        pulled = PulledRecordings(store, database(resolution_s), memory_bytes=round(memory_bytes * _PART_OF_DUCKDB))
    except BaseException:
        store.close()
        raise
    return _thinned_fleet(pulled, store.name, window_s, QueryEngine.CLICKHOUSE)


def _thinned_fleet(store: ThinnableStore, place: str, window_s: float, engine: QueryEngine) -> FleetStore:
    """The recordings of a store, which is closed with the fleet. ``engine``: the engine of the store."""
    try:
        thinned = ThinnedRecordings(store, window_s)
    except BaseException:
        store.close()
        raise
    return SqlFleet(store, place, thinned, window_s, engine=engine)


def _window(span: RecordedSpan, interval_s: float | None) -> tuple[float, int]:
    """The length of a window, and the resolution of the coarsest roll-up that keeps its ends; 0: the raw relations.

    A requested length must be a multiple of the resolution; a default length is rounded to one.
    """
    length_s = span.window_s(interval_s)
    fits = [each for each in ROLL_UPS_S if (length_s % each == 0 if interval_s else length_s >= 2 * each)]
    resolution_s = max(fits, default=0)
    return math.ceil(length_s / resolution_s) * resolution_s if resolution_s else length_s, resolution_s
