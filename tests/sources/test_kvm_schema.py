"""The schemas of the running kernel: from real stats files, and why there may be none."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kvmscope.errors import FormatError, PermissionNeeded, SourceError, Unavailable
from kvmscope.schema import Scope
from kvmscope.sources.kvm_schema import PROVIDER, KvmSchemas, read_kvm_schemas

CAPTURED = Path(__file__).parent.parent / "data" / "statsfile"
VM, VCPU = ((CAPTURED / f"x86-6.18-{scope}.bin").read_bytes() for scope in ("vm", "vcpu"))


def test_two_stats_files_describe_vms_and_vcpus() -> None:
    schemas = KvmSchemas.from_files(VM, VCPU)
    assert (schemas.vm.provider, schemas.vm.scope) == (PROVIDER, Scope.VM)
    assert (schemas.vcpu.provider, schemas.vcpu.scope) == (PROVIDER, Scope.VCPU)
    assert "remote_tlb_flush" in schemas.vm
    assert "exits" in schemas.vcpu
    assert schemas.files == (VM, VCPU)
    assert KvmSchemas.from_files(*schemas.files) == schemas


@pytest.mark.parametrize(("vm", "vcpu"), [(b"", VCPU), (VM, b""), (VM[:20], VCPU), (VM, VCPU[: len(VCPU) // 2])])
def test_what_is_no_stats_file_is_a_format_error(vm: bytes, vcpu: bytes) -> None:
    with pytest.raises(FormatError):
        KvmSchemas.from_files(vm, vcpu)


def test_without_the_device_it_says_what_would_help(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no") as caught:
        read_kvm_schemas(str(tmp_path / "kvm"))
    assert caught.value.remedy
    assert caught.value.path == str(tmp_path / "kvm")


def test_a_device_that_is_something_else_is_unavailable_and_nothing_stays_open(tmp_path: Path) -> None:
    (tmp_path / "kvm").touch()
    opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for place in (tmp_path / "kvm", Path("/dev/null"), tmp_path):
        with pytest.raises(Unavailable) as caught:
            read_kvm_schemas(str(place))
        assert caught.value.path == str(place)
    assert len(os.listdir("/proc/self/fd")) == opened  # noqa: PTH208


def test_a_device_of_a_driver_that_is_not_loaded_is_unavailable(tmp_path: Path) -> None:
    place = tmp_path / "kvm"
    try:
        os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(10, 250))
        with pytest.raises(SourceError) as caught:
            read_kvm_schemas(str(place))
    except PermissionError:
        pytest.skip("making a device needs CAP_MKNOD")
    # A file system that was mounted nodev refuses to open any device.
    assert isinstance(caught.value, PermissionNeeded | Unavailable)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_device_that_may_not_be_opened_needs_permission(tmp_path: Path) -> None:
    place = tmp_path / "kvm"
    place.touch(mode=0)
    with pytest.raises(PermissionNeeded, match="may not be opened") as caught:
        read_kvm_schemas(str(place))
    assert "root" in caught.value.remedy


@pytest.mark.needs("kvm")
def test_the_running_kernel_describes_itself_and_keeps_nothing() -> None:
    opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    schemas = read_kvm_schemas()
    again = read_kvm_schemas()
    assert len(os.listdir("/proc/self/fd")) == opened  # noqa: PTH208
    assert schemas.vm.descriptors
    assert schemas.vcpu.descriptors
    # The id strings in the files have the process and fd of the VM in them; what they describe is the same.
    assert (again.vm, again.vcpu) == (schemas.vm, schemas.vcpu)
    for schema in (schemas.vm, schemas.vcpu):
        assert all(d.offset + 8 * d.size <= schema.data_size for d in schema.descriptors)
