"""Links in /proc that name files of KVM, on a tree made for the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvmscope.linux.kvmfiles import FdKind, KvmFd, look_at, parse_link, scan


def make_process(proc: Path, pid: int, links: dict[int, str], *, started: int = 100, command: str = "vmm") -> None:
    fds = proc / str(pid) / "fd"
    fds.mkdir(parents=True)
    for number, link in links.items():
        (fds / str(number)).symlink_to(link)
    (proc / str(pid) / "comm").write_text(f"{command}\n")
    fields = ["S", *"0" * 18, str(started), *"0" * 30]
    (proc / str(pid) / "stat").write_text(f"{pid} ({command}) {' '.join(fields)}\n")


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("anon_inode:kvm-vm", KvmFd(3, FdKind.VM)),
        ("anon_inode:kvm-vm-stats", KvmFd(3, FdKind.VM_STATS)),
        ("anon_inode:kvm-vcpu:0", KvmFd(3, FdKind.VCPU, 0)),
        ("anon_inode:kvm-vcpu:4095", KvmFd(3, FdKind.VCPU, 4095)),
        ("anon_inode:kvm-vcpu-stats:17", KvmFd(3, FdKind.VCPU_STATS, 17)),
    ],
)
def test_each_kind_of_file_is_told_by_its_link(link: str, expected: KvmFd) -> None:
    assert parse_link(3, link) == expected


@pytest.mark.parametrize(
    "link",
    [
        "/tmp/anon_inode:kvm-vm",
        "anon_inode:kvm-vmx",
        "anon_inode:kvm-vcpu:",
        "anon_inode:kvm-vcpu-stats:x",
        "anon_inode:kvm-vm (deleted)",
    ],
)
def test_no_other_link_is_taken_for_one(link: str) -> None:
    assert parse_link(3, link) is None


def test_scan_finds_holders_by_start_and_leaves_out_the_rest(tmp_path: Path) -> None:
    make_process(tmp_path, 50, {3: "anon_inode:kvm-vm"}, started=300)
    make_process(tmp_path, 60, {7: "anon_inode:kvm-vcpu:1", 5: "anon_inode:kvm-vm", 0: "/dev/null"}, started=200)
    make_process(tmp_path, 70, {0: "/dev/null", 9: "anon_inode:[eventfd]"})
    (tmp_path / "sys").mkdir()
    found = scan(proc_root=str(tmp_path))
    assert [holder.pid for holder in found.holders] == [60, 50]
    assert found.holders[0].fds == (KvmFd(5, FdKind.VM), KvmFd(7, FdKind.VCPU, 1))
    assert found.holders[0].of(FdKind.VCPU) == (KvmFd(7, FdKind.VCPU, 1),)
    assert (found.seen, found.hidden) == (3, 0)


def test_scan_leaves_out_this_process(tmp_path: Path) -> None:
    make_process(tmp_path, os.getpid(), {3: "anon_inode:kvm-vm"})
    assert scan(proc_root=str(tmp_path)).holders == ()


def test_a_process_that_ended_meanwhile_is_neither_seen_nor_hidden(tmp_path: Path) -> None:
    (tmp_path / "80").mkdir()
    found = scan(proc_root=str(tmp_path))
    assert (found.holders, found.seen, found.hidden) == ((), 0, 0)


def test_a_command_comes_out_printable(tmp_path: Path) -> None:
    make_process(tmp_path, 50, {3: "anon_inode:kvm-vm"}, command="a\x1b[31mb\nc")
    assert look_at(50, proc_root=str(tmp_path)).command == "a?[31mb?c"


@pytest.mark.needs("nobody")
def test_processes_of_others_are_hidden_from_an_unprivileged_user() -> None:
    code = "from kvmscope.linux.kvmfiles import scan; found = scan(); print(found.hidden > found.seen)"
    nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", sys.executable, "-c"]
    assert subprocess.run([*nobody, code], capture_output=True, text=True, check=True).stdout == "True\n"
