"""Journals: what was flushed is read back, whatever became of the bytes behind it."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from any_scene import assert_same

from kvmscope.errors import RecordingError
from kvmscope.sample import Gap
from kvmscope.scene import Scene
from kvmscope.store.journal import JournalWriter, read_journal


@pytest.fixture
def written(tmp_path: Path, host_scenes: list[Scene]) -> tuple[Path, list[int]]:
    """A journal of some scenes, and how long it was after each."""
    path = tmp_path / "journal.arrow"
    writer = JournalWriter(path)
    sizes = []
    for scene in host_scenes:
        writer.append(scene)
        writer.flush()
        sizes.append(path.stat().st_size)
    writer.close()
    return path, sizes


def test_every_truncation_keeps_all_scenes_before_it(written: tuple[Path, list[int]], host_scenes: list[Scene]) -> None:
    path, sizes = written
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        content = read_journal(path)
        complete = sum(size <= length for size in sizes)
        assert len(content.scenes) == complete, length
        if length not in (*sizes, 0) and length < sizes[-1]:
            assert content.end is not None or complete == 0
    path.write_bytes(whole)
    for one, other in zip(read_journal(path).scenes, host_scenes, strict=True):
        assert_same(one, other)


def test_a_changed_byte_ends_the_journal_or_leaves_it_as_it_was(
    written: tuple[Path, list[int]], host_scenes: list[Scene]
) -> None:
    path, _ = written
    whole = path.read_bytes()
    chance = random.Random(1)
    for _ in range(2000):
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        try:
            content = read_journal(path)
        except RecordingError:
            continue
        for one, other in zip(content.scenes, host_scenes, strict=False):
            assert_same(one, other)


def test_another_file_is_not_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"something else " * 200)
    with pytest.raises(RecordingError, match="not a journal"):
        read_journal(path)


@pytest.mark.parametrize("rows", [[99], [-1], [1, 0]], ids=["no such VM", "negative", "descending"])
def test_rows_that_no_sample_has_end_the_journal(tmp_path: Path, host_scenes: list[Scene], rows: list[int]) -> None:
    """Their checksums are right: another writer, or memory that failed before they were made."""
    path = tmp_path / "journal.arrow"
    sample = host_scenes[1].sample
    owners = np.concatenate([sample.vcpus.vm[: -len(rows)], np.array(rows)])
    broken = replace(sample, vcpus=replace(sample.vcpus, vm=owners))
    writer = JournalWriter(path)
    writer.append(host_scenes[0])
    writer.append(replace(host_scenes[1], sample=broken))
    writer.append(host_scenes[2])
    writer.close()
    content = read_journal(path)
    assert len(content.scenes) == 1
    assert content.end is not None
    assert "ascending rows" in str(content.end)
    assert content.end.offset


_READ_WITHOUT_MEMORY = """
import resource, sys
from pathlib import Path
from kvmscope.store.journal import load_conversions, read_journal
load_conversions()
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (32 << 20),) * 2)
try:
    print(read_journal(Path(sys.argv[1])).end)
except MemoryError:
    print("MemoryError")
"""


def test_a_reader_without_memory_does_not_take_a_journal_for_damaged(tmp_path: Path, host_scenes: list[Scene]) -> None:
    path = tmp_path / "journal.arrow"
    writer = JournalWriter(path)
    sample = replace(host_scenes[0].sample, gaps=(Gap("x" * (64 << 20)),))
    writer.append(replace(host_scenes[0], sample=sample))
    writer.close()
    program = [sys.executable, "-c", _READ_WITHOUT_MEMORY, str(path)]
    assert subprocess.run(program, capture_output=True, text=True, check=True).stdout == "MemoryError\n"
