"""A query that an engine cannot express: a value with the reason, instead of an approximate query."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class QueryEngine(Enum):
    """The engines that run formulas besides numpy, by their common names."""

    DUCKDB = "DuckDB"
    CLICKHOUSE = "ClickHouse"
    PROMETHEUS = "Prometheus"


@dataclass(frozen=True, slots=True)
class EngineRefusal:
    """A formula that an engine cannot express. ``subject``: the name of a metric, the slug of a rule, or a formula."""

    engine: QueryEngine
    subject: str
    reason: str

    def __str__(self) -> str:
        return f"{self.engine.value} cannot say {self.subject}: {self.reason}"
