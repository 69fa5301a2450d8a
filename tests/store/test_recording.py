"""Recordings: what was written comes back as the same scenes, from a journal and from segments."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from any_scene import assert_same, scenes
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmscope.errors import KvmscopeError, RecordingError, UsageError
from kvmscope.scene import Scene
from kvmscope.store.layout import ABOUT
from kvmscope.store.recording import Recording
from kvmscope.store.writer import RecordingWriter


def in_order(found: list[Scene]) -> list[Scene]:
    """The scenes at times that follow one another, each VM with an id of its own, as sources give them."""
    ordered = []
    for place, scene in enumerate(found):
        vms = replace(scene.sample.vms, id=np.arange(len(scene.sample.vms)).astype(np.uint64) + np.uint64(7))
        vcpus = replace(scene.sample.vcpus, id=np.arange(len(scene.sample.vcpus)))
        sample = replace(scene.sample, taken_ns=1000 + place, monotonic_ns=5 + place, vms=vms, vcpus=vcpus)
        ordered.append(replace(scene, sample=sample))
    return ordered


@settings(max_examples=100, deadline=None)
@given(st.lists(scenes(), min_size=1, max_size=4).map(in_order), st.booleans())
def test_scenes_come_back_as_they_were(written: list[Scene], is_closed: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place, "recording")
        writer = RecordingWriter(directory)
        for scene in written:
            writer.append(scene)
        if is_closed:
            writer.close()
        else:
            writer.flush()
        recording = Recording(str(directory))
        found = list(recording.scenes())
        assert recording.damage == []
        assert len(found) == len(written)
        for one, other in zip(found, written, strict=True):
            assert_same(one, other)
        middle = written[len(written) // 2].sample.taken_ns
        assert [s.sample.taken_ns for s in recording.scenes(from_ns=middle, until_ns=middle)] == [middle]
        writer.close()


def tree(directory: Path) -> dict[str, bytes]:
    """Every file with its content, and every directory."""
    found = {f"{path.relative_to(directory)}/": b"" for path in directory.rglob("*") if path.is_dir()}
    return found | {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


OTHER_PLACES = {
    "another directory": ({"letter.txt": "dear"}, "not a recording", "not empty and not a recording"),
    "a mixed one": ({"letter.txt": "dear", "journal/00000001.arrow": ""}, "not a recording", "not empty"),
    "no description": ({"scenes/host=a/date=2026-11-26/00000001.parquet": "PAR1"}, "not a recording", "not empty"),
    "another description": ({ABOUT: '{"format": "diary", "version": 1}'}, "does not describe a recording", ""),
    "a description that is not JSON": ({ABOUT: "[" * 100_000}, "does not describe a recording", ""),
    "no version": ({ABOUT: '{"format": "kvmscope-recording"}'}, "does not describe a recording", ""),
    "a newer layout": ({ABOUT: '{"format": "kvmscope-recording", "version": 3}'}, "layout 3; .* use a newer one", ""),
    "layout 0": ({ABOUT: '{"format": "kvmscope-recording", "version": 0}'}, "layout 0, which no kvmscope", ""),
    "a version in words": ({ABOUT: '{"format": "kvmscope-recording", "version": "2"}'}, "layout '2', which no", ""),
}


@pytest.mark.parametrize("name", OTHER_PLACES)
def test_what_is_not_a_recording_of_this_layout_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    files, reading, writing = OTHER_PLACES[name]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    before = tree(tmp_path)
    with pytest.raises(RecordingError, match=reading):
        Recording(str(tmp_path))
    with pytest.raises(KvmscopeError, match=writing or reading):
        RecordingWriter(tmp_path)
    assert tree(tmp_path) == before


def test_a_recording_of_the_first_layout_is_read_and_continued(tmp_path: Path, host_scenes: list[Scene]) -> None:
    directory = tmp_path / "recording"
    writer = RecordingWriter(directory)
    writer.append(host_scenes[0])
    writer.close()
    (directory / ABOUT).write_text('{"format": "kvmscope-recording", "version": 1}')
    before = tree(directory)
    assert_same(next(Recording(str(directory)).scenes()), host_scenes[0])
    assert tree(directory) == before, "reading changes nothing"
    writer = RecordingWriter(directory)
    with pytest.raises(UsageError, match="another kvmscope"):
        RecordingWriter(directory)
    writer.append(host_scenes[1])
    writer.close()
    assert len(list(Recording(str(directory)).scenes())) == 2
    assert '"version": 2' in (directory / ABOUT).read_text()


def test_files_of_others_in_a_recording_are_passed_over_and_left(tmp_path: Path, host_scenes: list[Scene]) -> None:
    directory = tmp_path / "recording"
    writer = RecordingWriter(directory)
    writer.append(host_scenes[0])
    writer.close()
    others = ("notes.txt", "scenes/README", "journal/old.arrow", "vms/host=x/date=never/00000001.parquet")
    for path in others:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text("dear")
    before = tree(directory)
    assert len(list(Recording(str(directory)).scenes())) == 1
    assert tree(directory) == before
    RecordingWriter(directory).close()
    assert {path: text for path, text in tree(directory).items() if path in others} == dict.fromkeys(others, b"dear")


def test_a_place_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such directory"):
        Recording(str(tmp_path / "nowhere"))
