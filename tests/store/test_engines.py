"""Others read the segments as they are: DuckDB and ClickHouse's engine find the same numbers without kvmscope."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from engines_at_hand import close_session

from kvmscope.scene import Scene
from kvmscope.schema import Scope
from kvmscope.store.epochs import EpochTracker
from kvmscope.store.writer import RecordingWriter

duckdb = pytest.importorskip("duckdb")
chdb = pytest.importorskip("chdb")


@pytest.fixture
def recorded(tmp_path: Path, host_scenes: list[Scene]) -> Path:
    writer = RecordingWriter(tmp_path / "recording")
    for scene in host_scenes:
        writer.append(scene)
    writer.close()
    return tmp_path / "recording"


def words_of(scenes: list[Scene], stat: str) -> list[int]:
    """All words of a stat of vCPUs, in no order."""
    blocks = [scene.sample.block("kvm", Scope.VCPU) for scene in scenes]
    return sorted(int(word) for block in blocks if block is not None for word in block.column(stat))


def test_duckdb_reads_every_number(recorded: Path, host_scenes: list[Scene]) -> None:
    query = f"""SELECT "kvm.exits" FROM read_parquet('{recorded}/vcpus/**/*.parquet', hive_partitioning = true)"""
    found = [row[0] for row in duckdb.sql(query).fetchall()]
    assert sorted(value for value in found if value is not None) == words_of(host_scenes, "exits")
    unread = sum(len(scene.sample.vcpus) for scene in host_scenes) - len(words_of(host_scenes, "exits"))
    assert found.count(None) == unread > 0


def test_clickhouse_reads_every_number(recorded: Path, host_scenes: list[Scene]) -> None:
    query = f"""SELECT "kvm.exits" AS value FROM file('{recorded}/vcpus/*/*/*.parquet', Parquet)"""
    close_session()  # a process has one embedded ClickHouse, and another test's may have a place of its own
    rows = [json.loads(line) for line in str(chdb.query(query, "JSONEachRow")).splitlines()]
    found = sorted(int(row["value"]) for row in rows if row["value"] is not None)
    assert found == words_of(host_scenes, "exits")


def test_the_query_of_the_docs_gives_increases_within_epochs(recorded: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "recordings.md").read_text(encoding="utf-8")
    query = text.partition("```sql\n")[2].partition("```")[0].replace("DIR", str(recorded))
    found = {(name, vcpu): exits for name, vcpu, exits in duckdb.sql(query).fetchall()}
    assert found["web-1", 0] == 40_000
    assert found["web-1", 1] == 200
    assert found["db\x1b[31m-2", 0] == 0, "it was cleared in between: two epochs, each without an increase"


def test_an_epoch_goes_on_until_a_count_falls(host_scenes: list[Scene]) -> None:
    tracker = EpochTracker()
    first, second, third = (tracker.of(scene.sample)[1] for scene in host_scenes)
    assert np.array_equal(first, second)
    names = [host_scenes[2].identities[row].name for row in host_scenes[2].sample.vcpus.vm.tolist()]
    began = host_scenes[2].sample.taken_ns
    fresh = {name for name, epoch in zip(names, third.tolist(), strict=True) if epoch == began}
    assert "web-1" not in fresh
    assert {name[:2] for name in fresh} == {"db", "数据"}
