"""Damaged recordings: what is read is what was written, and all else is a RecordingError that names the file.

``KVMSCOPE_MUTATIONS=20000`` changes each of the five kinds of files so often, and cuts them at every length; an hour.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from any_scene import assert_same

from kvmscope.errors import RecordingError
from kvmscope.scene import Scene
from kvmscope.store.journal import JournalWriter
from kvmscope.store.layout import RecordingTable, journal_path
from kvmscope.store.recording import Recording
from kvmscope.store.writer import RecordingWriter

MUTATIONS = int(os.environ.get("KVMSCOPE_MUTATIONS", "300"))
KINDS = [*(table.value for table in RecordingTable), "journal"]


@pytest.fixture
def recorded(tmp_path: Path, host_scenes: list[Scene]) -> Path:
    """A segment with the first two scenes, and a journal with the third."""
    directory = tmp_path / "recording"
    writer = RecordingWriter(directory)
    for scene in host_scenes[:2]:
        writer.append(scene)
    writer.close()
    journal = JournalWriter(directory / journal_path(2))
    journal.append(host_scenes[2])
    journal.close()
    return directory


def file_of(directory: Path, kind: str) -> Path:
    [path] = [path for path in (directory / kind).rglob("*") if path.is_file()]
    return path


def mutated(whole: bytes, chance: random.Random) -> bytes:
    """One to four bytes changed, or a stretch of them, or some left out."""
    changed = bytearray(whole)
    kind = chance.randrange(8)
    at = chance.randrange(len(whole))
    if kind == 0:
        del changed[at : at + chance.randrange(1, 64)]
    elif kind == 1:
        changed[at : at + 32] = bytes(len(changed[at : at + 32]))
    elif kind == 2:
        at = chance.randrange(max(0, len(whole) - 64), len(whole))
        changed[at] ^= chance.randrange(1, 256)
    else:
        for _ in range(chance.randrange(1, 5)):
            changed[chance.randrange(len(whole))] ^= chance.randrange(1, 256)
    return bytes(changed)


def check_read(directory: Path, host_scenes: list[Scene], kind: str) -> None:
    """Every scene that is read is as it was; where one is missing the recording says which file is damaged.

    A journal can end behind every scene, since one that is being written does.
    """
    recording = Recording(str(directory))
    found = {scene.sample.taken_ns: scene for scene in recording.scenes()}
    whole = {scene.sample.taken_ns: scene for scene in host_scenes}
    assert found.keys() <= whole.keys()
    for taken_ns, scene in found.items():
        assert_same(scene, whole[taken_ns])
    if found.keys() != whole.keys() and kind != "journal":
        assert any(f"/{kind}/" in str(error.path) for error in recording.damage)
    for moment in recording.moments():
        try:
            assert_same(recording.scene(moment), whole[moment.taken_ns])
        except RecordingError as error:
            assert error.path


def lengths(size: int) -> Iterator[int]:
    """Every one in the long run, else the ends and some between."""
    return iter(range(size) if MUTATIONS >= 10_000 else [*range(40), *range(40, size, 1 + size // 60), size - 1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_hides_nothing_but_what_it_lacks(recorded: Path, host_scenes: list[Scene], kind: str) -> None:
    path = file_of(recorded, kind)
    whole = path.read_bytes()
    for length in lengths(len(whole)):
        path.write_bytes(whole[:length])
        check_read(recorded, host_scenes, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes_give_the_scenes_that_were_written_or_an_error(
    recorded: Path, host_scenes: list[Scene], kind: str
) -> None:
    path = file_of(recorded, kind)
    whole = path.read_bytes()
    chance = random.Random(kind)
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(whole, chance))
        check_read(recorded, host_scenes, kind)


@pytest.mark.parametrize("kind", [table.value for table in RecordingTable])
@pytest.mark.parametrize("what", ["pipe", "device", "directory"])
def test_what_is_not_a_file_is_damage_and_nobody_waits_for_it(
    recorded: Path, host_scenes: list[Scene], kind: str, what: str
) -> None:
    path = file_of(recorded, kind)
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    recording = Recording(str(recorded))
    assert [scene.sample.taken_ns for scene in recording.scenes()] == [host_scenes[2].sample.taken_ns]
    if kind != "scenes":  # by which segments are found
        assert [error.path for error in recording.damage] == [str(path)]
        reason = "it is a link that leads outside" if what == "device" else "it is not a regular file"
        assert reason in str(recording.damage[0])


@pytest.mark.parametrize("kind", ["documents", "vms", "vcpus"])
def test_a_table_that_is_gone_is_damage_for_whoever_asks_for_a_scene(recorded: Path, kind: str) -> None:
    recording = Recording(str(recorded))
    moments = recording.moments()
    file_of(recorded, kind).unlink()
    with pytest.raises(RecordingError, match="a table of this segment is missing"):
        recording.scene(moments[0])
