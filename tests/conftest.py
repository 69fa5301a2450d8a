"""What every test shares: the ``needs`` marker, and a header that prints the environment.

``@pytest.mark.needs("kvm", "bpf")`` skips a test with a reason where the machine lacks a thing;
KVMSCOPE_REQUIRE=kvm,bpf turns those skips into failures, so that CI cannot pass by skipping what its machine has.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["crafted"]


def _kvm() -> str | None:
    return None if os.access("/dev/kvm", os.R_OK | os.W_OK) else "/dev/kvm cannot be opened"


def _bpf() -> str | None:
    if os.geteuid() != 0:
        return "loading BPF needs root"
    if ctypes.util.find_library("bpf") is None:
        return "libbpf1 is not installed"
    return None if Path("/sys/kernel/btf/vmlinux").exists() else "this kernel has no BTF"


def _program(name: str) -> Callable[[], str | None]:
    return lambda: None if shutil.which(name) else f"{name} is not installed"


def _module(name: str) -> Callable[[], str | None]:
    return lambda: None if importlib.util.find_spec(name) else f"Python's {name} is not installed"


def _sources() -> str | None:
    from kvmscope.lab.kernels import cache_folder

    missing = [series for series in ("6.1", "6.12") if not (cache_folder().with_name("sources") / series).exists()]
    return f"no kernel sources of {' and '.join(missing)} here: make check-kernels gets them" if missing else None


THINGS: dict[str, Callable[[], str | None]] = {
    "kvm": _kvm,
    "bpf": _bpf,
    "root": lambda: None if os.geteuid() == 0 else "needs root",
    "qemu": _program("qemu-system-x86_64"),
    "clang": _program("clang-14"),
    "binutils": _program("objcopy"),
    "gcc": _program("gcc"),
    "setpriv": _program("setpriv"),
    "unshare": _program("unshare"),
    "atheris": _module("atheris"),
    "qmp": _module("qemu.qmp"),
    "kernels": lambda: None,  # tests/kernels/conftest.py sees to it
    "sources": _sources,
}


@cache
def missing(thing: str) -> str | None:
    """Why this machine lacks a thing; None if it has it."""
    return THINGS[thing]()


def required() -> frozenset[str]:
    return frozenset(filter(None, os.environ.get("KVMSCOPE_REQUIRE", "").split(",")))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"needs(*things): skipped where the machine lacks one of {', '.join(THINGS)}")
    if unknown := required() - THINGS.keys():
        raise pytest.UsageError(f"KVMSCOPE_REQUIRE names {', '.join(unknown)}; there are {', '.join(THINGS)}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for thing in marker.args:
            reason = missing(thing)
            if reason is None:
                continue
            if thing in required():
                pytest.fail(f"KVMSCOPE_REQUIRE has {thing}, but {reason}")
            pytest.skip(reason)


def pytest_report_header() -> list[str]:
    modules = sorted(path.name for path in Path("/sys/module").glob("kvm*"))
    absent = [f"{thing} ({reason})" for thing in THINGS if (reason := missing(thing))]
    return [
        f"kernel: {platform.release()} {platform.machine()}, {', '.join(modules) or 'no kvm module'}",
        f"lockdown: {_lockdown()}; uid {os.geteuid()}; {_version('qemu-system-x86_64')}",
        f"missing: {', '.join(absent) or 'nothing'}; required: {', '.join(sorted(required())) or 'nothing'}",
    ]


def _lockdown() -> str:
    try:
        return Path("/sys/kernel/security/lockdown").read_text(encoding="ascii").strip()
    except OSError:
        return "not readable"


def _version(program: str) -> str:
    if shutil.which(program) is None:
        return f"no {program}"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


# Process trees as /proc shows them, built from a few facts, and real processes that end with their test.

BuildProcess = Callable[[int, dict[str, Any]], str]
Spawn = Callable[..., "subprocess.Popen[bytes]"]

DEADLINE_S = 20.0


@pytest.fixture
def build_process(tmp_path: Path) -> BuildProcess:
    """Writes one process below a fresh /proc and returns that root; see tests/data/host/README.md for the facts."""
    root = tmp_path / "proc"

    def build(pid: int, facts: dict[str, Any]) -> str:
        home = root / str(pid)
        home.mkdir(parents=True)
        argv: list[str] = facts.get("argv", [])
        comm: str = facts.get("comm", "process")
        start: int = facts.get("start_ticks", 4242)
        (home / "cmdline").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in argv))
        (home / "stat").write_text(f"{pid} ({comm}) S 1 {pid} {pid} 0 -1" + " 0" * 13 + f" {start}" + " 0" * 30 + "\n")
        (home / "cgroup").write_text("".join(f"{line}\n" for line in facts.get("cgroup", ["0::/"])))
        ns_pids = "\t".join(str(n) for n in facts.get("ns_pids", [pid]))
        (home / "status").write_text(f"Name:\t{comm}\nTgid:\t{pid}\nUid:\t0\t107\t107\t107\nNSpid:\t{ns_pids}\n")
        maps = facts.get("maps", [])
        (home / "maps").write_text("".join(f"7f00-7f01 r-xp 00000000 fe:00 99   {path}\n" for path in maps))
        for tid, name in (facts.get("threads") or {pid: comm}).items():
            task = home / "task" / str(tid)
            task.mkdir(parents=True)
            (task / "comm").write_text(f"{name}\n")
        (home / "fd").mkdir()
        for fd, target in facts.get("fds", {}).items():
            (home / "fd" / str(fd)).symlink_to(target)
        return str(root)

    return build


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts processes like subprocess.Popen does, and ends each by its pid after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = subprocess.Popen(*args, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Waits until a condition holds; fails the test if it never does."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "the condition never held"
            time.sleep(0.005)

    return wait
