"""Recordings in which files were copied, mixed up or linked: every reader has each scene once and says the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from loads import NOON_NS, Load, record, simulated_scenes

pytest.importorskip("duckdb", reason="DuckDB is not installed: make setup")

from kvmscope.cli import main
from kvmscope.engines.recordings import open_recordings
from kvmscope.errors import RecordingError
from kvmscope.store import layout
from kvmscope.store.copies import PartSpan, find_copies
from kvmscope.store.layout import RecordingTable
from kvmscope.store.recording import Recording
from kvmscope.store.ring import RingLimits, RingTier
from kvmscope.store.writer import RecordingWriter

SECONDS = list(range(10))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two segments of five scenes each."""
    return two_segments(tmp_path / "r")


def two_segments(place: Path, load: Load | None = None) -> Path:
    writer = RecordingWriter(place, segment_s=5)
    for scene in simulated_scenes(10, load=load):
        writer.append(scene)
    writer.close()
    return place


@dataclass(frozen=True)
class Found:
    """The seconds of the scenes that a reader has, and what it says of the rest."""

    seconds: list[int]
    damage: list[str]


def on_screens(place: Path) -> Found:
    recording = Recording(str(place))
    return Found([second(moment.taken_ns) for moment in recording.moments()], sorted(map(str, recording.damage)))


def by_sql(*places: Path) -> Found:
    with open_recordings([str(place) for place in places]) as store:
        times = store.query("SELECT time FROM raw.scenes ORDER BY boottime_ns").columns[0].values
        return Found([second(int(time)) for time in times], sorted(map(str, store.damage)))


def second(taken_ns: int) -> int:
    return (taken_ns - NOON_NS) // 10**9


def file(place: Path, table: str, number: int) -> Path:
    [found] = place.glob(f"{table}/*/*/{number:08}.parquet")
    return found


def copy_segment(place: Path, number: int, to: int) -> None:
    for table in RecordingTable:
        path = file(place, table.value, number)
        shutil.copy(path, path.with_name(f"{to:08}.parquet"))


# --- copies -----------------------------------------------------------------------------------------------------------


def test_a_segment_that_was_copied_is_read_once_and_named(place: Path) -> None:
    copy_segment(place, 1, 7)
    found = on_screens(place)
    assert found.seconds == SECONDS
    assert found == by_sql(place)
    assert len(found.damage) == 1
    assert found.damage[0].startswith(str(file(place, "scenes", 7)))
    assert str(file(place, "scenes", 1)) in found.damage[0]


def test_a_journal_that_was_copied_while_it_grew_is_read_once(tmp_path: Path) -> None:
    place = tmp_path / "r"
    writer = RecordingWriter(place)
    for scene in simulated_scenes(10):
        writer.append(scene)
        if second(scene.sample.taken_ns) == 4:
            shutil.copy(place / layout.journal_path(1), tmp_path / "copy")
    shutil.copy(tmp_path / "copy", place / layout.journal_path(3))
    found = on_screens(place)
    writer.close()
    assert found.seconds == SECONDS
    assert len(found.damage) == 1
    assert found.damage[0].startswith(str(place / layout.journal_path(3)))
    after = on_screens(place)
    assert (after.seconds, len(after.damage)) == (SECONDS, 1), "the copy of a journal whose segment is there"
    assert after == by_sql(place)


def test_a_recording_and_its_backup_are_one(tmp_path: Path, place: Path) -> None:
    shutil.copytree(place, tmp_path / "r.old")
    found = by_sql(tmp_path)
    assert found.seconds == SECONDS
    assert len(found.damage) == 1
    assert str(tmp_path / "r.old/scenes") in found.damage[0]
    assert "the same holds for 1 more of its parts" in found.damage[0]


def test_hosts_that_were_read_at_the_same_moments_are_not_copies(tmp_path: Path, place: Path) -> None:
    two_segments(tmp_path / "other", Load(host="c" * 32))
    assert by_sql(tmp_path) == Found(sorted(2 * SECONDS), [])
    assert by_sql(place) == Found(SECONDS, [])


def test_a_ring_does_not_thin_copies_into_its_scenes(tmp_path: Path) -> None:
    place = two_segments(tmp_path / "r")
    copy_segment(place, 1, 3)
    writer = RecordingWriter(place, segment_s=5, limits=RingLimits(tiers=(RingTier(0, 10), RingTier(2, 3600))))
    for scene in simulated_scenes(60, begin_s=10):
        writer.append(scene)
    writer.close()
    found = on_screens(place)
    assert len(found.seconds) == len(set(found.seconds)) < 70
    assert found == by_sql(place)


def test_what_covers_more_time_is_kept() -> None:
    def part(path: str, *times: int) -> PartSpan:
        return PartSpan(path, "h", min(times), max(times), lambda: [("h", "b", time, time) for time in times])

    fine, thinned, apart = part("fine", *range(10)), part("thinned", 0, 10, 20), part("apart", 3, 30)
    assert {place: error.path for place, error in find_copies([fine, thinned]).items()} == {0: "fine"}
    assert list(find_copies([fine, apart, thinned])) == [0]
    assert find_copies([thinned, part("other", 5, 15)]) == {}


