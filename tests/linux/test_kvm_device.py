"""Why /dev/kvm cannot be had, by trees and files made for the test; real namespaces are in live/test_refusals.py."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmscope.errors import PermissionNeeded, Unavailable
from kvmscope.linux.kvm_device import explain, open_kvm

Write = Callable[[str, str], None]


def missing(tmp_path: Path) -> Unavailable:
    roots = {"proc_root": str(tmp_path / "proc"), "sys_root": str(tmp_path / "sys")}
    with pytest.raises(Unavailable) as caught:
        open_kvm(str(tmp_path / "dev/kvm"), **roots)
    assert caught.value.path == str(tmp_path / "dev/kvm")
    assert caught.value.errno == errno.ENOENT
    return caught.value


def test_where_the_kernel_has_kvm_only_the_device_is_missing(tmp_path: Path, write: Write) -> None:
    write("sys/module/kvm/parameters/halt_poll_ns", "200000\n")
    error = missing(tmp_path)
    assert "the kernel has KVM" in error.reason
    assert "not loaded" not in error.reason
    assert "--device /dev/kvm" in error.remedy


def test_where_sys_is_hidden_it_is_not_known_whether_kvm_is_loaded(tmp_path: Path, write: Write) -> None:
    write("proc/cpuinfo", "flags : vmx\n")
    assert "is hidden" in missing(tmp_path).reason


@pytest.mark.parametrize(
    ("flags", "reason", "remedy"),
    [
        ("fpu vmx", "KVM is not loaded", "modprobe kvm_intel"),
        ("fpu svm", "KVM is not loaded", "modprobe kvm_amd"),
        ("fpu", "shows no virtualization", "firmware"),
    ],
)
def test_where_kvm_is_not_loaded_the_cpu_says_what_would_help(
    tmp_path: Path, write: Write, flags: str, reason: str, remedy: str
) -> None:
    write("sys/kernel/ostype", "Linux\n")
    write("proc/cpuinfo", f"flags : {flags}\n")
    error = missing(tmp_path)
    assert reason in error.reason
    assert remedy in error.remedy
    assert "lab simulate" in error.remedy


def test_a_file_that_is_not_kvms_is_named_as_such_and_closed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    opened = len(list(Path("/proc/self/fd").iterdir()))
    for place in (tmp_path / "file", tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(Unavailable, match="is not KVM's device") as caught:
            open_kvm(str(place))
        assert "5.14" not in caught.value.remedy
    assert len(list(Path("/proc/self/fd").iterdir())) == opened


def test_root_is_never_told_to_become_root(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = PermissionError(errno.EPERM, "Operation not permitted")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    error = explain(refused, "/dev/kvm")
    assert isinstance(error, PermissionNeeded)
    assert "run as root" not in error.remedy
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "run as root" in explain(refused, "/dev/kvm").remedy


@pytest.mark.needs("kvm")
def test_the_real_one_is_opened() -> None:
    os.close(open_kvm())
