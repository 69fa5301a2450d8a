"""The index of a fleet: it has the rows that the recordings have, and is never read for what is no longer there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from json_schemas import check_json

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from kvmscope.cli import main
from kvmscope.engines.fleets import open_recorded_fleet
from kvmscope.engines.recordings import open_recordings
from kvmscope.errors import Busy, RecordingError, UsageError
from kvmscope.lab.fleet import write_fleet
from kvmscope.lab.fleet_plan import FleetSize
from kvmscope.store.fleet_index import RESOLUTION_S, FleetIndex, writing
from kvmscope.store.fleet_index_writing import write_index
from kvmscope.store.layout import ABOUT, INDEX, RecordingTable

SIZE = FleetSize(hosts=4, vms=2, vcpus=1, samples=40)
WHOLE = (RecordingTable.SCENES, RecordingTable.DOCUMENTS)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("written") / "fleet"
    write_fleet(directory, SIZE)
    return directory


@pytest.fixture
def fleet(written: Path, tmp_path: Path) -> Path:
    """A fleet that a test may change; its files are older than any index of it."""
    directory = tmp_path / "fleet"
    shutil.copytree(written, directory)
    return directory


def hosts_of(directory: Path) -> list[str]:
    return sorted(path.name.partition("=")[2] for path in (directory / "scenes").iterdir())


def file_of(directory: Path, host: str, table: RecordingTable = RecordingTable.VCPUS) -> Path:
    [file] = (directory / table.value / f"host={host}").glob("*/*.parquet")
    return file


def remove_host(directory: Path, host: str, to: Path | None = None) -> None:
    for table in RecordingTable:
        path = directory / table.value / f"host={host}"
        if to is None:
            shutil.rmtree(path)
        else:
            (to / table.value).mkdir(parents=True, exist_ok=True)
            path.rename(to / table.value / path.name)


def rows(directory: Path, table: RecordingTable, *, uses_index: bool) -> list[dict[str, Any]]:
    """Those of the ends of minutes, without columns that are unknown."""
    with open_recordings([str(directory)], uses_index=uses_index) as store:
        ends = f"""SELECT host, boottime_ns FROM raw.scenes
            QUALIFY boottime_ns = max(boottime_ns) OVER (PARTITION BY host)
            OR boottime_ns = min(boottime_ns) OVER (PARTITION BY host, boottime_ns // {RESOLUTION_S * 10**9})"""
        chosen = "" if table in WHOLE else f"WHERE (host, boottime_ns) IN ({ends})"
        found = store.read(f"SELECT * FROM raw.{table.value} {chosen} ORDER BY {_ORDER[table]}").to_pylist()
        return [{name: value for name, value in row.items() if value is not None} for row in found]


_ORDER = {
    RecordingTable.SCENES: "host, boottime_ns",
    RecordingTable.DOCUMENTS: "host, key",
    RecordingTable.VMS: "host, boottime_ns, vm",
    RecordingTable.VCPUS: "host, boottime_ns, vm, vcpu",
}


def is_indexed(directory: Path) -> bool:
    with open_recordings([str(directory)], uses_index=True) as store:
        return store.is_indexed


def same_as_recorded(directory: Path) -> bool:
    tables = (RecordingTable.SCENES, RecordingTable.VCPUS)
    return all(rows(directory, table, uses_index=True) == rows(directory, table, uses_index=False) for table in tables)


@pytest.mark.parametrize("table", RecordingTable)
def test_each_row_at_the_end_of_a_minute_is_as_it_was_recorded(fleet: Path, table: RecordingTable) -> None:
    recorded = rows(fleet, table, uses_index=False)
    report = write_index(str(fleet))
    assert (report.recordings, report.segments, report.new, report.damage) == (1, 4, 4, ())
    assert is_indexed(fleet)
    assert recorded
    assert rows(fleet, table, uses_index=True) == recorded


def test_findings_are_the_same(fleet: Path) -> None:
    def findings() -> Any:
        with open_recorded_fleet([str(fleet)]) as store:
            return store.findings(rule="poll-waste"), store.hosts(), store.schemas()

    before = findings()
    write_index(str(fleet))
    assert before[0].window_s % RESOLUTION_S == 0
    assert findings() == before


def test_intervals_that_are_no_whole_minutes_are_read_from_the_recordings(fleet: Path) -> None:
    def windows() -> Any:
        with open_recorded_fleet([str(fleet)], interval_s=20) as store:
            return store.findings(rule="hlt-exits-disabled").findings, store.hosts()

    before = windows()
    write_index(str(fleet))
    assert windows() == before


def damage_in_place(directory: Path, host: str) -> None:
    """Other bytes of the same number, by the same inode, with the time of the last change as it was."""
    file = file_of(directory, host)
    before, data = file.stat(), bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    with file.open("r+b") as opened:
        opened.write(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_another(directory: Path, host: str) -> None:
    other = next(each for each in hosts_of(directory) if each != host)
    for table in RecordingTable:
        file = file_of(directory, host, table)
        file.unlink()
        shutil.copy2(file_of(directory, other, table), file)


def remove_a_table(directory: Path, host: str) -> None:
    file_of(directory, host).unlink()


@pytest.mark.parametrize("change", [damage_in_place, replace_by_another, remove_a_table, remove_host])
def test_what_has_changed_since_is_read_as_it_is_now(fleet: Path, change: Callable[[Path, str], None]) -> None:
    write_index(str(fleet))
    change(fleet, hosts_of(fleet)[2])
    assert is_indexed(fleet)
    assert same_as_recorded(fleet)
    with open_recordings([str(fleet)], uses_index=True) as ours, open_recordings([str(fleet)]) as theirs:
        assert list(map(str, ours.damage)) == list(map(str, theirs.damage))


def test_new_hosts_are_read_beside_the_index_and_go_into_it_with_the_next_run(fleet: Path, tmp_path: Path) -> None:
    one, two, *_ = hosts_of(fleet)
    remove_host(fleet, one, tmp_path / "later")
    write_index(str(fleet))
    for table in RecordingTable:
        shutil.move(tmp_path / "later" / table.value / f"host={one}", fleet / table.value / f"host={one}")
    assert same_as_recorded(fleet)
    assert {row["host"] for row in rows(fleet, RecordingTable.VCPUS, uses_index=True)} == set(hosts_of(fleet))
    report = write_index(str(fleet))
    assert (report.segments, report.new) == (4, 1)
    remove_host(fleet, two)
    assert same_as_recorded(fleet)


def test_recordings_of_a_directory_have_one_index(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "one")
    write_fleet(tmp_path / "two", replace(SIZE, seed=1))
    report = write_index(str(tmp_path))
    assert (report.recordings, report.segments) == (2, 8)
    assert same_as_recorded(tmp_path)
    (tmp_path / "two" / ABOUT).unlink()
    assert len(rows(tmp_path, RecordingTable.SCENES, uses_index=True)) == SIZE.hosts * SIZE.samples


def test_a_copy_of_what_is_indexed_is_read_once(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "one")
    write_index(str(tmp_path))
    shutil.copytree(written, tmp_path / "before")
    assert same_as_recorded(tmp_path)
    assert len(rows(tmp_path, RecordingTable.SCENES, uses_index=True)) == SIZE.hosts * SIZE.samples


def parts_of(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / INDEX).iterdir())


def test_an_index_stays_in_few_parts_and_reads_nothing_twice(fleet: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    names = hosts_of(fleet)
    for host in names[1:]:
        remove_host(fleet, host, later)
    write_index(str(fleet))
    for host in names[1:]:
        for table in RecordingTable:
            shutil.move(later / table.value / f"host={host}", fleet / table.value / f"host={host}")
        assert write_index(str(fleet)).new == 1
        assert len(parts_of(fleet)) <= 2
        assert same_as_recorded(fleet)
    before = parts_of(fleet)
    assert write_index(str(fleet)).new == 0
    assert parts_of(fleet) == before


def test_a_damaged_index_is_not_read_and_made_again(fleet: Path) -> None:
    write_index(str(fleet))
    for file in (fleet / INDEX).glob("*/vcpus-*.parquet"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 0xFF
        file.write_bytes(data)
    assert not is_indexed(fleet)
    assert same_as_recorded(fleet)
    assert write_index(str(fleet)).new == 4
    assert len(parts_of(fleet)) == 1
    assert is_indexed(fleet)


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"format": "kvmscope-fleet-index", "version": 2}'])
def test_a_manifest_that_is_none_is_passed_over(fleet: Path, manifest: str) -> None:
    write_index(str(fleet))
    [file] = (fleet / INDEX).glob("*/segments.json")
    file.write_text(manifest)
    assert not is_indexed(fleet)


def test_a_part_that_somebody_reads_stays_until_they_have_ended(fleet: Path) -> None:
    write_index(str(fleet))
    [old] = parts_of(fleet)
    with FleetIndex(str(fleet)) as reading:
        for table in RecordingTable:
            for file in (fleet / table.value).glob("*/*/*.parquet"):
                file.touch()
        assert write_index(str(fleet)).new == 4
        assert all(file.exists() for part in reading.parts for file in part.files(RecordingTable.VCPUS))
    write_index(str(fleet))
    assert old not in parts_of(fleet)
    assert len(parts_of(fleet)) == 1


def test_one_process_writes_an_index_at_a_time(fleet: Path) -> None:
    with writing(fleet), pytest.raises(Busy, match="another process"):
        write_index(str(fleet))


def test_only_recordings_in_directories_are_indexed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a directory"):
        write_index("s3://bucket/hosts")
    with pytest.raises(RecordingError, match="not a recording"):
        write_index(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_indexed_and_why_it_cannot(fleet: Path) -> None:
    def index(*arguments: str) -> Any:
        return CliRunner().invoke(main, ("fleet", "index", str(fleet), *arguments), prog_name="kvmscope")

    assert index().stdout.startswith("4 segments of 1 recording are indexed, 4 of them new, in ")
    check_json(("fleet-index", "--json"), index("--json").stdout)
    shutil.rmtree(fleet / INDEX)
    (fleet / INDEX).write_text("in the way")
    assert index().exit_code != 0
    assert f"File exists ({fleet / INDEX})" in index().stderr
