"""ClickHouse over HTTP: recordings are asked as in DuckDB, and roll-ups answer for a fleet as raw rows do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb", reason="DuckDB is not installed: make setup")
pytest.importorskip("clickhouse_connect", reason="clickhouse-connect is not installed: make setup")

from click.testing import CliRunner
from clickhouse_http import clickhouse_server

from kvmscope.catalog.metrics import load_metrics
from kvmscope.cli import main
from kvmscope.engines import fleets
from kvmscope.engines.clickhouse import ClickHouseStore, open_clickhouse
from kvmscope.engines.clickhouse_load import load_recordings
from kvmscope.engines.clickhouse_tables import ROLL_UPS_S, database
from kvmscope.engines.fleet import FleetStore
from kvmscope.engines.fleet_sql import SqlFleet
from kvmscope.engines.fleets import open_clickhouse_fleet
from kvmscope.engines.pulled import PulledRecordings
from kvmscope.engines.recordings import open_recordings
from kvmscope.engines.results import plain_result
from kvmscope.errors import QueryError, Unavailable
from kvmscope.lab.fleet import ANSWERS, write_fleet
from kvmscope.lab.fleet_plan import FleetSize

SIZE = FleetSize(hosts=2, vms=6, vcpus=2, samples=28)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fleet") / "recording"
    write_fleet(directory, SIZE)
    return directory


@pytest.fixture(scope="module")
def url(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server to which the recording was loaded."""
    with clickhouse_server(tmp_path_factory.mktemp("clickhouse")) as found:
        done = run("fleet", "load", "--clickhouse", found, str(directory))
        assert done["new_scenes"] == SIZE.hosts * SIZE.samples
        yield found


@pytest.fixture(scope="module")
def store(url: str) -> Iterator[ClickHouseStore]:
    with open_clickhouse(url) as opened:
        yield opened


def run(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(main, (*arguments, "--json"), prog_name="kvmscope")
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_rows_that_went_over_http_are_those_of_duckdb(store: ClickHouseStore, directory: Path) -> None:
    counts = 'sum(exits), sum(halt_wait_ns), sum("halt_wait_hist.17"), count(*)'
    for query in (
        f"SELECT host, name, vcpu, {counts} FROM deltas GROUP BY host, name, vcpu",
        "SELECT host, name, vmm, scenes FROM vms",
        "SELECT host, vm, vcpu, exits FROM samples WHERE exits % 7 = 0",
    ):
        with open_recordings([str(directory)]) as recorded:
            due = sorted(plain_result(recorded.ask(query)).rows(), key=repr)
        assert sorted(plain_result(store.ask(query)).rows(), key=repr) == due


def test_what_is_loaded_over_http_again_is_not_there_twice(store: ClickHouseStore, directory: Path) -> None:
    assert load_recordings(store, [str(directory)]).scenes == 0


def test_a_query_over_http_only_reads_and_says_where_it_is_wrong(store: ClickHouseStore) -> None:
    with pytest.raises(QueryError) as wrong:
        plain_result(store.ask("SELECT name,\n no_such FROM vms"))
    assert (wrong.value.line, wrong.value.column) == (2, 2)
    for query in ("SELECT file('/etc/passwd')", "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a Int')"):
        with pytest.raises(QueryError):
            store.ask(query)


@pytest.mark.parametrize("question", ["apicv", "schemas"])
def test_commands_of_fleet_answer_as_over_the_recording(url: str, directory: Path, question: str) -> None:
    asked, recorded = run("fleet", question, "--clickhouse", url), run("fleet", question, str(directory))
    assert (asked.pop("engine"), recorded.pop("engine")) == ("ClickHouse", "DuckDB")
    assert (asked.pop("place"), recorded.pop("place")) == (url, str(directory))
    assert asked.keys() == recorded.keys()
    if question == "schemas":
        assert asked == recorded
    else:  # costs are floats, summed in another order
        assert asked["total"]["states"] == recorded["total"]["states"]


@pytest.mark.parametrize("resolution_s", ROLL_UPS_S)
def test_a_roll_up_has_every_answer_of_the_raw_rows(
    url: str, directory: Path, resolution_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At an interval of which the resolution is a part, where ``fleet`` reads the roll-up."""
    names = [metric.name for metric in load_metrics()]
    with open_clickhouse_fleet(url, interval_s=2 * resolution_s) as rolled:
        monkeypatch.setattr(fleets, "ROLL_UPS_S", ())
        with open_clickhouse_fleet(url, interval_s=2 * resolution_s) as raw:
            assert (_source(rolled), _source(raw)) == (database(resolution_s), "raw")
            assert rolled.hosts() == raw.hosts()
            assert sorted(rolled.acceleration(), key=repr) == sorted(raw.acceleration(), key=repr)
            values = [{(each.host, each.metric): each.value for each in of.metrics(names)[0]} for of in (rolled, raw)]
            assert values[0] == pytest.approx(values[1], rel=1e-9, abs=1e-12)
            assert set(map(str, rolled.schemas())) == set(map(str, raw.schemas()))
            found = rolled.findings().findings
            assert sorted(found, key=repr) == sorted(raw.findings().findings, key=repr)
    planted = json.loads((directory / ANSWERS).read_text())["planted"]
    due = {(each["host"], each["vm"], each["rule"]) for each in planted if each["rule"]}
    assert {(each.host, each.vm, each.rule) for each in found} == due


def _source(fleet: FleetStore) -> str:
    """The database whose rows a fleet reads."""
    assert isinstance(fleet, SqlFleet)
    assert isinstance(fleet.store, PulledRecordings)
    return fleet.store.recorded


def test_a_server_that_ends_is_unavailable(tmp_path: Path) -> None:
    with clickhouse_server(tmp_path) as url:
        opened = open_clickhouse(url)
    with opened, pytest.raises(Unavailable, match="does not answer") as error:
        opened.query("SELECT 1")
    assert error.value.remedy
