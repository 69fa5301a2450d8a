"""Each stock kernel boots, has a KVM that works, and holds what kvmscope needs. One boot a kernel gives all answers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kvmscope.errors import UsageError
from kvmscope.lab import kernels

PROBE = Path(__file__).with_name("probe.py")


@cache
def answers_of(name: str) -> dict[str, Any]:
    result = kernels.run(name, ["python3", "/root/probe.py"], put={"/root/probe.py": PROBE})
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["release"] == result.release
    return found


def test_it_is_the_kernel_that_its_name_says(kernel: str) -> None:
    series, _, arch = kernel.partition("-")
    found = answers_of(kernel)
    assert found["release"].startswith(series + ".")
    assert found["machine"] == ("aarch64" if arch == "arm64" else "x86_64")


def test_kvm_makes_a_vm_and_a_vcpu_with_statistics(kernel: str) -> None:
    found = answers_of(kernel)
    assert found["kvm_api"] == 12
    assert found["vm_stats"] >= 2
    assert found["vcpu_stats"] >= 10


def test_this_package_numpy_and_libbpf_load_as_root(kernel: str) -> None:
    found = answers_of(kernel)
    assert found["uid"] == 0
    assert found["kvmscope"].startswith("/opt/kvmscope/")
    assert found["libbpf"][0] == 1
    assert found["libbpf_name"] == "libbpf.so.1"
    assert int(found["numpy"].partition(".")[0]) >= 1


def test_types_events_and_a_bpf_file_system_are_there(kernel: str) -> None:
    found = answers_of(kernel)
    assert "vmlinux" in found["btf"]
    assert found["events"]
    assert {"/sys/fs/bpf", "/sys/kernel/tracing", "/sys/kernel/debug"} <= set(found["mounts"])


def test_avic_is_on_and_kvm_is_a_module_with_types_of_its_own(x86_kernel: str) -> None:
    found = answers_of(x86_kernel)
    assert found["avic"] in {"1", "Y"}
    assert {"kvm", "kvm_amd"} <= set(found["btf"])


def test_avic_can_be_off_and_other_parameters_set(x86_kernel: str) -> None:
    result = kernels.run(
        x86_kernel,
        ["sh", "-c", "cat /sys/module/kvm_amd/parameters/avic /sys/module/kvm_amd/parameters/nested"],
        avic=False,
        module_parameters=["kvm_amd.nested=0"],
    )
    assert result.stdout.split() in (["0", "0"], ["N", "0"])


def test_exit_code_output_and_files_come_back_unmixed(any_kernel: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_bytes(b"in")
    script = (
        "echo out; echo err >&2; mkdir /root/made; cp /root/folder/inner '/root/made/a b'; head -c 3000000 /dev/urandom"
    )
    result = kernels.run(
        any_kernel,
        ["sh", "-c", f"{script} >/root/made/large; exit 7"],
        put={"/root/folder": tmp_path / "folder", "/root/note": b"note"},
        get=["/root/made", "/root/note", "/root/absent"],
    )
    assert (result.exit_code, result.stdout, result.stderr) == (7, "out\n", "err\n")
    assert set(result.files) == {"/root/made/a b", "/root/made/large", "/root/note"}
    assert result.files["/root/made/a b"] == b"in"
    assert len(result.files["/root/made/large"]) == 3_000_000


def test_what_python_prints_comes_whole_however_long_it_is(any_kernel: str) -> None:
    printed = kernels.run(any_kernel, ["python3", "-c", "print('x' * 100_000)"]).stdout
    assert len(printed) == 100_001


def test_command_killed_by_a_signal_has_its_number(any_kernel: str) -> None:
    assert kernels.run(any_kernel, ["sh", "-c", "kill -9 $$"]).exit_code == 137


def test_panic_is_an_error_with_the_console(any_kernel: str) -> None:
    with pytest.raises(kernels.KernelFailed, match="panicked") as caught:
        kernels.run(any_kernel, ["sh", "-c", "echo before; echo c >/proc/sysrq-trigger"])
    assert "sysrq triggered crash" in caught.value.console
    assert caught.value.stdout == "before\n"


def test_hang_is_an_error_when_its_time_is_up(any_kernel: str) -> None:
    with pytest.raises(kernels.KernelFailed, match="within 20 s") as caught:
        kernels.run(any_kernel, ["sh", "-c", "echo before; sleep 1000"], timeout_s=20)
    assert caught.value.stdout == "before\n"


def test_machine_switched_off_by_its_command_is_an_error(any_kernel: str) -> None:
    with pytest.raises(kernels.KernelFailed, match="ended before its command"):
        kernels.run(any_kernel, ["poweroff", "-f"])


def test_parameter_that_the_module_lacks_is_an_error(x86_kernel: str) -> None:
    with pytest.raises(UsageError, match="no parameter 'nonsense'"):
        kernels.run(x86_kernel, ["true"], module_parameters=["kvm_amd.nonsense=1"])
