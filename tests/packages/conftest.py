"""Packages and README in clean Debian systems: minutes, and downloads of a gigabyte, so they run on request alone
(``make test-packages``). ``KVMSCOPE_PACKAGES`` is then the folder of what `make packages` built. They need root,
debootstrap, Debian's mirror and PyPI.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from clean_root import CleanRoot, unpacked_root

DIST = os.environ.get("KVMSCOPE_PACKAGES")
collect_ignore_glob = [] if DIST else ["test_*"]
RELEASES = {"debian12": "bookworm", "debian13": "trixie"}


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    """A name of contrib/packaging/targets.toml."""
    return str(request.param)


@pytest.fixture(scope="module")
def root(release: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CleanRoot]:
    """A Debian of this release as debootstrap leaves it, for one module of tests."""
    with unpacked_root(RELEASES[release], tmp_path_factory.mktemp(release)) as root:
        yield root


@pytest.fixture(scope="session")
def dist() -> Path:
    """What is released: packages, wheel and source distribution."""
    assert DIST is not None
    return Path(DIST).absolute()
