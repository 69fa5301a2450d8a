"""Opens the stores for ``sql`` and ``fleet``: recordings, ClickHouse or Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..store.requirements import require_pyarrow

if TYPE_CHECKING:  # loading them loads an engine
    from ..engines.engine import SqlStore
    from ..engines.fleet import FleetStore


def open_sql(places: Sequence[str], clickhouse: str | None, *, memory_bytes: int) -> SqlStore:
    """Open recordings or a ClickHouse. Raises UsageError unless exactly one is given, RecordingError, Unavailable."""
    if bool(places) == bool(clickhouse):
        raise UsageError("name a recording with --from PATH (`kvmscope record DIR` makes one), or --clickhouse URL")
    require_pyarrow()
    if clickhouse:
        from ..engines.clickhouse import open_clickhouse

        return open_clickhouse(clickhouse, memory_bytes=memory_bytes)
    from ..engines.recordings import open_recordings

    return open_recordings(places, memory_bytes=memory_bytes)


def open_fleet(
    places: Sequence[str],
    clickhouse: str | None,
    prometheus: str | None,
    *,
    interval_s: float | None,
    memory_bytes: int,
) -> FleetStore:
    """Open recordings, a ClickHouse or a Prometheus. Raises UsageError unless exactly one is given, RecordingError,
    Unavailable."""
    if bool(places) + (clickhouse is not None) + (prometheus is not None) != 1:
        raise UsageError("name one store to query: directories of recordings, --clickhouse URL or --prometheus URL")
    if prometheus is not None:
        from ..engines.prometheus.fleet import open_prometheus_fleet

        return open_prometheus_fleet(prometheus, interval_s=interval_s)
    require_pyarrow()
    from ..engines.fleets import open_clickhouse_fleet, open_recorded_fleet

    if clickhouse is not None:
        return open_clickhouse_fleet(clickhouse, interval_s=interval_s)
    return open_recorded_fleet(places, interval_s=interval_s, memory_bytes=memory_bytes)
