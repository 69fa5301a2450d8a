"""Tests inside emulated kernels. They take a minute and a download, so they run when ``KVMSCOPE_KERNELS`` asks:
``all``, or names like ``6.1,6.12`` (``make test-kernels``).

A kernel that cannot be had is skipped by name; with ``kernels`` in ``KVMSCOPE_REQUIRE`` it is a failure.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kvmscope.errors import Unavailable
from kvmscope.lab import kernels
from kvmscope.lab.kernel_catalog import find_kernel

INSIDE = Path(__file__).with_name("inside")
RULES_KERNEL = "6.1"
"""The one on which rules are shown: what they make of its statistics does not depend on which kernel has them."""
PREEMPTIBLE_KERNEL = "6.12"
"""One that can be told at boot to be preemptible in kernel code."""
BOOT_DEADLINE_S = 1800
"""A boot and its scripts take one to three minutes; ten were not enough with ten other programs at work."""
_CALL = re.compile(r'\binside\(\s*\w+,\s*"(\w+)"')


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    of_rules = tuple(name for name in _x86() if name == RULES_KERNEL)
    for fixture, names in (
        ("kernel", _chosen()),
        ("x86_kernel", _x86()),
        ("rules_kernel", of_rules),
        ("preemptible_kernel", tuple(name for name in _x86() if name == PREEMPTIBLE_KERNEL)),
        ("any_kernel", _chosen()[:1]),
    ):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, names, indirect=True, scope="session")


def _chosen() -> tuple[str, ...]:
    """The kernels that are asked for; all, to be skipped by name, if none is."""
    asked = os.environ.get("KVMSCOPE_KERNELS", "all")
    return kernels.kernel_names() if asked == "all" else tuple(find_kernel(name).name for name in asked.split(","))


def _x86() -> tuple[str, ...]:
    return tuple(name for name in _chosen() if find_kernel(name).has_apicv)


@pytest.fixture(scope="session")
def kernel(request: pytest.FixtureRequest) -> str:
    """The name of a kernel that is ready to boot, each in turn."""
    return _ready(request.param)


@pytest.fixture(scope="session")
def x86_kernel(request: pytest.FixtureRequest) -> str:
    """The same, of those that have AVIC."""
    return _ready(request.param)


@pytest.fixture(scope="session")
def rules_kernel(request: pytest.FixtureRequest) -> str:
    """The one on which rules are shown."""
    return _ready(request.param)


@pytest.fixture(scope="session")
def preemptible_kernel(request: pytest.FixtureRequest) -> str:
    """The one on which readers are descheduled in the middle of a run."""
    return _ready(request.param)


@pytest.fixture(scope="session")
def any_kernel(request: pytest.FixtureRequest) -> str:
    """One that stands for all, where the harness is tested and not the kernel."""
    return _ready(request.param)


def _ready(name: str) -> str:
    if "KVMSCOPE_KERNELS" not in os.environ:
        pytest.skip("KVMSCOPE_KERNELS names no kernel to emulate; make test-kernels takes all")
    try:
        kernels.prepare(name)
    except Unavailable as error:
        if "kernels" in os.environ.get("KVMSCOPE_REQUIRE", "").split(","):
            pytest.fail(f"kernel {name} cannot be had: {error}")
        pytest.skip(f"kernel {name} cannot be had: {error}")
    return name


@pytest.fixture(scope="session")
def inside(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """``inside(kernel, script, avic=True, even_clock=False)``: what a script of ``inside/`` prints there, as JSON.

    Scripts share one boot for each kernel, setting of AVIC, and clock; those play that the tests which are to run ask
    for. All boots are begun here, as many at a time as there are CPUs, and each test waits for its own.
    """
    asked = _asked_scripts(request.session)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        boots = {
            (kernel, avic, even): pool.submit(_outputs, kernel, avic, even, scripts)
            for kernel in _wanted_inside(request.session)
            for avic, even in ((True, False), (False, False), (False, True))
            if (scripts := [script for script in _scripts(kernel, avic, even) if script in asked])
        }

        def answer(kernel: str, script: str, *, avic: bool = True, even_clock: bool = False) -> Any:
            exit_code, stdout, stderr = boots[kernel, avic, even_clock].result()[script]
            assert exit_code == 0, stderr
            return json.loads(stdout)

        yield answer
        pool.shutdown(cancel_futures=True)


def _wanted_inside(session: pytest.Session) -> list[str]:
    """The kernels of the tests that are to run and ask for ``inside``, in their order.

    A test of none, since its kernel is not among those that are asked for, has a mark there and no name.
    """
    items = [item for item in session.items if isinstance(item, pytest.Function) and "inside" in item.fixturenames]
    params = [item.callspec.params for item in items]
    names = [each.get(fixture) for each in params for fixture in ("kernel", "x86_kernel", "rules_kernel")]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _asked_scripts(session: pytest.Session) -> set[str]:
    """The scripts that stand in calls of ``inside`` in the files of the tests that are to run."""
    files = {item.path for item in session.items if "inside" in getattr(item, "fixturenames", ())}
    return {name for file in files for name in _CALL.findall(file.read_text(encoding="utf-8"))}


def _outputs(kernel: str, avic: bool, even_clock: bool, scripts: list[str]) -> dict[str, tuple[int, str, str]]:
    """Exit code, stdout and stderr of each script."""
    steps = [
        f"python3 -m tests.kernels.inside.{name} >{name}.out 2>{name}.err; echo $? >{name}.code" for name in scripts
    ]
    result = kernels.run(
        kernel,
        ["sh", "-c", "; ".join(["cd /root", *steps])],
        avic=avic,
        put={"/root/tests/kernels/inside": INSIDE},
        get=[f"/root/{name}.{end}" for name in scripts for end in ("out", "err", "code")],
        timeout_s=BOOT_DEADLINE_S,
        even_clock=even_clock,
        # As on AMD's CPUs all of whose address bits are in use; with AVIC, MMIO addresses are cached.
        module_parameters=["kvm.mmio_caching=0"] if even_clock else [],
    )
    files = {name: data.decode() for name, data in result.files.items()}
    return {
        name: (int(files[f"/root/{name}.code"]), files[f"/root/{name}.out"], files[f"/root/{name}.err"])
        for name in scripts
    }


def _scripts(kernel: str, avic: bool, even_clock: bool) -> list[str]:
    """What can be run in one boot."""
    has_apicv = find_kernel(kernel).has_apicv
    rules = ["findings"] * (kernel == RULES_KERNEL)
    if even_clock:
        return [*rules, *(["govern"] * (kernel == RULES_KERNEL))]
    by_avic = ["group", *rules] if avic else ["exits", "counts", "dirty"]
    by_machine = ["inhibits", *by_avic] if has_apicv else ["counts"] * avic
    moments = ["moments"] * (avic and has_apicv)
    return ["numbers", "schemas"] * avic + moments + by_machine