# --- mixed up ---------------------------------------------------------------------------------------------------------


def another_table(place: Path) -> Path:
    shutil.copy(file(place, "vcpus", 1), file(place, "vms", 1))
    return file(place, "vms", 1)


def another_table_without_marks(place: Path) -> Path:
    pq.write_table(pq.ParquetFile(file(place, "vcpus", 1)).read(), file(place, "vms", 1))
    return file(place, "vms", 1)


def another_segment(place: Path) -> Path:
    shutil.copy(file(place, "vcpus", 2), file(place, "vcpus", 1))
    return file(place, "vcpus", 1)


def documents_of_another_segment(place: Path) -> Path:
    shutil.copy(file(place, "documents", 2), file(place, "documents", 1))
    return file(place, "documents", 1)


def scenes_of_another_table(place: Path) -> Path:
    shutil.copy(file(place, "documents", 1), file(place, "scenes", 1))
    return file(place, "scenes", 1)


def missing(place: Path) -> Path:
    file(place, "vcpus", 1).unlink()
    return place


def cut_off(place: Path) -> Path:
    path = file(place, "vcpus", 1)
    path.write_bytes(path.read_bytes()[:-1])
    return path


def link_to_a_file(place: Path) -> Path:
    path = file(place, "vcpus", 1)
    path.rename(place.parent / "elsewhere")
    path.symlink_to(place.parent / "elsewhere")
    return path


TAMPERINGS = [another_table, another_table_without_marks, another_segment, documents_of_another_segment]
TAMPERINGS += [scenes_of_another_table, missing, cut_off, link_to_a_file]


@pytest.mark.parametrize("tamper", TAMPERINGS)
def test_a_segment_with_a_foreign_file_is_left_out_by_every_reader(place: Path, tamper: Callable[[Path], Path]) -> None:
    path = tamper(place)
    screens, sql = on_screens(place), by_sql(place)
    assert screens.seconds == sql.seconds == SECONDS[5:]
    assert len(screens.damage) == len(sql.damage) == 1
    assert all(str(path) in each for each in (*screens.damage, *sql.damage))


def test_a_dump_goes_on_after_a_segment_with_a_byte_that_was_changed(place: Path) -> None:
    path = file(place, "vcpus", 1)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 4] ^= 1
    path.write_bytes(whole)
    result = CliRunner().invoke(main, ["dump", "exits", "--vm", "vm-0", "--from", str(place)])
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1 + 5 * 2
    assert f"damaged: {path}: it cannot be read: its checksum" in result.stderr


COMMANDS = [
    ("status", "--from"),
    ("doctor", "--from"),
    ("read", "--from"),
    ("dump", "exits", "--from"),
    ("report",),
    ("replay",),
    ("sql", "SELECT 1 FROM metrics", "--from"),
    ("fleet", "status"),
    ("fleet", "doctor"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_recording_of_which_all_is_mixed_up_is_exit_4_of_every_command(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    place = Path(record(simulated_scenes(3), tmp_path / "r"))
    path = another_table(place)
    result = CliRunner().invoke(main, [*command, str(place)])
    assert (result.exit_code, result.stdout) == (4, ""), result.stderr
    assert str(path) in result.stderr
    assert "it is the table 'vcpus' of a segment, and not vms: files were mixed up" in result.stderr


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["vcpus", "journal"])
def test_a_part_that_is_a_link_to_a_directory_is_not_followed_and_named(place: Path, what: str) -> None:
    (place / what).rename(place.parent / "elsewhere")
    (place / what).symlink_to(place.parent / "elsewhere")
    recording = Recording(str(place))
    recording.moments()
    assert f"{place}/{what}: it is a link to a directory" in str(recording.damage[0])
    with pytest.raises(RecordingError, match="it is a link to a directory"):
        RecordingWriter(place)


def test_a_link_to_above_is_not_followed(tmp_path: Path, place: Path) -> None:
    (place / "up").symlink_to("..")
    (place / "scenes/up").symlink_to("..")
    (tmp_path / "link").symlink_to(place)
    for path in (place, tmp_path / "link"):
        found = on_screens(path)
        assert found == by_sql(path)
        assert found.seconds == SECONDS
        assert [each.partition(": ")[0] for each in found.damage] == [f"{path}/scenes/up"]


def test_what_makes_it_a_recording_is_no_link_to_elsewhere(tmp_path: Path, place: Path) -> None:
    (place / layout.ABOUT).rename(tmp_path / "about")
    (place / layout.ABOUT).symlink_to(tmp_path / "about")
    with pytest.raises(RecordingError, match="it is a link that leads outside the recording"):
        Recording(str(place))
