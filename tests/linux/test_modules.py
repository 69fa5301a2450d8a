"""Modules in /sys/module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kvmscope.linux.facts import Fact
from kvmscope.linux.modules import module_inode, module_names, read_module

Write = Callable[[str, str], None]


def loaded(write: Write, name: str, **parameters: str) -> None:
    write(f"sys/module/{name}/initstate", "live\n")
    for key, value in parameters.items():
        write(f"sys/module/{name}/parameters/{key}", f"{value}\n")


def test_a_parameter_that_may_not_be_read_has_the_reason(tmp_path: Path, write: Write) -> None:
    loaded(write, "kvm_amd", avic="Y")
    # Root reads any file whatever its mode, but nobody can read a directory as if it were a file.
    (tmp_path / "sys/module/kvm_amd/parameters/secret").mkdir()
    found = read_module("kvm_amd", sys_root=str(tmp_path / "sys")).value
    assert found is not None
    assert found.parameters["avic"] == Fact("Y")
    assert found.parameters["secret"].value is None
    assert "secret: Is a directory" in (found.parameters["secret"].reason or "")


def test_modules_are_listed_by_a_pattern_and_known_by_an_inode(tmp_path: Path, write: Write) -> None:
    loaded(write, "kvm_intel", nested="Y")
    loaded(write, "kvm", halt_poll_ns="0")
    assert module_names("kvm_*", sys_root=str(tmp_path / "sys")) == ("kvm_intel",)
    assert module_inode("kvm", sys_root=str(tmp_path / "sys")) == (tmp_path / "sys/module/kvm").stat().st_ino
    assert module_inode("xen", sys_root=str(tmp_path / "sys")) is None
