from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmscope.linux import procfs

Build = Callable[[int, dict[str, Any]], str]
Spawn = Callable[..., "subprocess.Popen[bytes]"]

NOBODY = 65534


def open_here(pid: int) -> procfs.Process:
    process = procfs.open_process(pid)
    assert process is not None
    return process


def test_this_process_is_read_as_it_knows_itself() -> None:
    with open_here(os.getpid()) as me:
        stat, status = me.stat(), me.status()
        assert stat is not None
        assert status is not None
        assert stat.parent_pid == os.getppid()
        assert (status.tgid, status.real_uid, status.effective_uid) == (os.getpid(), os.getuid(), os.geteuid())
        assert status.ns_pids is not None
        assert status.ns_pids[0] == os.getpid()
        assert me.argv() == tuple(sys.orig_argv)
        assert me.executable() == str(Path(sys.executable).resolve())
        assert me.cgroups() is not None
        assert str(Path(sys.executable).resolve()) in (me.mapped_files() or ())


def test_fd_links_show_what_is_open(tmp_path: Path) -> None:
    with (tmp_path / "held").open("w") as held, open_here(os.getpid()) as me:
        links = me.fd_links()
        assert links is not None
        assert links[held.fileno()] == held.name


def test_threads_are_listed_with_their_names() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        with open_here(os.getpid()) as me:
            threads = me.threads()
            assert threads is not None
            assert {os.getpid(), thread.native_id} <= set(threads)
            assert list(threads) == sorted(threads)
    finally:
        release.set()
        thread.join()


def test_a_name_with_parentheses_and_newlines_does_not_confuse_stat(build_process: Build) -> None:
    root = build_process(7, {"comm": "a) R 1 (b\nc", "start_ticks": 99})
    stat = procfs.read_stat(7, proc_root=root)
    assert stat is not None
    assert (stat.comm, stat.state, stat.start_ticks) == ("a) R 1 (b\nc", "S", 99)


def test_text_that_is_not_utf8_can_still_be_encoded(build_process: Build) -> None:
    root = build_process(7, {"argv": [os.fsdecode(b"vm-\xff\xfe"), "", "x"]})
    process = procfs.open_process(7, proc_root=root)
    assert process is not None
    with process:
        argv = process.argv()
    assert argv == ("vm-\\xff\\xfe", "", "x")
    assert json.loads(json.dumps(argv, ensure_ascii=False).encode()) == list(argv)


def test_a_process_that_ends_between_two_reads_is_none_from_then_on(
    spawn: Spawn, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    child = spawn(["sleep", "1000"])
    with open_here(child.pid) as process:
        eventually(lambda: process.argv() == ("sleep", "1000"))
        child.kill()
        child.wait()
        assert process.stat() is None
        assert process.status() is None
        assert process.argv() is None
        assert process.cgroups() is None
        assert process.executable() is None
        assert process.fd_links() is None
        assert process.threads() is None
        assert process.mapped_files() is None
    assert procfs.open_process(child.pid) is None
    assert procfs.read_stat(child.pid) is None


def test_a_zombie_has_no_command_line_and_no_files(
    spawn: Spawn, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    child = spawn(["true"])
    with open_here(child.pid) as process:
        eventually(lambda: (stat := process.stat()) is not None and stat.state == "Z")
        assert process.argv() == ()


def as_nobody(read: Callable[[], Any]) -> Any:
    """What ``read`` returns in a process of an unprivileged user (through JSON)."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            answer = json.dumps(read())
        except BaseException as error:  # reported to the parent, which asserts
            answer = json.dumps(repr(error))
        os.write(sending, answer.encode())
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_users_process_shows_its_name_but_not_its_files(
    spawn: Spawn, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    child = spawn(["sleep", "1000"])
    with open_here(child.pid) as process:
        eventually(lambda: process.argv() == ("sleep", "1000"))

    def read() -> dict[str, Any]:
        with open_here(child.pid) as process:
            stat = process.stat()
            return {
                "argv": process.argv(),
                "comm": stat and stat.comm,
                "argv_address": stat and stat.argv_address,
                "threads": list(process.threads() or ()),
                "fds": process.fd_links(),
                "exe": process.executable(),
                "maps": process.mapped_files() and "readable",
            }

    assert as_nobody(read) == {
        "argv": ["sleep", "1000"],
        "comm": "sleep",
        "argv_address": 0,
        "threads": [child.pid],
        "fds": None,
        "exe": None,
        "maps": None,
    }


def test_running_out_of_descriptors_is_not_taken_for_a_dead_process() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open("/dev/null", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[0], hard))
    try:
        with pytest.raises(OSError, match="open files") as caught:
            procfs.open_process(os.getpid())
        assert caught.value.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(held[0])


def test_a_file_too_large_a_link_and_a_pipe_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 101)
    (tmp_path / "link").symlink_to(tmp_path / "big")
    os.mkfifo(tmp_path / "pipe")
    assert procfs.read_file(str(tmp_path / "big"), max_bytes=101) == b"x" * 101
    assert procfs.read_file(str(tmp_path / "big"), max_bytes=100) is None
    assert procfs.read_file(str(tmp_path / "link")) is None
    assert procfs.read_file(str(tmp_path / "pipe")) == b""


def test_damaged_files_of_a_captured_tree_are_none(build_process: Build) -> None:
    root = build_process(7, {})
    Path(root, "7", "stat").write_text("7 (x")
    Path(root, "7", "status").write_text("Name:\tx\n")
    process = procfs.open_process(7, proc_root=root)
    assert process is not None
    with process:
        assert process.stat() is None
        assert process.status() is None


def test_pids_are_the_numbered_entries(build_process: Build) -> None:
    root = build_process(7, {})
    build_process(12, {})
    Path(root, "sys").mkdir()
    assert sorted(procfs.iter_pids(proc_root=root)) == [7, 12]


def test_start_is_read_past_a_command_with_spaces_and_parentheses(tmp_path: Path) -> None:
    numbers = " ".join(str(n) for n in range(4, 53))
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(f"7 (a ) S (b) S {numbers}\n")
    assert procfs.start_ticks(7, proc_root=str(tmp_path)) == 22


def test_a_process_started_later_has_a_later_start() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert procfs.start_ticks(process.pid) >= procfs.start_ticks(os.getpid())
        process.kill()
