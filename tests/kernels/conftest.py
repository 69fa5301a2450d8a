"""Tests inside emulated kernels. They take a minute and a download, so they run when ``KVMSCOPE_KERNELS`` asks:
``all``, or names like ``6.1,6.12`` (``make test-kernels``).

A kernel that cannot be had is skipped by name; with ``kernels`` in ``KVMSCOPE_REQUIRE`` it is a failure.
"""

from __future__ import annotations

import os

import pytest

from kvmscope.errors import Unavailable
from kvmscope.lab import kernels
from kvmscope.lab.kernel_catalog import find_kernel


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, names in (("kernel", _chosen()), ("x86_kernel", _x86()), ("any_kernel", _chosen()[:1])):
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
