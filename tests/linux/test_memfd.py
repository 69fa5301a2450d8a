"""Mappings of other processes' shared memory: bounds, closing, and which files are told apart."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmscope.linux import memfd
from kvmscope.linux.memfd import Mapping, NotShared

CONTENT = bytes(range(200))


@pytest.fixture
def fd() -> Iterator[int]:
    fd = os.memfd_create("memfd-test", os.MFD_ALLOW_SEALING)
    os.write(fd, CONTENT)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    yield fd
    os.close(fd)


def test_a_mapping_reads_copies_within_its_bounds_and_holds_no_fd(fd: int) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    mapping = Mapping(fd, len(CONTENT), uid=0)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert mapping.read(10, 20) == CONTENT[10:30]
    os.pwrite(fd, b"\xff", 10)
    assert mapping.read(10, 1) == b"\xff"
    for offset, size in ((-1, 1), (0, -1), (0, 201), (200, 1), (2**63, 1)):
        with pytest.raises(ValueError, match="of a mapping of 200"):
            mapping.read(offset, size)
    mapping.close()
    mapping.close()
    with pytest.raises(ValueError, match="of a mapping of 200"):
        mapping.read(0, 1)


def test_memfds_are_found_by_name_and_told_apart_by_inode(fd: int) -> None:
    mount = memfd.own_mount()
    found = memfd.find(os.getpid(), ("memfd-test",), mount=mount)
    assert found == {os.fstat(fd).st_ino: fd}
    assert memfd.find(os.getpid(), ("memfd-other",), mount=mount) == {}


def test_a_file_of_another_mount_is_neither_found_nor_opened(fd: int, tmp_path: Path) -> None:
    assert memfd.find(os.getpid(), ("memfd-test",), mount="none") == {}
    with (tmp_path / "file").open("wb") as file, pytest.raises(NotShared, match="not shared memory"):
        memfd.open_shared(os.getpid(), file.fileno(), mount=memfd.own_mount(), limit=10**6)


def test_a_file_over_the_limit_is_not_mapped(fd: int) -> None:
    with pytest.raises(NotShared, match="200 bytes, where 1 to 199 are accepted"):
        memfd.open_shared(os.getpid(), fd, mount=memfd.own_mount(), limit=199)


def test_a_process_that_is_gone_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        memfd.find(2**22 + 1, ("x",), mount="none")


def test_a_file_that_cannot_be_mapped_is_an_os_error() -> None:
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="mmap"):
        Mapping(reader, 4096, uid=0)
    os.close(reader)
    os.close(writer)
