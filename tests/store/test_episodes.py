"""Episodes on the disk: what is listed, what is damaged, and what deleting the oldest leaves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kvmscope.analysis.findings import EndCause
from kvmscope.catalog.findings import Severity
from kvmscope.errors import RecordingError
from kvmscope.scene import Scene
from kvmscope.store.episode_note import (
    EpisodeEnd,
    EpisodeNote,
    NotedFinding,
    NotedGroup,
    note_text,
    parse_note,
)
from kvmscope.store.episodes import NOTE, EpisodeWriter, list_episodes, note_of, trim_episodes
from kvmscope.store.recording import Recording
from kvmscope.store.ring import RingLimits
from kvmscope.store.writer import RecordingWriter

FINDING = NotedFinding(
    "mmio-storm", Severity.WARNING, "MMIO", "0" * 16, "web-1\x1b[31m", 0, 3, 0.5, {"a": 1.5, "b": None}
)
WHOLE = EpisodeNote(
    since_ns=1,
    began_ns=4,
    findings=(FINDING, replace(FINDING, ended_ns=9, end=EndCause.CLEARED)),
    more_findings=3,
    groups=(NotedGroup("mmu_lock", 5, 7, 0.25, "it cost 1 CPU"), NotedGroup("exits")),
    focus_ns=8,
    ended_ns=12,
    why_ended=EpisodeEnd.LARGEST,
)


@pytest.mark.parametrize("note", [WHOLE, EpisodeNote(1, 2)], ids=["whole", "open"])
def test_a_note_is_read_back_as_it_was_written(note: EpisodeNote) -> None:
    assert parse_note(note_text(note), "note") == note


def test_each_end_of_a_note_that_was_cut_off_is_damage_and_nothing_else() -> None:
    text = note_text(WHOLE)
    for length in range(len(text.rstrip())):
        with pytest.raises(RecordingError, match="note"):
            parse_note(text[:length], "note")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '{"format": "kvmscope-recording", "version": 1}', note_text(WHOLE).replace("warning", "awful")],
)
def test_what_is_not_a_note_is_refused(text: str) -> None:
    with pytest.raises(RecordingError):
        parse_note(text, "note")


def test_a_newer_note_is_refused_by_its_version() -> None:
    with pytest.raises(RecordingError, match="use a newer one"):
        parse_note(note_text(WHOLE).replace('"version": 1', '"version": 2'), "note")


@pytest.fixture
def recording(tmp_path: Path, host_scenes: list[Scene]) -> Path:
    """A recording with three episodes of one scene each."""
    writer = RecordingWriter(tmp_path / "recording")
    writer.append(host_scenes[0])
    writer.close()
    for number in range(3):
        episode = EpisodeWriter(tmp_path / "recording", EpisodeNote(number, number, focus_ns=number))
        episode.append(host_scenes[0])
        episode.close()
    return tmp_path / "recording"


def test_episodes_are_listed_and_the_recording_goes_on_without_them(recording: Path) -> None:
    found = list_episodes(str(recording))
    assert [(each.number, each.note.since_ns) for each in found.episodes] == [(1, 0), (2, 1), (3, 2)]
    assert len(list(Recording(str(recording)).scenes())) == 1
    for each in found.episodes:
        assert len(list(Recording(each.place).scenes())) == 1
        assert each.size_bytes == sum(p.stat().st_size for p in Path(each.place).rglob("*") if p.is_file())
        assert note_of(each.place) == each.note
        assert list_episodes(each.place).episodes == (each,)
    assert note_of(str(recording)) is None


def test_a_damaged_note_hides_no_other_episode(recording: Path) -> None:
    (recording / "episodes/0002" / NOTE).write_text("{")
    found = list_episodes(str(recording))
    assert [each.number for each in found.episodes] == [1, 3]
    assert [Path(damage.path or "").parent.name for damage in found.damage] == ["0002"]


def test_a_writer_goes_on_after_the_newest_episode(recording: Path, host_scenes: list[Scene]) -> None:
    trim_episodes(recording, most=1, size_bytes=1 << 30, but=3)
    episode = EpisodeWriter(recording, EpisodeNote(1, 1))
    episode.append(host_scenes[0])
    episode.close()
    assert episode.number == 4


def test_the_oldest_are_deleted_and_what_is_not_an_episode_stays(recording: Path) -> None:
    (recording / "episodes/letters").mkdir()
    (recording / "episodes/letters/letter.txt").write_text("dear")
    trim_episodes(recording, most=2, size_bytes=1 << 30, but=3)
    assert [each.number for each in list_episodes(str(recording)).episodes] == [2, 3]
    trim_episodes(recording, most=2, size_bytes=1, but=3)
    assert [each.number for each in list_episodes(str(recording)).episodes] == [3]
    assert (recording / "episodes/letters/letter.txt").exists()


def test_the_size_of_a_ring_is_without_its_episodes(recording: Path, host_scenes: list[Scene]) -> None:
    (recording / "episodes/0001/large").write_bytes(bytes(1 << 20))
    writer = RecordingWriter(recording, limits=RingLimits(size_bytes=1 << 20))
    writer.append(host_scenes[1])
    writer.close()
    assert len(list(Recording(str(recording)).scenes())) == 2


@pytest.mark.parametrize("name", ["nothing", "other"])
def test_a_place_that_is_no_recording_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(RecordingError):
        list_episodes(str(tmp_path / name))
