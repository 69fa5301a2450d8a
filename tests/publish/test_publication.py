"""Published files: what others find of them, that nobody can harm them, and that they end."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvmscope import publish
from kvmscope.codec import publication, statsfile
from kvmscope.publish import StatSet, Vm
from kvmscope.schema import Descriptor, Kind, Scope

VM_SET = StatSet("disk", Scope.VM, (Descriptor("requests", Kind.CUMULATIVE),))
VCPU_SET = StatSet("disk", Scope.VCPU, (Descriptor("kicks", Kind.CUMULATIVE),))
KVM_SET = StatSet("kvm", Scope.VM, (Descriptor("remote_tlb_flush", Kind.CUMULATIVE),))


def links() -> dict[str, Path]:
    """Published files of this process, by link text."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            text = str(link.readlink())
        except FileNotFoundError:
            continue
        if text.startswith("/memfd:kvmscope-v"):
            found[text.removesuffix(" (deleted)")] = link
    return found


@pytest.fixture
def vm() -> Iterator[Vm]:
    with publish.Vm("web-1", created_ns=123) as vm:
        yield vm


def test_the_link_shows_what_it_is(vm: Vm) -> None:
    vm.publish(VM_SET)
    vm.publish(VCPU_SET, vcpu=3)
    assert set(links()) == {"/memfd:kvmscope-vm-stats:disk:web-1", "/memfd:kvmscope-vcpu-stats:disk:web-1:3"}


@pytest.mark.parametrize("name", ["x" * 1024, "new\nline (deleted)", "\x1b[31m", "a/b", "", "ö\udcff"])
def test_odd_names_are_plain_in_the_link_and_whole_in_the_file(name: str) -> None:
    with publish.Vm(name) as vm:
        vm.publish(VCPU_SET, vcpu=2**31)
        ((link, path),) = links().items()
        assert set(link) <= set("/:_-.+") | set(map(chr, range(48, 123)))
        assert publication.parse(path.read_bytes()).vm == name


@pytest.mark.parametrize("name", [None, 7, b"web", "x" * 1025, "\ud800"])
def test_a_name_that_cannot_be_one_is_refused_at_once(name: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        publish.Vm(name)


@pytest.mark.parametrize("vcpu", [-1, 2**63, "0", 1.5])
def test_a_vcpu_that_cannot_be_one_is_refused(vm: Vm, vcpu: Any) -> None:
    with pytest.raises(ValueError, match="a vCPU has an id from 0"):
        vm.publish(VCPU_SET, vcpu=vcpu)
    assert links() == {}


def test_a_closed_vm_publishes_nothing_more(vm: Vm) -> None:
    vm.close()
    with pytest.raises(ValueError, match="the VM 'web-1' is closed"):
        vm.publish(VM_SET)
    assert links() == {}


def test_the_file_says_whose_it_is(vm: Vm) -> None:
    vm.publish(VM_SET)
    ((_, path),) = links().items()
    about = publication.parse(path.read_bytes())
    start = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    assert about == publication.PublicationBlock("disk", "web-1", vm.key, owner_start=start, created_ns=123)
    assert statsfile.parse(path.read_bytes()).description.id == f"disk-{os.getpid()}"


def test_readers_see_updates_as_they_are_made(vm: Vm) -> None:
    published = vm.publish(VM_SET)
    ((_, path),) = links().items()
    cell = published.cell("requests")
    assert isinstance(cell, publish.cells.CounterCell)
    cell.add(2**40)
    assert statsfile.parse(path.read_bytes())["requests"] == 2**40
    published.words[:] = np.array([7], dtype=np.uint64)
    assert statsfile.parse(path.read_bytes())["requests"] == 7


def test_nobody_can_resize_or_write_the_file(vm: Vm) -> None:
    vm.publish(VM_SET)
    ((_, path),) = links().items()
    fd = os.open(path, os.O_RDWR)
    try:
        for size in (0, 10**6):
            with pytest.raises(OSError) as caught:
                os.ftruncate(fd, size)
            assert caught.value.errno == errno.EPERM
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            mmap.mmap(fd, 8)
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    finally:
        os.close(fd)


def test_closing_leaves_no_file_and_breaks_no_writer(vm: Vm) -> None:
    published = vm.publish(VM_SET)
    ((_, path),) = links().items()
    reader = os.open(path, os.O_RDONLY)
    cell = published.cell("requests")
    assert isinstance(cell, publish.cells.CounterCell)
    cell.add(5)
    vm.close()
    cell.add(6)
    try:
        left = os.pread(reader, 10**6, 0)
    finally:
        os.close(reader)
    assert not publication.parse(left).live
    assert statsfile.parse(left)["requests"] == 5
    assert links() == {}
    with pytest.raises(ValueError, match="closed"):
        _ = published.words
    vm.close()


def test_a_kept_view_of_the_words_outlives_the_publication(vm: Vm) -> None:
    words = vm.publish(VM_SET).words
    vm.close()
    words[0] = 9
    assert words[0] == 9


def test_only_a_simulated_vm_may_call_itself_kvm(vm: Vm) -> None:
    with pytest.raises(ValueError, match="only a simulated VM"):
        vm.publish(KVM_SET)
    with publish.Vm("web-1", simulated=True) as simulated:
        simulated.publish(KVM_SET)
        ((_, path),) = links().items()
        assert publication.parse(path.read_bytes()).simulated
        assert statsfile.parse(path.read_bytes()).description.id == f"simulated:kvm-{os.getpid()}"


def test_the_budget_of_a_vm_is_of_all_that_is_published_for_one_subject() -> None:
    more = StatSet("net", Scope.VCPU, (Descriptor("packets", Kind.LOG_HISTOGRAM, size=3),))
    with publish.Vm("web-1", budget=publish.Budget(vcpu=24)) as vm:
        vm.publish(VM_SET)
        for vcpu in range(3):
            first = vm.publish(VCPU_SET, vcpu=vcpu)
        with pytest.raises(ValueError, match="32 bytes of stats for each vCPU, where 24 may be") as caught:
            vm.publish(more, vcpu=2)
        assert str(caught.value).split()[-4:] == ["24", "net.packets", "8", "disk.kicks"]
        first.close()
        vm.publish(more, vcpu=2)


def test_an_fd_to_hand_out_can_be_read_and_not_written(vm: Vm) -> None:
    published = vm.publish(VM_SET)
    fd = published.open_fd()
    try:
        published.words[0] = 7
        assert statsfile.parse(os.pread(fd, 10**6, 0))["requests"] == 7
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            mmap.mmap(fd, 8)
    finally:
        os.close(fd)
    published.close()
    with pytest.raises(ValueError, match="no file"):
        published.open_fd()
