"""What namespaces hide, in real ones; and on captured trees what they look like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvmscope.linux.namespaces import (
    is_in_initial_pid_namespace,
    is_in_user_namespace,
    is_sys_hidden,
    why_processes_are_hidden,
)

ASK = "from kvmscope.linux.namespaces import *; print({})"


def ask(question: str, *unshare: str, prepare: str = "true") -> str:
    """What a process in namespaces of its own answers; skips where they cannot be made."""
    script = f"{prepare} && exec {sys.executable} -c '{ASK.format(question)}'"
    command = ["unshare", *unshare, "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip(f"no such namespace can be made here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def link_pid_namespace(root: Path, number: int) -> str:
    (root / "self/ns").mkdir(parents=True)
    (root / "self/ns/pid").symlink_to(f"pid:[{number}]")
    return str(root)


def test_the_pid_namespace_of_the_host_is_known_by_its_number(tmp_path: Path) -> None:
    assert is_in_initial_pid_namespace(proc_root=link_pid_namespace(tmp_path / "host", 4026531836)) is True
    container = link_pid_namespace(tmp_path / "container", 4026532301)
    assert is_in_initial_pid_namespace(proc_root=container) is False
    assert is_in_initial_pid_namespace(proc_root=str(tmp_path)) is None
    hidden = why_processes_are_hidden(proc_root=container)
    assert hidden is not None
    assert "outside this pid namespace" in hidden[0]
    assert "--pid=host" in hidden[1]


def test_without_a_proc_file_system_everything_is_hidden(tmp_path: Path) -> None:
    hidden = why_processes_are_hidden(proc_root=str(tmp_path))
    assert hidden is not None
    assert hidden[0] == f"no proc file system is mounted at {tmp_path}"


@pytest.mark.parametrize(("mapping", "expected"), [("0 0 4294967295", False), ("0 1000 1", True), ("", True)])
def test_a_user_namespace_is_known_by_its_map_of_ids(tmp_path: Path, mapping: str, expected: bool) -> None:
    assert is_in_user_namespace(proc_root=str(tmp_path)) is False
    (tmp_path / "self").mkdir()
    (tmp_path / "self/uid_map").write_text(f"   {mapping}\n")
    assert is_in_user_namespace(proc_root=str(tmp_path)) is expected


def test_an_empty_sys_is_hidden(tmp_path: Path) -> None:
    assert is_sys_hidden(sys_root=str(tmp_path))
    assert not is_sys_hidden()


@pytest.mark.needs("root", "unshare")
def test_a_real_pid_namespace_hides_the_processes_of_the_host() -> None:
    if is_in_initial_pid_namespace() is False:
        pytest.skip("these tests run in a pid namespace of their own")
    assert why_processes_are_hidden() is None
    assert "outside this pid namespace" in ask("why_processes_are_hidden()", "--pid", "--fork", "--mount-proc")


@pytest.mark.needs("unshare")
def test_root_of_a_real_user_namespace_is_known() -> None:
    if not is_in_user_namespace():
        assert ask("is_in_user_namespace()", "--user", "--map-root-user") == "True"


@pytest.mark.needs("root", "unshare", "setpriv")
def test_a_proc_that_hides_the_processes_of_others_is_known_by_its_options() -> None:
    remount = "mount --make-rprivate / && mount -t proc -o hidepid=2 proc /proc"
    as_root = ask("why_processes_are_hidden()", "--mount", prepare=remount)
    if is_in_initial_pid_namespace():
        assert as_root == "None", "CAP_SYS_PTRACE sees them all"
    nobody = f"exec setpriv --reuid={os.getuid() or 65534} --regid=65534 --clear-groups"
    script = f"{remount} && {nobody} {sys.executable} -c '{ASK.format('why_processes_are_hidden()')}'"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"not possible here: {done.stderr[-200:]}")
    assert "hidepid=" in done.stdout
