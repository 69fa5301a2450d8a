"""A fleet behind SQL answers what numpy does, host by host: hosts, findings, interrupts, metrics and schemas."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from engines_at_hand import close_session
from numpy_fleet import NumpyFleet

from kvmscope.catalog.findings import load_findings
from kvmscope.catalog.metrics import load_metrics
from kvmscope.engines import fleet_sql
from kvmscope.engines.clickhouse import open_clickhouse
from kvmscope.engines.clickhouse_load import load_recordings
from kvmscope.engines.fleet import FleetFinding, FleetStore
from kvmscope.engines.fleet_sql import SqlFleet
from kvmscope.engines.fleets import open_clickhouse_fleet, open_recorded_fleet
from kvmscope.engines.pulled import PulledRecordings
from kvmscope.engines.refusal import QueryEngine
from kvmscope.errors import RecordingError
from kvmscope.lab.fleet import ANSWERS, write_fleet
from kvmscope.lab.fleet_plan import FleetSize

EVERY_S = 20
SIZE = FleetSize(hosts=12, vms=8, vcpus=2, samples=8)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fleet") / "recording"
    write_fleet(directory, SIZE)
    return directory


@pytest.fixture(scope="module")
def numpy(directory: Path) -> NumpyFleet:
    return NumpyFleet(str(directory), every_s=EVERY_S)


@pytest.fixture(scope="module")
def fleet(directory: Path) -> Iterator[FleetStore]:
    with open_recorded_fleet([str(directory)], interval_s=EVERY_S) as store:
        yield store


Key = tuple[str, str, str]


def by_key(findings: list[FleetFinding]) -> dict[Key, FleetFinding]:
    return {(each.host, each.vm, each.rule): each for each in findings}


def test_every_host_is_as_its_last_scene_says(fleet: FleetStore, numpy: NumpyFleet) -> None:
    assert list(fleet.hosts()) == list(numpy.hosts())


def test_findings_are_those_of_numpy_with_their_times_and_costs(fleet: FleetStore, numpy: NumpyFleet) -> None:
    found, due = by_key(list(fleet.findings().findings)), by_key(list(numpy.findings().findings))
    assert found.keys() == due.keys()
    assert len(due) > 10
    for key, finding in found.items():
        other = due[key]
        assert (finding.name, finding.windows, finding.stands) == (other.name, other.windows, other.stands)
        assert (finding.since_ns, finding.until_ns) == (other.since_ns, other.until_ns)
        for value, expected in ((finding.cost_cpus, other.cost_cpus), (finding.lost_vcpus, other.lost_vcpus)):
            assert (value is None) == (expected is None)
            assert value is None or expected is None or math.isclose(value, expected, rel_tol=1e-9)


def test_what_was_planted_is_found_and_nothing_else(fleet: FleetStore, directory: Path) -> None:
    planted = json.loads((directory / ANSWERS).read_text())["planted"]
    due = {(each["host"], each["vm"], each["rule"]) for each in planted if each["rule"]}
    assert by_key(list(fleet.findings().findings)).keys() == due


def test_every_rule_that_is_planted_in_a_fleet_of_every_kind_of_host_is_found(tmp_path: Path) -> None:
    """Each rule of the catalogue, among them those that read what no formula names."""
    write_fleet(tmp_path / "fleet", FleetSize(hosts=32, vms=12, vcpus=2, samples=4))
    planted = json.loads((tmp_path / "fleet" / ANSWERS).read_text())["planted"]
    due = {(each["host"], each["vm"], each["rule"]) for each in planted if each["rule"]}
    assert {rule for _, _, rule in due} == {rule.slug for rule in load_findings()}
    with open_recorded_fleet([str(tmp_path / "fleet")]) as store:
        assert by_key(list(store.findings().findings)).keys() == due


def test_one_rule_and_one_host_have_their_findings_with_evidence(fleet: FleetStore, numpy: NumpyFleet) -> None:
    one = next(each for each in numpy.findings().findings if each.evidence)
    by_rule = fleet.findings(rule=one.rule).findings
    by_host = fleet.findings(host=one.host).findings
    assert by_key(list(by_rule)).keys() == by_key(list(numpy.findings(rule=one.rule).findings)).keys()
    assert by_key(list(by_host)).keys() == by_key(list(numpy.findings(host=one.host).findings)).keys()
    [found] = [each for each in by_rule if (each.host, each.vm) == (one.host, one.vm)]
    assert found.evidence.keys() == one.evidence.keys()


def test_interrupts_of_every_vm_are_those_of_the_verdict(fleet: FleetStore, numpy: NumpyFleet) -> None:
    due = {(each.host, each.vm): each for each in numpy.acceleration()}
    found = {(each.host, each.vm): each for each in fleet.acceleration()}
    assert found.keys() == due.keys()
    for key, each in found.items():
        assert (each.name, each.vmm, each.vcpus, each.state) == (
            due[key].name,
            due[key].vmm,
            due[key].vcpus,
            due[key].state,
        )
        assert sorted(each.reasons) == sorted(due[key].reasons)


def test_who_runs_a_vm_is_as_its_last_scene_says(fleet: FleetStore, numpy: NumpyFleet) -> None:
    chosen = {(each.host, each.vm) for each in numpy.findings().findings}
    found = {(each.host, each.vm): each for each in fleet.vms(chosen)}
    assert found == {(each.host, each.vm): each for each in numpy.vms(chosen)}
    assert found.keys() == chosen
    assert {each.managed_by for each in found.values()} >= {None, "libvirt"}


def test_metrics_of_every_host_are_those_of_numpy(fleet: FleetStore, numpy: NumpyFleet) -> None:
    names = [metric.name for metric in load_metrics()]
    found, refused = fleet.metrics(names)
    due, _ = numpy.metrics(names)
    assert not refused
    values = {(each.host, each.metric): each.value for each in due}
    assert {(each.host, each.metric) for each in found} == values.keys()
    assert len(values) > 500
    for each in found:
        assert each.value == pytest.approx(values[each.host, each.metric], rel=1e-9, abs=1e-12)


def test_schemas_of_every_host_are_those_that_were_recorded(fleet: FleetStore, numpy: NumpyFleet) -> None:
    found = {(each.host, each.key): each.schema for each in fleet.schemas()}
    assert found == {(each.host, each.key): each.schema for each in numpy.schemas()}


def test_hosts_asked_in_parts_answer_as_all_at_once(fleet: FleetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = by_key(list(fleet.findings(rule="apicv-off").findings))
    monkeypatch.setattr(fleet_sql, "_PART_ROWS", 25 * SIZE.vms * SIZE.vcpus)
    assert by_key(list(fleet.findings(rule="apicv-off").findings)) == whole
    assert whole


def test_without_an_interval_windows_are_a_third_of_the_time_in_tens_of_seconds(directory: Path) -> None:
    with open_recorded_fleet([str(directory)]) as store:
        assert store.findings(rule="poll-waste").window_s == 30.0, "as of ClickHouse, which has a roll-up of 10 s"


def test_a_directory_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="recording"):
        open_recorded_fleet([str(tmp_path)])


@pytest.mark.slow
@pytest.mark.parametrize("every_s", [15, 20])
def test_clickhouse_answers_as_numpy_does_from_raw_rows_and_from_a_roll_up(
    directory: Path, tmp_path_factory: pytest.TempPathFactory, every_s: int
) -> None:
    pytest.importorskip("clickhouse_connect")
    url = _loaded(directory, tmp_path_factory)
    expected = NumpyFleet(str(directory), every_s=every_s)
    due = by_key(list(expected.findings().findings))
    with open_clickhouse_fleet(url, interval_s=every_s) as store:
        assert isinstance(store, SqlFleet)
        assert isinstance(store.store, PulledRecordings)
        assert store.store.recorded == ("raw_10s" if every_s == 20 else "raw")
        found = by_key(list(store.findings().findings))
        assert list(store.hosts()) == list(expected.hosts())
    assert found.keys() == due.keys()
    for key, finding in found.items():
        assert (finding.windows, finding.since_ns, finding.until_ns) == (
            due[key].windows,
            due[key].since_ns,
            due[key].until_ns,
        )


@pytest.mark.slow
def test_clickhouse_and_files_have_the_same_answers(
    directory: Path, fleet: FleetStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("clickhouse_connect")
    names = [metric.name for metric in load_metrics()]
    with open_clickhouse_fleet(_loaded(directory, tmp_path_factory), interval_s=EVERY_S) as store:
        assert store.engine is QueryEngine.CLICKHOUSE
        assert by_key(list(store.findings().findings)) == by_key(list(fleet.findings().findings))
        assert sorted(map(str, store.acceleration())) == sorted(map(str, fleet.acceleration()))
        found, due = (
            {(each.host, each.metric): each.value for each in each_fleet.metrics(names)[0]}
            for each_fleet in (store, fleet)
        )
        assert found == pytest.approx(due, rel=1e-9, abs=1e-12), "sums of the same numbers in any order"
        assert set(map(str, store.schemas())) == set(map(str, fleet.schemas()))


@pytest.mark.slow
def test_clickhouse_and_files_are_asked_over_the_same_intervals_where_nobody_names_one(
    directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("clickhouse_connect")
    with (
        open_clickhouse_fleet(_loaded(directory, tmp_path_factory)) as store,
        open_recorded_fleet([str(directory)]) as files,
    ):
        found, due = store.findings(), files.findings()
    assert (found.window_s, due.window_s) == (30.0, 30.0)
    assert by_key(list(found.findings)) == by_key(list(due.findings))
    assert due.findings


_URLS: dict[Path, str] = {}


def _loaded(directory: Path, places: pytest.TempPathFactory) -> str:
    """An embedded ClickHouse with the recording; one a process, as chdb has it."""
    if directory not in _URLS:
        close_session()
        url = f"chdb://{places.mktemp('clickhouse')}"
        with open_clickhouse(url) as store:
            load_recordings(store, [str(directory)])
        _URLS[directory] = url
    return _URLS[directory]
