"""The stats file codec on the files of this host's kernel, from a VM and two vCPUs made for the purpose."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kvmscope.codec.statsfile import Description, encode, parse, parse_description, violations
from kvmscope.errors import FormatError
from kvmscope.schema import Kind

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm")]

# include/uapi/linux/kvm.h, as encoded on every architecture but powerpc and mips
KVM_CREATE_VM = 0xAE01
KVM_CREATE_VCPU = 0xAE41
KVM_GET_STATS_FD = 0xAECE

MORE_THAN_ANY_FILE = 1 << 20


@pytest.fixture
def stats_fds() -> Iterator[dict[str, int]]:
    """Stats fds of a VM and of its vCPUs 0 and 5, none of which ever runs."""
    with ExitStack() as opened:

        def owned(fd: int) -> int:
            opened.callback(os.close, fd)
            return fd

        kvm = owned(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        vm = owned(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
        fds = {"vm": owned(fcntl.ioctl(vm, KVM_GET_STATS_FD, 0))}
        for number in (0, 5):
            vcpu = owned(fcntl.ioctl(vm, KVM_CREATE_VCPU, number))
            fds[f"vcpu-{number}"] = owned(fcntl.ioctl(vcpu, KVM_GET_STATS_FD, 0))
        yield fds


@pytest.fixture
def files(stats_fds: dict[str, int]) -> dict[str, bytes]:
    return {name: os.pread(fd, MORE_THAN_ANY_FILE, 0) for name, fd in stats_fds.items()}


def test_live_files_keep_every_promise_of_the_interface(files: dict[str, bytes]) -> None:
    for data in files.values():
        file = parse(data)
        assert violations(file.description) == []
        assert file.description.byteorder == sys.byteorder
        assert file.description.descriptors
        assert len(file.data) % 8 == 0


def test_live_files_are_written_byte_for_byte(files: dict[str, bytes]) -> None:
    for data in files.values():
        assert encode(parse(data)) == data


def test_live_ids_name_the_thread_that_made_the_object_and_the_vcpu(files: dict[str, bytes]) -> None:
    ids = {name: parse(data).description.id for name, data in files.items()}
    assert re.fullmatch(r"kvm-\d+", ids["vm"])  # the thread as the first pid namespace numbers it, so not ours to know
    assert ids["vcpu-0"] == ids["vm"] + "/vcpu-0"
    assert ids["vcpu-5"] == ids["vm"] + "/vcpu-5"


def test_every_value_is_what_a_read_of_its_word_alone_gives(stats_fds: dict[str, int]) -> None:
    for fd in stats_fds.values():
        file = parse(os.pread(fd, MORE_THAN_ANY_FILE, 0))
        for descriptor in file.description.descriptors:
            at = file.description.data_offset + descriptor.offset
            alone = struct.unpack(f"={descriptor.size}Q", os.pread(fd, 8 * descriptor.size, at))
            value = file[descriptor.name]
            assert (value if isinstance(value, tuple) else (value,)) == alone


def test_live_booleans_are_0_or_1(files: dict[str, bytes]) -> None:
    for data in files.values():
        file = parse(data)
        booleans = [d for d in file.description.descriptors if d.is_boolean and d.kind is Kind.INSTANT and d.size == 1]
        assert all(isinstance(file[d.name], bool) for d in booleans)


def test_all_vcpus_share_one_schema(files: dict[str, bytes]) -> None:
    def table(data: bytes) -> tuple[object, ...]:
        description: Description = parse_description(data)
        return description.descriptors, description.data_offset, description.name_size

    assert table(files["vcpu-0"]) == table(files["vcpu-5"]) != table(files["vm"])


def test_a_live_file_cut_anywhere_is_damaged(files: dict[str, bytes]) -> None:
    for data in files.values():
        for length in range(0, len(data), 7):
            with pytest.raises(FormatError):
                parse(data[:length])
