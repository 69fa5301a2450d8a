"""ClickHouse, embedded: what is loaded is there once, and views and roll-ups say what DuckDB and numpy say.

The client is the one that talks to a server; only the transport differs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from engines_at_hand import close_session
from loads import HOST, Load, record, simulated_scenes, without_stats

pytest.importorskip("duckdb", reason="DuckDB is not installed: make setup")
pytest.importorskip("clickhouse_connect", reason="clickhouse-connect is not installed: make setup")
pytest.importorskip("chdb", reason="chdb is not installed: make setup")

from kvmscope.catalog.questions import load_questions
from kvmscope.engines.clickhouse import ClickHouseStore, open_clickhouse
from kvmscope.engines.clickhouse_load import load_recordings
from kvmscope.engines.clickhouse_tables import ROLL_UPS_S, Retention
from kvmscope.engines.engine import SqlStore
from kvmscope.engines.recordings import RecordingStore, open_recordings
from kvmscope.engines.results import plain_result
from kvmscope.engines.vocabulary import RECORDED_VIEWS
from kvmscope.errors import QueryError, Unavailable, UsageError
from kvmscope.lab.fleet import write_fleet
from kvmscope.lab.fleet_plan import FleetSize
from kvmscope.store.writer import RecordingWriter

OTHER = "c" * 32
SCENES = 40


def ask(store: SqlStore, sql: str) -> list[tuple[Any, ...]]:
    return list(plain_result(store.ask(sql)).rows())


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two hosts: one whose counts were cleared, one of a kernel that has fewer statistics; one still being written."""
    place = tmp_path_factory.mktemp("hosts")
    cleared = simulated_scenes(SCENES // 2, begin_s=500) + simulated_scenes(SCENES // 2, begin_s=SCENES / 2)
    moved = [Load().scene(number, words_of(scene)) for number, scene in enumerate(cleared)]
    other = simulated_scenes(SCENES, load=Load(vms=2, host=OTHER, boot="d" * 32))
    writer = RecordingWriter(place / "two", segment_s=15)
    for scene in other:
        writer.append(without_stats(scene, "halt_wait_ns"))
    yield [record(moved, place / "one"), str(place / "two")]
    writer.close()


def words_of(scene: Any) -> Any:
    return {block.schema.scope: block.values for block in scene.sample.blocks}


@pytest.fixture(scope="module")
def loaded(places: Sequence[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseStore]:
    close_session()
    with open_clickhouse(f"chdb://{tmp_path_factory.mktemp('clickhouse')}") as store:
        assert load_recordings(store, places[:1]).scenes == SCENES
        assert load_recordings(store, places[1:]).scenes == SCENES
        yield store


@pytest.fixture(scope="module")
def recorded(places: Sequence[str]) -> Iterator[RecordingStore]:
    with open_recordings(places) as store:
        yield store


def test_what_is_loaded_again_is_not_there_twice(
    loaded: ClickHouseStore, places: Sequence[str], tmp_path: Path
) -> None:
    shutil.copytree(places[0], tmp_path / "copy")
    assert load_recordings(loaded, [*places, str(tmp_path / "copy")]).scenes == 0
    query = "SELECT count(), uniqExact(host, vm, vcpu, boottime_ns) FROM raw.vcpus"
    [(rows, different)] = loaded.query(query).rows()
    assert rows == different == SCENES * (8 + 4)


# ClickHouse takes ten seconds to read the text of all rules, whose answers test_rules compares.
QUICK_QUESTIONS = [question for question in load_questions() if question.name != "findings"]


@pytest.mark.parametrize("question", QUICK_QUESTIONS, ids=lambda question: question.name)
def test_ready_questions_have_the_answers_of_duckdb(
    loaded: ClickHouseStore, recorded: RecordingStore, question: Any
) -> None:
    ours, theirs = ask(loaded, question.sql), ask(recorded, question.sql)
    assert sorted(ours, key=repr) == sorted(theirs, key=repr)


@pytest.mark.parametrize("view", RECORDED_VIEWS)
def test_views_have_the_rows_of_duckdb(loaded: ClickHouseStore, recorded: RecordingStore, view: str) -> None:
    names = plain_result(recorded.ask(f"SELECT * FROM {view} LIMIT 0")).names
    assert sorted(plain_result(loaded.ask(f"SELECT * FROM {view} LIMIT 0")).names) == sorted(names)
    listed = ", ".join(f'"{name}"' for name in sorted(names))
    ours, theirs = (ask(store, f"SELECT {listed} FROM {view}") for store in (loaded, recorded))
    assert sorted(ours, key=repr) == sorted(theirs, key=repr)


def test_metrics_are_those_of_duckdb(loaded: ClickHouseStore, recorded: RecordingStore) -> None:
    """A sample of columns and rows: the equality of all formulas is held by test_equality."""
    columns = "level, host, vm, vcpu, time, exits_per_s, halt_poll_cpus"
    query = f"SELECT {columns} FROM metrics WHERE name IS NULL OR name = 'vm-0'"
    ours, theirs = (sorted(ask(store, query), key=repr) for store in (loaded, recorded))
    assert [row[:5] for row in ours] == [row[:5] for row in theirs]
    for place in (5, 6):
        assert [row[place] for row in ours] == pytest.approx([row[place] for row in theirs])


@pytest.mark.parametrize("resolution_s", ROLL_UPS_S)
def test_increases_of_roll_ups_are_those_of_the_raw_rows(loaded: ClickHouseStore, resolution_s: int) -> None:
    counts = 'sum(exits), sum(halt_wait_ns), sum("halt_wait_hist.17"), sum(remote_tlb_flush), sum(seconds)'
    per_subject = f"SELECT host, vm, vcpu, epoch, {counts} FROM %s GROUP BY ALL ORDER BY ALL"
    raw, rolled = ask(loaded, per_subject % "deltas"), ask(loaded, per_subject % f"deltas_{resolution_s}s")
    assert [tuple(map(pytest.approx, row[4:-1])) for row in raw] == [row[4:-1] for row in rolled]
    assert len({row[3] for row in raw if row[0] == HOST}) == 2, "the counts were cleared in between"
    assert [row[-1] for row in rolled] == pytest.approx([row[-1] for row in raw])
    [(few,)], [(many,)] = (
        ask(loaded, f"SELECT count() FROM deltas_{resolution_s}s"),
        ask(loaded, "SELECT count() FROM deltas"),
    )
    assert few < many / 3


def test_a_roll_up_has_the_first_and_the_last_row_of_each_epoch_and_step(loaded: ClickHouseStore) -> None:
    times = "SELECT vm, vcpu, epoch, intDiv(boottime_ns, 10000000000), min(boottime_ns), max(boottime_ns) FROM {}.vcpus"
    query = times + " GROUP BY ALL ORDER BY ALL"
    assert list(loaded.query(query.format("raw")).rows()) == list(loaded.query(query.format("raw_10s")).rows())


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM file('/etc/passwd', 'LineAsString', 'line String')",
        "WITH a AS (SELECT * FROM file('/etc/passwd', 'LineAsString', 'line String')) SELECT * FROM a",
        "SELECT 'a' UNION ALL SELECT * FROM file('/etc/passwd', 'LineAsString', 'line String')",
        "SELECT * FROM file('/etc/passwd', 'LineAsString', 'line String') UNION ALL SELECT 'a'",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString', 'line String')",
        "SELECT file('/etc/passwd')",
        "SELECT `file`('/etc/passwd')",
        "SELECT name FROM vms WHERE name = file('/etc/passwd')",
        "SELECT * FROM system.tables",
        "SELECT * FROM merge('system', '.*')",
        "INSERT INTO raw.scenes SELECT * FROM raw.scenes",
        "DROP TABLE raw.scenes",
        "SELECT 1; DROP TABLE raw.scenes",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 INTO OUTFILE '/tmp/kvmscope-out'",
        "SET readonly = 0",
        "SYSTEM FLUSH LOGS",
        "EXPLAIN SELECT 1",
        "SELECT * FROM executable('id', 'CSV', 'a String')",
        "SELECT * FROM remote('127.0.0.1', 'system', 'one')",
        "SELECT * FROM sqlite('/a', 'b')",
        "SELECT * FROM fileCluster('default', '/etc/passwd')",
        "SELECT * FROM viewIfPermitted(SELECT 1 ELSE null('a Int'))",
        "SELECT * FROM view(SELECT * FROM file('/etc/passwd', 'LineAsString', 'line String'))",
        "SELECT * FROM loop(system.one)",
        "SELECT * FROM numbers((SELECT length(file('/etc/passwd'))))",
        "SELECT * FROM format(CSV, '1')",
        "SELECT * FROM (EXPLAIN SELECT 1)",
        "SELECT * FROM (SHOW TABLES)",
        "SELECT * FROM INFORMATION_SCHEMA.TABLES",
        "SELECT * FROM (WITH one AS (SELECT 1) SELECT * FROM one) AS a, one",
        "SELECT arrayMap(x -> file(x), ['/etc/passwd'])",
        "SELECT getSetting('readonly'), hostName()",
        "SELECT dictGetString('a', 'b', 1)",
        "SELECT logTrace('a')",
        "SELECT hasColumnInTable('system', 'one', 'dummy')",
        "SELECT 1 FORMAT CSV",
        "DESCRIBE file('/etc/passwd')",
        "SHOW TABLES",
        "USE raw",
        "INSERT INTO FUNCTION file('/tmp/kvmscope-out') SELECT 1",
        "CREATE TABLE made (a Int) ENGINE = File(CSV)",
        "CREATE FUNCTION made AS x -> x",
        "BACKUP TABLE raw.vms TO File('/tmp/kvmscope-out')",
        "RENAME TABLE vms TO made",
        "SELECT {a:UInt8}",
        "SELECT * FROM {a:Identifier}",
        "SELECT name FROM `vms",
        "SELECT 1 /*",
        "",
    ],
)
def test_a_users_query_reads_recordings_and_nothing_else(loaded: ClickHouseStore, query: str) -> None:
    with pytest.raises(QueryError) as refused:
        ask(loaded, query)
    assert bool(refused.value.line) == bool(query)
    assert ask(loaded, "SELECT count(*) FROM vms") == [(6,)]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM file('/etc/passwd', 'LineAsString', 'line String')",
        "SELECT * FROM file('/etc/passwd', 'LineAsString', 'line String') UNION ALL SELECT 'a'",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString', 'line String')",
        "SELECT * FROM executable('id', 'TabSeparated', 'line String')",
    ],
)
def test_the_engine_refuses_table_functions_by_itself(
    loaded: ClickHouseStore, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the guard had let them pass."""
    monkeypatch.setattr("kvmscope.engines.clickhouse.check_query", lambda *_: frozenset())
    monkeypatch.setattr("kvmscope.engines.clickhouse.check_function", lambda *_: None)
    with pytest.raises(QueryError, match="readonly"):
        ask(loaded, query)


@pytest.mark.parametrize("query", ["SELECT file('/etc/passwd')", "SELECT\n arrayMap(x -> file(x), ['/etc/passwd'])"])
def test_functions_that_the_engine_parses_are_checked_too(
    loaded: ClickHouseStore, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the other parser had read the text another way. A read-only query could read files by this one."""
    monkeypatch.setattr("kvmscope.engines.clickhouse.check_query", lambda *_: frozenset())
    with pytest.raises(QueryError, match="file is not a function that queries may use") as refused:
        ask(loaded, query)
    assert refused.value.excerpt.splitlines()[0].strip().startswith(query.splitlines()[-1].strip()[:20])


def test_a_wrong_query_is_an_error_with_its_place(loaded: ClickHouseStore) -> None:
    with pytest.raises(QueryError) as caught:
        ask(loaded, "SELECT name\nFROM vms WHER host = 'a'")
    assert caught.value.line == 2
    for query, place in (
        ("SELECT name,\n no_such FROM vms", (2, 2)),
        ("SELECT no_such(name) FROM vms", (1, 8)),
        ("SELECT vms.no_such FROM vms", (1, 12)),
        ("SELECT name\nFROM no_such", (2, 6)),
        ("SELECT name FROM `vms", (1, 18)),
        ("SELECT name\n + 1 FROM vms", (2, 2)),
        ("SELECT\n toDate(name, 2, 3, 4), 'toDate(' FROM vms", (2, 2)),
        ("SELECT name + 1, 1 + 1 FROM vms", (None, None)),
    ):
        with pytest.raises(QueryError) as caught:
            ask(loaded, query)
        assert (caught.value.line, caught.value.column) == place
        assert "SETTINGS" not in caught.value.reason


def test_memory_of_a_query_is_limited(places: Sequence[str], loaded: ClickHouseStore) -> None:
    loaded._memory_bytes, before = 50 << 20, loaded._memory_bytes
    try:
        with pytest.raises(Unavailable, match="memory"):
            ask(loaded, "SELECT length(groupArray(number)) FROM numbers(100000000)")
    finally:
        loaded._memory_bytes = before


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://user:secret@127.0.0.1:1/db"])
def test_a_server_that_does_not_answer_says_what_would_help(url: str) -> None:
    with pytest.raises(Unavailable) as caught:
        open_clickhouse(url)
    assert "127.0.0.1:1" in str(caught.value)
    assert caught.value.remedy
    assert "secret" not in str(caught.value) + caught.value.remedy


@pytest.mark.parametrize("url", ["", "clickhouse", "ftp://host", "/var/lib/kvmscope", "chdb:", "chdb://"])
def test_what_is_not_a_url_of_clickhouse_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="chdb"):
        open_clickhouse(url)


