"""A user's SQL reads the recordings and nothing else: by trying, with the guard and without it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from loads import record, simulated_scenes

pytest.importorskip("duckdb", reason="DuckDB is not installed: make setup")

from kvmscope.engines.duckdb_store import DuckDbConnection
from kvmscope.engines.guard import Relations, check_query
from kvmscope.engines.recordings import RecordingStore, open_recordings
from kvmscope.engines.refusal import QueryEngine
from kvmscope.engines.results import plain_result
from kvmscope.errors import KvmscopeError, QueryError, Unavailable

WRITES = [
    "COPY (SELECT 1) TO '{new}'",
    "COPY vms TO '{new}' (FORMAT parquet)",
    "EXPORT DATABASE '{new}'",
    "ATTACH '{new}'",
    "CREATE TABLE made AS SELECT 1",
    "CREATE VIEW made AS SELECT 1",
    "CREATE OR REPLACE MACRO made(a) AS a",
    "CREATE SECRET made (TYPE s3)",
    "DROP VIEW vms",
    "DELETE FROM raw.episodes",
    "INSERT INTO raw.episodes SELECT * FROM raw.episodes",
    "UPDATE raw.episodes SET number = 0",
    "WITH gone AS (DELETE FROM raw.episodes RETURNING *) SELECT * FROM gone",
    "SELECT * FROM (DELETE FROM raw.episodes RETURNING *)",
    "ALTER TABLE raw.episodes ADD COLUMN a INT",
    "COPY (FROM vms) TO '/dev/stdout'",
    "COPY raw.episodes FROM '{new}'",
    "IMPORT DATABASE '{new}'",
    "ATTACH 'http://127.0.0.1:1/made.db'",
    "DETACH memory",
    "CREATE TEMP MACRO made() AS TABLE FROM read_text('/etc/passwd')",
    "CREATE VIEW made AS FROM read_text('/etc/passwd')",
    "CREATE SEQUENCE made",
    "CREATE TYPE made AS ENUM ('a')",
    "CREATE PERSISTENT SECRET made (TYPE http, BEARER_TOKEN 'a')",
    "DROP SECRET made",
    "COMMENT ON VIEW vms IS 'a'",
    "TRUNCATE raw.episodes",
    "MERGE INTO raw.episodes USING vms ON true WHEN MATCHED THEN DELETE",
]
SETS = [
    "CHECKPOINT",
    "VACUUM",
    "SET memory_limit = '90GB'",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "RESET memory_limit",
    "PRAGMA threads = 64",
    "PRAGMA database_list",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL httpfs FROM 'http://127.0.0.1:1/'",
    "CALL pragma_version()",
    "USE raw",
    "BEGIN TRANSACTION",
    "PREPARE made AS SELECT 1",
    "EXECUTE made",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW vms",
    "",
    "  -- nothing",
    "SELECT 1;; SELECT 2",
    "; SELECT 1",
    "SELECT 1 /* */; /* */ DROP VIEW vms",
    "SELECT ?",
    "SELECT $1",
    "SELECT $a",
    "EXECUTE made(1)",
    "DEALLOCATE made",
    "SET VARIABLE made = 1",
    "SET SESSION threads = 1",
    "PRAGMA enable_profiling",
    "PRAGMA version",
    "CALL enable_logging()",
    "UPDATE EXTENSIONS",
    "CREATE TEMP TABLE made AS SELECT 1",
    "ATTACH ':memory:' AS made",
    "LOAD '{new}'",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE FROM read_text('/etc/passwd')",
    "ANALYZE",
]
READS = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_csv_auto('/etc/passwd')",
    "FROM read_text('/etc/passwd')",
    "FROM read_blob('/etc/hostname')",
    "FROM read_json('/etc/passwd')",
    "FROM read_parquet('/etc/passwd')",
    "FROM parquet_scan('/etc/passwd')",
    "FROM parquet_metadata('/etc/passwd')",
    "FROM sniff_csv('/etc/passwd')",
    "FROM glob('/etc/*')",
    "FROM '/etc/passwd'",
    'FROM "/etc/passwd"',
    "FROM '/etc/*.csv'",
    "FROM 'http://127.0.0.1:1/a.parquet'",
    "FROM 's3://bucket/a.parquet'",
    "FROM read_csv('http://127.0.0.1:1/a.csv')",
    "FROM read_text('{segment}')",
    "WITH a AS (FROM read_text('/etc/passwd')) SELECT * FROM a",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "SELECT name FROM vms WHERE name IN (SELECT content FROM read_text('/etc/passwd'))",
    "SELECT * FROM vms UNION ALL FROM read_text('/etc/passwd')",
    "SELECT * FROM vms, LATERAL (FROM read_text('/etc/passwd'))",
    "SELECT * FROM vms JOIN read_text('/etc/passwd') ON true",
    "SELECT name FROM vms ORDER BY (SELECT count(*) FROM glob('/etc/*'))",
    "SELECT * FROM query('FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query_table('/etc/passwd')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT getenv('HOME')",
    "SELECT upper(getenv('HOME'))",
    "SELECT current_setting('temp_directory')",
    "FROM duckdb_settings()",
    "FROM duckdb_secrets()",
    "FROM duckdb_extensions()",
    "FROM duckdb_logs()",
    "FROM pragma_database_list",
    "FROM information_schema.tables",
    "FROM pg_catalog.pg_class",
    "FROM sqlite_master",
    "FROM duckdb_tables",
    "FROM memory.raw.nothing",
    "SELECT write_log('a')",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "FROM '{link}'",
    "FROM read_csv('{link}')",
    "FROM read_text('{folder}/*')",
    "FROM vms, read_text('/etc/passwd')",
    "FROM vms POSITIONAL JOIN read_text('/etc/passwd')",
    "SELECT * FROM vms CROSS JOIN LATERAL read_text(name)",
    "PIVOT read_csv('/etc/passwd') ON column0 USING count(*)",
    "FROM (PIVOT '/etc/passwd' ON a USING count(*))",
    "FROM (SUMMARIZE '/etc/passwd')",
    "FROM (SUMMARIZE vms)",
    "DESCRIBE TABLE '/etc/passwd'",
    "TABLE '/etc/passwd'",
    "FROM read_parquet(['/etc/passwd'])",
    "FROM read_ndjson_objects('/etc/passwd')",
    "FROM parquet_schema('/etc/passwd')",
    "FROM parquet_kv_metadata('{segment}')",
    "FROM sqlite_scan('/a', 'b')",
    "FROM postgres_query('a', 'b')",
    "FROM st_read('/a')",
    "FROM arrow_scan(1, 2, 3)",
    "FROM pandas_scan(1)",
    "FROM duckdb_functions()",
    "FROM duckdb_temporary_files()",
    "FROM sql_auto_complete('a')",
    "FROM main.vms",
    "FROM temp.vms",
    "FROM system.main.duckdb_tables",
    "FROM range((SELECT count(*) FROM glob('/etc/*')))",
    "FROM unnest((SELECT list(file) FROM glob('/*')))",
    "VALUES ((SELECT content FROM read_text('/etc/passwd')))",
    "SELECT exists(FROM glob('/etc/*'))",
    "SELECT array(FROM glob('/etc/*'))",
    "SELECT list_transform([1], x -> (SELECT count(*) FROM glob('/*')))",
    "WITH RECURSIVE a AS (FROM read_text('/etc/passwd')) FROM a",
    """SELECT * FROM (WITH "/etc/passwd" AS (SELECT 1) FROM "/etc/passwd"), "/etc/passwd" """,
    "WITH a AS (FROM later), later AS (SELECT 1) FROM a",
    "WITH a AS (FROM a) FROM a",
    "SELECT \"getenv\"('HOME')",
    "SELECT main.getenv('HOME')",
    "SELECT system.main.getenv('HOME')",
    "SELECT ('HOME').getenv()",
    "SELECT GeTeNv('HOME')",
    "SELECT list_apply(['HOME'], lambda x: getenv(x))",
    "SELECT COLUMNS(c -> getenv('A') = 'b') FROM vms",
    "SELECT getvariable('a')",
    "SELECT nextval('a')",
    "SELECT current_user",
    "SELECT current_query()",
    "SELECT read_text('/etc/passwd')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT http_get('http://127.0.0.1:1')",
    "SELECT 'a' INTO made",
    "SELECT name FROM `vms",
    "SELECT 1 /* no end",
    "SELECT 'no end",
]
FORBIDDEN = [*WRITES, *SETS, *READS]

ALLOWED = [
    "SELECT name, vcpu, sum(exits) FROM deltas GROUP BY ALL ORDER BY ALL",
    "FROM vms",
    "FROM vms SELECT name",
    "VALUES (1, 2)",
    "WITH a AS (SELECT * FROM samples) SELECT count(*) FROM a JOIN vms USING (vm)",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT sum(i) FROM n",
    "SELECT * FROM range(3)",
    "SELECT unnest([1, 2]) AS a",
    "SELECT * FROM unnest([1, 2]) AS t(a)",
    "SELECT name, row_number() OVER (PARTITION BY host ORDER BY name) AS n FROM vms QUALIFY n = 1",
    "SELECT COLUMNS('halt_.*') FROM samples LIMIT 1",
    "SELECT * EXCLUDE (boot) FROM vcpus",
    "SELECT count(*) FILTER (WHERE vcpu IS NULL) FROM samples",
    "SELECT text FROM raw.documents LIMIT 1",
    "SELECT DELTAS.exits FROM Deltas LIMIT 1",
    'SELECT "halt_wait_hist.17" FROM samples LIMIT 1',
    "(SELECT 1) UNION ALL (SELECT 2)",
    "SELECT 'DROP TABLE vms; COPY' AS text -- ; DROP VIEW vms",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordingStore]:
    place = record(simulated_scenes(3), tmp_path_factory.mktemp("guard") / "r")
    (Path(place) / "link.csv").symlink_to("/etc/passwd")
    with open_recordings([place]) as opened:
        opened.segment = str(next(Path(place).glob("vcpus/*/*/*.parquet")))  # type: ignore[attr-defined]
        yield opened


def text_of(store: RecordingStore, query: str, tmp_path: Path) -> str:
    segment: str = store.segment  # type: ignore[attr-defined]
    folder = Path(segment).parents[3]
    places = {"{new}": tmp_path / "new", "{segment}": segment, "{folder}": folder, "{link}": folder / "link.csv"}
    for word, place in places.items():
        query = query.replace(word, str(place))
    return query


@pytest.mark.parametrize("query", FORBIDDEN)
def test_what_does_more_than_read_recordings_is_refused(store: RecordingStore, query: str, tmp_path: Path) -> None:
    with pytest.raises(QueryError) as refused:
        plain_result(store.ask(text_of(store, query, tmp_path)))
    assert bool(refused.value.line) == bool(query.partition("--")[0].strip()), "it says where"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("query", [*WRITES, *(query for query in READS if "/etc" in query or "://" in query)])
def test_the_engine_refuses_it_too(store: RecordingStore, query: str, tmp_path: Path) -> None:
    """Without the guard: the doors of the engine are closed."""
    with pytest.raises(KvmscopeError):
        store.query(text_of(store, query, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_nothing_has_changed_after_all_that(store: RecordingStore, tmp_path: Path) -> None:
    before = plain_result(store.ask("SELECT count(*), sum(exits) FROM samples"))
    for query in FORBIDDEN:
        with pytest.raises(QueryError):
            plain_result(store.ask(text_of(store, query, tmp_path)))
    assert plain_result(store.ask("SELECT count(*), sum(exits) FROM samples")) == before


@pytest.mark.parametrize("query", ALLOWED)
def test_what_reads_recordings_is_answered(store: RecordingStore, query: str) -> None:
    assert plain_result(store.ask(query)).names


def test_variables_of_the_program_are_not_relations(store: RecordingStore) -> None:
    secret = [1, 2, 3]
    with pytest.raises(QueryError):
        plain_result(store.ask("SELECT * FROM secret"))
    assert secret


def test_a_refusal_names_the_place_and_what_there_is(store: RecordingStore) -> None:
    with pytest.raises(QueryError, match="did you mean deltas") as caught:
        store.ask("SELECT *\nFROM delta")
    assert (caught.value.line, caught.value.column) == (2, 6)
    with pytest.raises(QueryError, match="read_text") as caught:
        store.ask("SELECT 1 FROM read_text('x')")
    assert (caught.value.line, caught.value.column) == (1, 15)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM file('/etc/passwd', 'CSV', 'a String')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')",
        "SELECT * FROM s3('http://127.0.0.1:1/', 'CSV')",
        "SELECT * FROM remote('127.0.0.1', system.one)",
        "SELECT * FROM executable('id', 'CSV', 'a String')",
        "SELECT file('/etc/passwd')",
        "SELECT * FROM system.users",
        "SELECT 1 SETTINGS max_threads = 64",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "SELECT 1 FORMAT CSV",
        "INSERT INTO vms SELECT 1",
        "INSERT INTO FUNCTION file('x') SELECT 1",
        "SYSTEM SHUTDOWN",
        "OPTIMIZE TABLE vms",
    ],
)
def test_what_clickhouse_has_beyond_reading_is_refused(query: str) -> None:
    with pytest.raises(QueryError):
        check_query(query, QueryEngine.CLICKHOUSE, Relations(["vms"], ["vcpus"]))


def test_the_temporary_directory_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    place = record(simulated_scenes(2), tmp_path / "r")
    with open_recordings([place], memory_bytes=64 << 20) as opened:
        assert list((tmp_path / "t").iterdir())
        plain_result(
            opened.ask(
                "SELECT max(b) FROM (SELECT a::VARCHAR || repeat('x', 50) b FROM range(2000000) t(a) ORDER BY b)"
            )
        )
    assert list((tmp_path / "t").iterdir()) == []


def test_recordings_are_asked_where_no_directory_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))  # as in a container whose root is read-only
    connection = DuckDbConnection()
    try:
        [batch] = connection.stream("SELECT count(*) AS n FROM range(10)")
        assert batch.to_pylist() == [{"n": 10}]
    finally:
        connection.close()


@pytest.mark.parametrize("query", ["SELECT length(repeat('x', 3000000000))", "SELECT list_sum(range(300000000))"])
def test_values_and_lists_take_no_more_memory_than_a_query_may(tmp_path: Path, query: str) -> None:
    place = record(simulated_scenes(2), tmp_path / "r")
    with open_recordings([place], memory_bytes=100 << 20) as opened:
        with pytest.raises(Unavailable, match="more memory"):
            plain_result(opened.ask(query))
        assert len(plain_result(opened.ask("SELECT 1"))) == 1
