"""Libvirt's files below a root made for the test."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kvmscope.errors import FormatError
from kvmscope.host.libvirt_files import read_domain
from kvmscope.host.libvirt_xml import MAX_BYTES

DATA = Path(__file__).parents[1] / "data" / "host" / "libvirt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for directory, source in (("run/libvirt/qemu", "running.xml"), ("etc/libvirt/qemu", "defined.xml")):
        (tmp_path / directory).mkdir(parents=True)
        shutil.copy(DATA / source, tmp_path / directory / "vm.xml")
    return tmp_path


def test_the_running_state_goes_before_the_definition(root: Path) -> None:
    domain = read_domain("vm", root=str(root))
    assert domain is not None
    assert domain.is_running
    (root / "run/libvirt/qemu/vm.xml").unlink()
    domain = read_domain("vm", root=str(root))
    assert domain is not None
    assert not domain.is_running
    assert read_domain("another", root=str(root)) is None


@pytest.mark.parametrize("name", ["", "../../../etc/passwd", "a/b", "a\0b", "x" * 5000, "\ud800", "."])
def test_a_name_cannot_lead_elsewhere(name: str, root: Path) -> None:
    assert read_domain(name, root=str(root)) is None


def test_neither_a_link_nor_a_pipe_is_followed(root: Path) -> None:
    (root / "etc/libvirt/qemu/link.xml").symlink_to(root / "etc/libvirt/qemu/vm.xml")
    assert read_domain("link", root=str(root)) is None
    os.mkfifo(root / "etc/libvirt/qemu/pipe.xml")
    with pytest.raises(FormatError):
        read_domain("pipe", root=str(root))


def test_a_file_too_large_is_refused(root: Path) -> None:
    (root / "etc/libvirt/qemu/big.xml").write_bytes(b" " * (MAX_BYTES + 1))
    assert read_domain("big", root=str(root)) is None
