"""What a process lacks, files, memory or threads, is a line of why and one of what helps; a mistake of ours is not."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from kvmscope.console.limits import limited_memory, unusable
from kvmscope.errors import Unavailable


def chained(first: BaseException, then: BaseException) -> BaseException:
    then.__cause__ = first
    return then


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libarrow.so: failed to map segment from shared object", name="pyarrow.lib"),
        chained(ImportError("x.so: failed to map segment from shared object"), ImportError("\nIMPORTANT: READ THIS")),
        chained(MemoryError(), ImportError("numpy failed")),
    ],
)
def test_what_fails_for_want_of_memory_says_so(error: BaseException) -> None:
    found = unusable(error)
    assert isinstance(found, Unavailable)
    assert (str(found), found.errno) == ("there is not enough memory", errno.ENOMEM)
    assert "ulimit -v" in found.remedy


def test_threads_and_files_are_told_with_the_limit_that_helps() -> None:
    threads, files = unusable(RuntimeError("can't start new thread")), unusable(OSError(errno.EMFILE, "Too many"))
    assert isinstance(threads, Unavailable)
    assert "ulimit -u" in threads.remedy
    assert isinstance(files, Unavailable)
    assert "ulimit -n" in files.remedy


def test_a_broken_package_is_told_by_its_first_cause() -> None:
    first = ImportError("libstdc++.so.6: cannot open shared object file", name="numpy._core")
    found = unusable(chained(first, ImportError("\n\nIMPORTANT: PLEASE READ THIS")))
    assert str(found) == "numpy._core cannot be loaded: libstdc++.so.6: cannot open shared object file"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("dictionary changed size during iteration"),
        OSError(errno.EIO, "Input/output error"),
        ImportError("cannot import name 'x' from 'kvmscope.units'", name="kvmscope.units"),
        KeyError("x"),
    ],
)
def test_mistakes_stay_what_they_are(error: BaseException) -> None:
    assert unusable(error) is None


@pytest.mark.parametrize("command", ["sql SELECT --from recording", "status --from recording", "episodes recording"])
def test_a_current_directory_that_was_removed_is_a_line(tmp_path: Path, command: str) -> None:
    program = f'mkdir gone; cd gone; rmdir ../gone; exec "{sys.executable}" -m kvmscope {command}'
    done = subprocess.run(["sh", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode in (2, 4)
    assert done.stderr.startswith("kvmscope: ")
    assert len(done.stderr.splitlines()) <= 2


def test_no_more_memory_is_given_while_it_is_limited() -> None:
    with limited_memory(64 << 20):
        assert len(bytes(16 << 20)) == 16 << 20
        with pytest.raises(MemoryError):
            bytes(1 << 30)
    assert len(bytes(1 << 30)) == 1 << 30
