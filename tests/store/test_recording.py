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

from kvmscope.errors import RecordingError, UsageError
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


def test_a_directory_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RecordingError, match="not a recording"):
        Recording(str(tmp_path))
    with pytest.raises(UsageError, match="not empty"):
        RecordingWriter(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / ABOUT).write_text('{"format": "kvmscope-recording", "version": 2}')
    for open_it in (lambda: Recording(str(tmp_path)), lambda: RecordingWriter(tmp_path)):
        with pytest.raises(RecordingError, match="layout 2"):
            open_it()


def test_a_place_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such directory"):
        Recording(str(tmp_path / "nowhere"))
