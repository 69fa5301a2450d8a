"""Libvirt's files below a root made for the test."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kvmscope.errors import FormatError
from kvmscope.host.libvirt_files import domain_xml, read_domain, read_xml
from kvmscope.host.libvirt_xml import MAX_BYTES
from kvmscope.host.process import VmmProcess

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


def test_a_libvirt_of_a_user_keeps_the_running_state_in_the_users_runtime_directory(tmp_path: Path) -> None:
    folder = tmp_path / "run/user/1000/libvirt/qemu/run"
    folder.mkdir(parents=True)
    (folder / "vm.xml").write_bytes(b"<domain/>")
    assert read_xml("vm", root=str(tmp_path), uid=1000) == b"<domain/>"
    assert read_xml("vm", root=str(tmp_path), uid=1001) is None
    assert read_xml("vm", root=str(tmp_path)) is None


# --- libvirt in a container -------------------------------------------------------------------------------------------

PROCESS = VmmProcess(5, "qemu", "vm", None, "libvirt", "qemu-kvm", (), 1, (("libvirt.domain", "vm"),))


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with a process whose file system is another one than ours."""
    for who, mounts in (("5", "mnt:[2]"), ("self", "mnt:[1]")):
        (tmp_path / f"proc/{who}/ns").mkdir(parents=True)
        (tmp_path / f"proc/{who}/ns/mnt").symlink_to(mounts)
    (tmp_path / "container").mkdir()
    (tmp_path / "proc/5/root").symlink_to(tmp_path / "container")
    return tmp_path / "proc"


def write_xml(root: Path, directory: str, text: bytes) -> None:
    (root / directory).mkdir(parents=True, exist_ok=True)
    (root / directory / "vm.xml").write_bytes(text)


@pytest.mark.parametrize("directory", ["run/libvirt/qemu", "run/libvirt/qemu/run", "etc/libvirt/qemu"])
def test_libvirts_files_in_the_container_of_a_vm_are_its_own(directory: str, root: Path, proc: Path) -> None:
    write_xml(root / "container", directory, b"<domain type='kvm'/>")
    assert domain_xml(PROCESS, root=str(root), proc_root=str(proc)) == b"<domain type='kvm'/>"


def test_without_files_in_the_container_those_of_the_host_are_read(root: Path, proc: Path) -> None:
    assert domain_xml(PROCESS, root=str(root), proc_root=str(proc)) == (DATA / "running.xml").read_bytes()


def test_a_process_with_the_mounts_of_this_one_is_looked_up_by_the_root_alone(root: Path, proc: Path) -> None:
    write_xml(root / "container", "run/libvirt/qemu", b"<other/>")
    (proc / "5/ns/mnt").unlink()
    (proc / "5/ns/mnt").symlink_to("mnt:[1]")
    assert domain_xml(PROCESS, root=str(root), proc_root=str(proc)) == (DATA / "running.xml").read_bytes()


@pytest.mark.parametrize("link", ["run", "run/libvirt", "run/libvirt/qemu"])
def test_no_link_in_a_container_leads_out_of_it(link: str, tmp_path: Path, proc: Path) -> None:
    outside = tmp_path / "outside"
    write_xml(outside, "run/libvirt/qemu", b"<secret/>")
    place = tmp_path / "container" / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(outside / link)
    assert domain_xml(PROCESS, root=str(tmp_path / "nowhere"), proc_root=str(proc)) is None
    (tmp_path / "container" / "srv").mkdir()
    write_xml(tmp_path / "container/srv", "run/libvirt/qemu", b"<own/>")
    place.unlink()
    place.symlink_to(f"/srv/{link}")
    assert domain_xml(PROCESS, root=str(tmp_path / "nowhere"), proc_root=str(proc)) == b"<own/>"
