from __future__ import annotations

import json
import re
import socket
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmscope.host.process import OTHER, VmmProcess
from kvmscope.host.text import printable
from kvmscope.host.vmm import identify, vcpu_threads
from kvmscope.linux.kvmfiles import FdKind, look_at

Build = Callable[[int, dict[str, Any]], str]
Spawn = Callable[..., "subprocess.Popen[bytes]"]
Eventually = Callable[[Callable[[], bool]], None]

FIXTURES = sorted((Path(__file__).parents[1] / "data" / "host" / "processes").glob("*.toml"))
WAITING_SHELL = ["-c", "read line; exec sleep 1000"]


def test_there_are_enough_command_lines_to_learn_from() -> None:
    assert len(FIXTURES) >= 30


@pytest.mark.parametrize("path", FIXTURES, ids=[path.stem for path in FIXTURES])
def test_a_process_is_taken_for_what_it_is(path: Path, build_process: Build) -> None:
    facts = tomllib.loads(path.read_text())
    expected = facts["expect"]
    root = build_process(4001, facts)
    assert identify(4001, proc_root=root) == VmmProcess(
        pid=4001,
        vmm=expected["vmm"],
        name=expected.get("name"),
        uuid=expected.get("uuid"),
        managed_by=expected.get("managed_by"),
        command=expected["command"],
        argv=tuple(facts["argv"]),
        start_ticks=4242,
        known_as=tuple(expected.get("known_as", {}).items()),
        clue=expected.get("clue"),
    )
    threads = {int(vcpu): tid for vcpu, tid in expected.get("vcpu_threads", {}).items()}
    assert vcpu_threads(4001, proc_root=root) == threads


def test_a_process_that_is_gone_is_none(spawn: Spawn) -> None:
    child = spawn(["true"])
    child.wait()
    assert identify(child.pid) is None
    assert vcpu_threads(child.pid) == {}


def test_a_process_without_a_name_goes_by_its_command(spawn: Spawn, eventually: Eventually) -> None:
    child = spawn(["sleep", "1000"])
    eventually(lambda: (found := identify(child.pid)) is not None and found.argv == ("sleep", "1000"))
    found = identify(child.pid)
    assert found is not None
    assert (found.vmm, found.name, found.title) == (OTHER, None, "sleep")


@pytest.mark.parametrize(
    ("argv", "kind", "name"),
    [
        (["firecracker", "--id"], "firecracker", None),
        (["firecracker", "--id", ""], "firecracker", None),
        (["qemu-system-x86_64", "-name"], "qemu", None),
        (["qemu-system-x86_64", "-name", "debug-threads=on"], "qemu", None),
        (["qemu-kvm", "-name", "{web}"], "qemu", "{web}"),
        (["qemu-img", "convert", "-name", "x"], "other", None),
        (["qemu-nbd", "disk"], "other", None),
        (["vm", "list"], "other", None),
        (["lkvm", "run", "-k", "x", "-d", "rootfs"], "kvmtool", None),
        (["crosvm", "run", "-s", "/run/vm/vm.Ab12/crosvm.sock"], "crosvm", "vm.Ab12"),
        (["crosvm", "run", "vmlinux"], "crosvm", None),
        (["cloud-hypervisor", "--api-socket", "/run/web2.sock"], "cloud-hypervisor", "web2"),
        (["cloud-hypervisor", "--api-socket", "/"], "cloud-hypervisor", None),
        (["python3", "-m", "kvmscope.lab.process"], "kvmscope-lab", None),
        (["krunvm", "start"], "libkrun", None),
        (["\x1b[2J"], "other", None),
        ([""], "other", None),
    ],
)
def test_odd_command_lines(argv: list[str], kind: str, name: str | None, build_process: Build) -> None:
    found = identify(5, proc_root=build_process(5, {"argv": argv}))
    assert found is not None
    assert (found.vmm, found.name) == (kind, name)


def test_a_uuid_that_is_none_is_not_reported(build_process: Build) -> None:
    root = build_process(5, {"argv": ["qemu-kvm", "-uuid", "\x1b]0;x\x07"]})
    found = identify(5, proc_root=root)
    assert found is not None
    assert found.uuid is None


# --- vCPU threads -----------------------------------------------------------------------------------------------------

QEMU_THREADS = {"100": "qemu-system-x86", "101": "CPU 0/KVM", "102": "CPU 1/KVM", "103": "CPU 2/KVM"}


def test_without_the_right_to_see_files_qemus_thread_numbers_are_not_taken_for_vcpu_ids(build_process: Build) -> None:
    root = build_process(100, {"threads": QEMU_THREADS})
    Path(root, "100", "fd").rename(f"{root}/100/hidden")
    assert vcpu_threads(100, proc_root=root) == {}


