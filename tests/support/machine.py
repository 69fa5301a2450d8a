"""The ``needs`` marker, and a header that prints the environment.

``@pytest.mark.needs("kvm", "bpf")`` skips a test with a reason where the machine lacks a thing;
KVMSCOPE_REQUIRE=kvm,bpf turns those skips into failures, so that CI cannot pass by skipping what its machine has.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings


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


NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


def _nobody() -> str | None:
    if os.geteuid() != 0:
        return "becoming an unprivileged user needs root"
    if shutil.which("setpriv") is None:
        return "setpriv is not installed"
    # Run as by an installed program: a checkout or interpreter below /root is out of reach of other users.
    started = subprocess.run(
        [*NOBODY, sys.executable, "-c", "import kvmscope"], capture_output=True, check=False, cwd="/"
    )
    return None if started.returncode == 0 else f"an unprivileged user may not run {sys.executable} with kvmscope"


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
    "tmux": _program("tmux"),
    "unshare": _program("unshare"),
    "libvirtd": _program("libvirtd"),
    "nobody": _nobody,
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
    # Whoever starts the tests in the background (`make test &`, nohup) may have SIGINT ignored, and programs under test
    # would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A law holds or does not; how long an example took says what else this machine had to do.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")
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


@pytest.fixture(scope="module")
def favoured() -> Iterator[None]:
    """The test, and the guests that it starts, before whatever else wants this machine's CPUs; needs CAP_SYS_NICE.

    Two vCPUs meet only while both run, and rates of a guest are those that it gets CPU time for. Where the kernel
    groups tasks by session (sched_autogroup), nice values compare tasks of one session, so the session gets one too.
    """
    before, session = os.getpriority(os.PRIO_PROCESS, 0), _session_nice()
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _FAVOURED)
        _set_session_nice(_FAVOURED)
    yield
    os.setpriority(os.PRIO_PROCESS, 0, before)
    if session is not None:
        _set_session_nice(session)


_FAVOURED = -15
_AUTOGROUP = Path("/proc/self/autogroup")


def _session_nice() -> int | None:
    """The nice value of this session; None if the kernel does not group tasks by session."""
    said = _AUTOGROUP.read_text() if _AUTOGROUP.exists() else ""
    return int(said.split()[-1]) if said.strip() else None


def _set_session_nice(nice: int) -> None:
    if _session_nice() is not None:
        _AUTOGROUP.write_text(str(nice))


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