# --- tests that change what is loaded, last ---------------------------------------------------------------------------


def test_a_kernel_with_more_statistics_adds_columns(loaded: ClickHouseStore, tmp_path: Path) -> None:
    from dataclasses import replace

    scenes = []
    for scene in simulated_scenes(3, load=Load(host="e" * 32)):
        blocks = tuple(replace(block, schema=replace(block.schema, provider="fresh")) for block in scene.sample.blocks)
        scenes.append(replace(scene, sample=replace(scene.sample, blocks=(*scene.sample.blocks, *blocks))))
    assert load_recordings(loaded, [record(scenes, tmp_path / "r")]).scenes == 3
    query = 'SELECT sum(exits), sum("fresh.exits") FROM deltas WHERE host = \'' + "e" * 32 + "'"
    [(exits, fresh)] = ask(loaded, query)
    assert exits == fresh > 0
    [(older,)] = ask(loaded, f"SELECT count(\"fresh.exits\") FROM samples WHERE host = '{HOST}'")
    assert older == 0
    [(rolled,)] = ask(loaded, 'SELECT sum("fresh.exits") FROM deltas_10s')
    assert rolled == fresh


def test_hosts_that_are_loaded_together_are_whole_also_after_a_load_that_failed(
    loaded: ClickHouseStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = [digit * 32 for digit in "78"]  # no other test loads them
    for host in hosts:
        record(simulated_scenes(6, step_s=10, load=Load(vms=2, host=host, boot=host)), tmp_path / "fleet" / host)
    make = ClickHouseStore.make

    def make_until_the_disk_is_full(store: ClickHouseStore, sql: str) -> None:
        if sql.startswith("INSERT INTO raw.vcpus "):
            raise Unavailable("no space left", remedy="more space")
        make(store, sql)

    monkeypatch.setattr(ClickHouseStore, "make", make_until_the_disk_is_full)
    with pytest.raises(Unavailable):
        load_recordings(loaded, [str(tmp_path / "fleet")])
    monkeypatch.undo()
    assert load_recordings(loaded, [str(tmp_path / "fleet")]).scenes == 2 * 6
    for database in ("raw", "raw_10s"):
        query = f"SELECT host, count(), uniqExact(vm, vcpu, boottime_ns) FROM {database}.vcpus GROUP BY host"
        rows = {host: (count, different) for host, count, different in loaded.query(query).rows()}
        assert [rows[host] for host in hosts] == [(2 * 2 * 6, 2 * 2 * 6)] * 2


def test_old_rows_are_deleted_after_their_retention(loaded: ClickHouseStore) -> None:
    """The scenes are of 2023, so a retention of days deletes them at the next merge; roll-ups have their own."""
    load_recordings(loaded, [], retention=Retention(roll_up_days={60: 30}))
    loaded.make("OPTIMIZE TABLE raw_60s.vcpus_edges FINAL")
    assert list(loaded.query("SELECT count() FROM raw_60s.vcpus").rows()) == [(0,)]
    assert list(loaded.query("SELECT count() FROM raw_10s.vcpus").rows()) != [(0,)]


def test_a_load_needs_fewer_open_files_than_there_are_columns(tmp_path: Path) -> None:
    """Of a host whose rows are large enough for parts with files for each column, of which a user may open 1,024."""
    write_fleet(tmp_path / "fleet", FleetSize(hosts=1, vms=10, vcpus=4, samples=40))
    command = [sys.executable, "-m", "kvmscope", "fleet", "load", "--clickhouse", f"chdb://{tmp_path}/c"]
    limited = ["sh", "-c", 'ulimit -n 1024; exec "$@"', "sh", *command, str(tmp_path / "fleet")]
    done = subprocess.run(limited, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("40 new scenes of 1 recording")
