"""What /dev/kvm refuses comes out as the error that says whose fault it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmscope.errors import PermissionNeeded, SourceError, Unavailable
from kvmscope.lab.kvm import Kvm

NOBODY = 65534


def test_a_host_without_kvm_is_unavailable_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no") as caught:
        Kvm(tmp_path / "kvm")
    assert caught.value.remedy
    assert caught.value.path == str(tmp_path / "kvm")


@pytest.fixture
def _nobody() -> Iterator[None]:
    """Not root for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(user)


@pytest.mark.usefixtures("_nobody")
def test_a_device_of_others_needs_permission() -> None:
    with pytest.raises(PermissionNeeded) as caught:
        Kvm(Path("/proc/1/mem"))
    assert "root" in caught.value.remedy


def test_something_that_is_not_kvm_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="is not KVM's device"):
        Kvm(Path("/dev/null"))


@pytest.mark.live
@pytest.mark.needs("kvm")
def test_closing_a_vm_gives_back_every_fd_and_mapping() -> None:
    with Kvm() as api:
        fds, maps = fds_and_maps()
        with api.create_vm() as vm:
            vm.set_memory(1 << 20)
            for vcpu_id in (0, 7):
                vm.create_vcpu(vcpu_id).request_exit()
            assert fds_and_maps() != (fds, maps)
        assert fds_and_maps() == (fds, maps)


@pytest.mark.live
@pytest.mark.needs("kvm")
def test_a_refused_ioctl_names_itself_and_its_errno() -> None:
    with Kvm() as api, api.create_vm() as vm:
        vm.create_vcpu(0)
        with pytest.raises(SourceError, match="KVM_CREATE_VCPU") as caught:
            vm.create_vcpu(0)
        assert caught.value.errno is not None


def fds_and_maps() -> tuple[list[str], int]:
    # The listing's own fd is gone by the time that it is looked at.
    fds = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    maps = sum("kvm" in line or "zero" in line for line in Path("/proc/self/maps").read_text().splitlines())
    return sorted(fds), maps
