from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmscope.host.facts import Machine
from kvmscope.host.machine import AGAIN_S, WatchedMachine, read_machine
from kvmscope.linux.facts import CpuInfo, Fact

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    return write_file


def read(root: Path) -> Machine:
    return read_machine(proc_root=str(root / "proc"), sys_root=str(root / "sys"))


def a_host(write: Write, flags: str, arch: str = "x86_64") -> None:
    first = f"processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9454\nflags\t\t: fpu {flags}\n"
    write("proc/cpuinfo", f"{first}\nprocessor\t: 1\nflags\t\t: other\n")
    write("proc/sys/kernel/osrelease", "6.12.9-amd64\n")
    write("proc/sys/kernel/hostname", "node-7\n")
    write("proc/sys/kernel/arch", f"{arch}\n")
    write("sys/module/kvm/parameters/halt_poll_ns", "200000\n")


def loaded(write: Write, name: str, **parameters: str) -> None:
    write(f"sys/module/{name}/initstate", "live\n")
    for key, value in parameters.items():
        write(f"sys/module/{name}/parameters/{key}", f"{value}\n")


def test_this_host_is_read_as_other_tools_see_it() -> None:
    here = read_machine()
    assert here.kernel_release == Fact(platform.release())
    assert here.architecture == Fact(os.uname().machine)
    assert here.hostname == Fact(os.uname().nodename)
    assert here.cpu.value is not None
    assert here.cpu.value.flags
    assert (here.lockdown.value is None) == (here.lockdown.reason is not None)
    clocks = Path("/sys/devices/system/clocksource/clocksource0/available_clocksource")
    assert here.clocksource.value in clocks.read_text(encoding="ascii").split()


@pytest.mark.live
@pytest.mark.needs("kvm")
def test_this_hosts_kvm_is_found_with_its_parameters() -> None:
    here = read_machine()
    assert here.kvm.value is not None
    assert here.kvm_vendor.value is not None
    halt_poll = here.kvm.value.parameters["halt_poll_ns"]
    assert halt_poll.value is not None
    assert int(halt_poll.value) == int(Path("/sys/module/kvm/parameters/halt_poll_ns").read_text())


def test_a_loaded_module_is_the_one_in_use(write: Write, tmp_path: Path) -> None:
    a_host(write, "svm avic x2avic")
    loaded(write, "kvm_amd", avic="N", nested="1")
    found = read(tmp_path)
    assert (found.hostname, found.kernel_release) == (Fact("node-7"), Fact("6.12.9-amd64"))
    assert found.kvm_vendor.value is not None
    assert (found.kvm_vendor.value.name, found.kvm_vendor.value.is_built_in) == ("kvm_amd", False)
    assert dict(found.kvm_vendor.value.parameters) == {"avic": Fact("N"), "nested": Fact("1")}
    assert found.kvm.value is not None
    assert found.kvm.value.is_built_in
    assert found.cpu.value is not None
    assert (found.cpu.value.vendor, found.cpu.value.model) == ("AuthenticAMD", "AMD EPYC 9454")
    assert found.cpu.value.flags == {"fpu", "svm", "avic", "x2avic"}


def test_of_modules_built_in_the_cpu_decides(write: Write, tmp_path: Path) -> None:
    a_host(write, "vmx")
    for name in ("kvm_intel", "kvm_amd"):
        write(f"sys/module/{name}/parameters/nested", "Y\n")
    found = read(tmp_path).kvm_vendor.value
    assert found is not None
    assert (found.name, found.is_built_in) == ("kvm_intel", True)


def test_modules_that_the_cpu_does_not_tell_apart_are_named_and_not_chosen(write: Write, tmp_path: Path) -> None:
    a_host(write, "vmx")
    for name in ("kvm_intel", "kvm_pvm"):
        write(f"sys/module/{name}/parameters/x", "Y\n")
    found = read(tmp_path).kvm_vendor
    assert found.value is None
    assert found.reason == "it is unknown which is in use: kvm_intel, kvm_pvm"


def test_an_architecture_without_vendor_modules_has_kvm_itself(write: Write, tmp_path: Path) -> None:
    a_host(write, "", arch="aarch64")
    write("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n")
    found = read(tmp_path)
    assert found.kvm_vendor.value is not None
    assert found.kvm_vendor.value.name == "kvm"
    assert found.cpu.value == CpuInfo("0x41", "0xd0c", frozenset({"fp", "asimd"}))


def test_a_host_without_kvm_says_so(write: Write, tmp_path: Path) -> None:
    write("proc/sys/kernel/arch", "x86_64\n")
    found = read(tmp_path)
    assert found.kvm.value is None
    assert "kvm is neither loaded nor built in" in (found.kvm.reason or "")
    assert found.kvm_vendor.value is None
    assert found.cpu.value is None
    assert "cpuinfo" in (found.cpu.reason or "")


def test_what_changes_of_a_host_is_seen_later_and_what_stays_is_the_same_object(write: Write, tmp_path: Path) -> None:
    a_host(write, "svm")
    now_s = 0.0
    machine = WatchedMachine(lambda: read(tmp_path), clock=lambda: now_s)
    first = machine.now
    now_s += AGAIN_S
    assert machine.now is first
    write("sys/module/kvm/parameters/halt_poll_ns", "70000\n")
    assert machine.now is first, "it was read just now"
    now_s += AGAIN_S
    assert machine.now.kvm.value is not None
    assert machine.now.kvm.value.parameters["halt_poll_ns"] == Fact("70000")
    assert machine.now is not first