def test_unplugged_vcpus_make_the_threads_ambiguous(build_process: Build) -> None:
    fds = {str(10 + i): f"anon_inode:kvm-vcpu:{i}" for i in range(4)}
    assert vcpu_threads(100, proc_root=build_process(100, {"threads": QEMU_THREADS, "fds": fds})) == {}


def test_two_vms_in_one_process_make_the_threads_ambiguous(build_process: Build) -> None:
    threads = {"100": "vmm", "101": "fc_vcpu 0", "102": "fc_vcpu 0"}
    assert vcpu_threads(100, proc_root=build_process(100, {"threads": threads})) == {}


# --- real VMMs --------------------------------------------------------------------------------------------------------

EVIL_NAME = "evil\x1b]0;owned\x07 \u202ename,x"


def monitor(path: Path, *commands: str) -> list[Any]:
    """The answers of a QEMU to QMP commands; the socket must take connections already."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        stream = connection.makefile("rw")
        stream.readline()
        answers = []
        for command in ("qmp_capabilities", *commands):
            stream.write(json.dumps({"execute": command}) + "\n")
            stream.flush()
            while "return" not in (answer := json.loads(stream.readline())):
                assert "error" not in answer
            answers.append(answer["return"])
        return answers[1:]


def is_listening(path: Path) -> bool:
    """The socket's file is there a moment before anybody listens, and a listening one is in state 01 with a flag."""
    listening = "00010000"
    return any(
        line.endswith(f" {path}") and listening in line for line in Path("/proc/net/unix").read_text().splitlines()
    )


def qemu_argv(socket_path: Path, *words: str) -> list[str]:
    machine = ["-S", "-display", "none", "-nodefaults", "-m", "16", "-qmp", f"unix:{socket_path},server,nowait"]
    return ["qemu-system-x86_64", *machine, *words]


@pytest.mark.needs("qemu")
def test_a_running_qemu_is_known_by_name_and_uuid(spawn: Spawn, eventually: Eventually, tmp_path: Path) -> None:
    socket_path = tmp_path / "qmp"
    name = EVIL_NAME.replace(",", ",,")
    words = [
        "-accel",
        "tcg",
        "-name",
        f"guest={name},debug-threads=on",
        "-uuid",
        "6C1F9A1E-33AA-4D6F-9A8E-0F5A3C2B1D00",
    ]
    child = spawn(qemu_argv(socket_path, *words))
    eventually(lambda: is_listening(socket_path))
    found = identify(child.pid)
    assert found is not None
    qemu_name, qemu_uuid = monitor(socket_path, "query-name", "query-uuid")
    assert (found.vmm, found.name, found.uuid) == ("qemu", qemu_name["name"], qemu_uuid["UUID"])
    assert found.name == EVIL_NAME
    assert printable(found.name) == "evil\\x1b]0;owned\\x07 \\u202ename,x"
    assert vcpu_threads(child.pid) == {}  # TCG's threads are no vCPUs of KVM


@pytest.mark.live
@pytest.mark.needs("qemu", "kvm")
def test_vcpu_threads_of_a_running_qemu_go_by_apic_id(spawn: Spawn, eventually: Eventually, tmp_path: Path) -> None:
    socket_path = tmp_path / "qmp"
    topology = ["-smp", "6,sockets=2,cores=3,threads=1", "-name", "t,debug-threads=on"]
    child = spawn(qemu_argv(socket_path, "-accel", "kvm", "-cpu", "qemu64", *topology))
    eventually(lambda: is_listening(socket_path))
    (cpus,) = monitor(socket_path, "query-cpus-fast")
    # Three cores need two bits of the APIC id.
    expected = {4 * cpu["props"]["socket-id"] + cpu["props"]["core-id"]: cpu["thread-id"] for cpu in cpus}
    assert sorted(expected) == [0, 1, 2, 4, 5, 6]
    assert vcpu_threads(child.pid) == expected
    holder = look_at(child.pid)
    assert len(holder.of(FdKind.VM)) == 1
    assert sorted(fd.vcpu_id for fd in holder.of(FdKind.VCPU) if fd.vcpu_id is not None) == sorted(expected)


def test_every_vmm_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "vmms.md").read_text()
    kinds = {tomllib.loads(path.read_text())["expect"]["vmm"] for path in FIXTURES}
    managers = {tomllib.loads(path.read_text())["expect"].get("managed_by") for path in FIXTURES} - {None}
    assert kinds <= set(re.findall(r"`([a-z-]+)`", page))
    assert managers <= set(re.findall(r"`([a-z-]+)`", page))
