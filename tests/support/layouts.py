"""Real KVM processes as managers lay them out: program names, command lines, cgroups and namespaces.

A guest is a QEMU whose firmware halts, or for command lines that QEMU does not take a process that makes a VM. Cgroups
are made below the unified hierarchy and removed with the guest.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvmscope.lab.qemu import rom_image
from kvmscope.linux.cgroups import find_unified
from kvmscope.linux.kvmfiles import FdKind, look_at

DEADLINE_S = 60.0
QEMU = "qemu-system-x86_64"
HOLDER = """
import sys
from kvmscope.lab.kvm import Kvm
with Kvm() as kvm, kvm.create_vm() as vm:
    with vm.create_vcpu(0):
        sys.stdin.read()
"""
"""A process with a VM, until its standard input ends."""


@dataclass(frozen=True)
class VmLayout:
    """How a manager starts a VM. ``argv``: the command line from its first word on. ``executable``: what is executed;
    None for a process that has a VM and takes any command line. ``namespaces``: options of unshare. ``is_upgraded``:
    the executable is deleted after the start. ``has_firmware``: it boots QEMU's own firmware, and halts not at once."""

    argv: Sequence[str]
    executable: str | None = QEMU
    cgroup: str | None = None
    namespaces: Sequence[str] = ()
    is_upgraded: bool = False
    has_firmware: bool = False


@dataclass(frozen=True)
class LaidOutGuest:
    """A running one. ``pid``: of the process that has the VM, as this namespace sees it."""

    layout: VmLayout
    pid: int


@contextmanager
def guest_of(layout: VmLayout, folder: Path, files: Mapping[Path, str] = {}) -> Iterator[LaidOutGuest]:
    """Starts it in a folder with these files, waits for its vCPU, and ends it."""
    folder.mkdir(parents=True)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(text, encoding="utf-8")
    with ExitStack() as ends:
        log = ends.enter_context((folder / "log").open("wb"))
        command = _command(layout, folder)
        # Python looks for its packages beside what it is called.
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        started = subprocess.Popen(command, cwd=folder, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log)
        ends.callback(_end, started)
        pid = _pid_with_vcpu(started, folder)
        if layout.is_upgraded:
            _copy_of(folder).unlink()
        if layout.cgroup is not None:
            ends.enter_context(_in_cgroup(layout.cgroup, pid, started))
        yield LaidOutGuest(layout, pid)


def _command(layout: VmLayout, folder: Path) -> list[str]:
    found = sys.executable if layout.executable is None else shutil.which(layout.executable)
    assert found is not None, f"{layout.executable} is not installed"
    program = shutil.copy(found, _copy_of(folder)) if layout.is_upgraded else Path(found)
    name, *rest = layout.argv
    options = (
        [str(_holder_in(folder)), *rest] if layout.executable is None else [*rest, *_guest_options(layout, folder)]
    )
    as_named = ["bash", "-c", 'exec -a "$0" "$@"', name, str(program), *options]
    return ["unshare", "--fork", "--kill-child", *layout.namespaces, *as_named] if layout.namespaces else as_named


def _copy_of(folder: Path) -> Path:
    return folder / "qemu-kvm"


def _holder_in(folder: Path) -> Path:
    path = folder / "holder.py"
    path.write_text(HOLDER, encoding="utf-8")
    return path


def _guest_options(layout: VmLayout, folder: Path) -> list[str]:
    """A guest without devices; if not for the firmware, one that halts at once and stays so."""
    common = ["-nodefaults", "-display", "none", "-accel", "kvm"]
    if layout.has_firmware:
        return [*common, "-m", "64"]
    rom = folder / "rom"
    rom.write_bytes(rom_image(0))
    return [*common, "-m", "16", "-bios", str(rom)]


def _pid_with_vcpu(started: subprocess.Popen[bytes], folder: Path) -> int:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        for pid in (started.pid, *_children(started.pid)):
            holder = look_at(pid)
            if holder is not None and holder.of(FdKind.VCPU):
                return pid
        log = (folder / "log").read_text(errors="replace")
        assert started.poll() is None, f"it ended: {log}"
        assert time.monotonic() < deadline, f"it made no vCPU: {log}"
        time.sleep(0.02)


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


@contextmanager
def _in_cgroup(path: str, pid: int, started: subprocess.Popen[bytes]) -> Iterator[None]:
    hierarchy = find_unified()
    if hierarchy is None:
        pytest.skip("no unified hierarchy of cgroups")
    made: list[Path] = []
    folder = Path(hierarchy.place)
    try:
        for part in path.strip("/").split("/"):
            folder /= part
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
        (folder / "cgroup.procs").write_text(str(pid), encoding="ascii")
        yield
    except PermissionError as error:
        pytest.skip(f"no cgroup can be made here: {error.strerror}")
    finally:
        _end(started)
        for each in reversed(made):
            _remove(each)


def _remove(folder: Path) -> None:
    """A cgroup stays busy for a moment after its last process ended."""
    deadline = time.monotonic() + DEADLINE_S
    while folder.exists():
        with contextlib.suppress(OSError):
            folder.rmdir()
        assert time.monotonic() < deadline, f"{folder} stays busy"
        time.sleep(0.01)


def _end(started: subprocess.Popen[bytes]) -> None:
    if started.stdin is not None:
        started.stdin.close()
    for pid in reversed(_children(started.pid)):
        subprocess.run(["kill", "-KILL", str(pid)], check=False, capture_output=True)
    if started.poll() is None:
        started.kill()
    started.wait()
