"""Which KVM runs VMs, on trees made for the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvmscope.linux.kvm import is_kvm_there, read_running_kvm, running_kvm_name

Write = Callable[[str, str], None]


def a_host(write: Write, flags: str, *, built_in: str = "", loaded: str = "", arch: str = "x86_64") -> None:
    write("proc/cpuinfo", f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    write("proc/sys/kernel/arch", f"{arch}\n")
    write("sys/module/kvm/parameters/halt_poll_ns", "200000\n")
    for name in (*built_in.split(), *loaded.split()):
        write(f"sys/module/{name}/parameters/nested", "Y\n")
    for name in loaded.split():
        write(f"sys/module/{name}/initstate", "live\n")


@pytest.mark.parametrize(
    ("flags", "modules", "expected"),
    [
        ("vmx", ("kvm_intel kvm_amd", ""), "kvm_intel"),
        ("svm", ("kvm_intel kvm_amd", ""), "kvm_amd"),
        ("vmx", ("kvm_amd", "kvm_intel"), "kvm_intel"),
        ("svm", ("", "kvm_amd"), "kvm_amd"),
        ("", ("kvm_intel kvm_amd", "kvm_pvm"), "kvm_pvm"),
        ("", ("kvm_pvm", ""), "kvm_pvm"),
        ("vmx", ("kvm_intel kvm_pvm", ""), None),
        ("", ("kvm_intel kvm_amd", ""), None),
    ],
)
def test_of_several_modules_the_one_that_runs_vms_is_named(
    write: Write, tmp_path: Path, flags: str, modules: tuple[str, str], expected: str | None
) -> None:
    built_in, loaded = modules
    a_host(write, flags, built_in=built_in, loaded=loaded)
    roots = {"proc_root": str(tmp_path / "proc"), "sys_root": str(tmp_path / "sys")}
    assert running_kvm_name(**roots) == expected
    if expected is None:
        assert (read_running_kvm(**roots).reason or "").startswith("it is unknown which is in use: kvm_")


def test_an_architecture_without_vendor_modules_has_kvm_itself(write: Write, tmp_path: Path) -> None:
    a_host(write, "", arch="aarch64")
    assert running_kvm_name(proc_root=str(tmp_path / "proc"), sys_root=str(tmp_path / "sys")) == "kvm"


def test_a_host_without_kvm_has_none(tmp_path: Path) -> None:
    assert not is_kvm_there(sys_root=str(tmp_path))
    assert running_kvm_name(proc_root=str(tmp_path), sys_root=str(tmp_path)) is None
