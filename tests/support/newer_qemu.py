"""QEMU 10 of Debian's bookworm-backports, unpacked and never installed, beside the distribution's own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from kvmscope.errors import Unavailable
from kvmscope.lab.kernel_packages import Apt, unpack_deb
from kvmscope.lab.qemu import PROGRAM

_PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios")


def _backports_qemu() -> Path:
    """The root of an unpacked QEMU from bookworm-backports, fetched once. Unavailable if it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmscope" / "qemu-bookworm-backports"
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.parent) as scratch:
            _fetch(Path(scratch))
            (Path(scratch) / "root").rename(cache)
    return cache


def _fetch(scratch: Path) -> None:
    apt = Apt(scratch / "apt", arch="amd64", suites=["debian bookworm-backports"])
    (scratch / "apt").mkdir()
    apt.update()
    root = scratch / "root"
    root.mkdir()
    for package in apt.download([apt.show(name) for name in _PACKAGES], into=scratch / "packages"):
        unpack_deb(package, into=root)


@pytest.fixture(scope="session")
def new_qemu_root() -> Path:
    try:
        root = _backports_qemu()
    except Unavailable as error:
        pytest.skip(f"QEMU of bookworm-backports cannot be had: {error}")
    version = subprocess.run([root / "usr/bin" / PROGRAM, "--version"], capture_output=True, text=True, check=False)
    if version.returncode:
        pytest.skip(f"QEMU of bookworm-backports does not run here: {version.stderr.strip()}")
    return root
