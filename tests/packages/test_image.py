"""The image of contrib/kubernetes is built from its Dockerfile by buildah, on a base that debootstrap made:
no registry is asked. Its commands run, and the server's user is there.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clean_root import archive_of

DOCKERFILE = Path(__file__).parents[2] / "contrib/kubernetes/Dockerfile"
IMAGE = "kvmscope:test"


class Buildah:
    """buildah with a storage of its own, which is removed with it. It needs no daemon, and no namespaces here."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("buildah")
        if program is None:
            pytest.skip("buildah is not installed: apt-get install buildah")
        storage = ["--root", str(folder / "root"), "--runroot", str(folder / "run"), "--storage-driver", "vfs"]
        self._command = [program, *storage]

    def __call__(self, command: str, *arguments: str) -> str:
        isolation = ["--isolation", "chroot"] if command in ("bud", "run") else []
        done = subprocess.run(
            [*self._command, command, *isolation, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout.strip()


@pytest.fixture(scope="module")
def container(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Buildah, str]]:
    """A container of the image, built where its Dockerfile says: among what `make packages` built."""
    folder = tmp_path_factory.mktemp("images")
    buildah = Buildah(folder)
    (wanted,) = (line.split()[1] for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if "FROM" in line)
    base = buildah("from", "scratch")
    buildah("add", base, str(archive_of("trixie")), "/")
    buildah("commit", base, f"docker.io/library/{wanted}")
    buildah("bud", "--pull-never", "--network", "host", "-t", IMAGE, "-f", str(DOCKERFILE), str(dist))
    yield buildah, buildah("from", IMAGE)
    shutil.rmtree(folder)


def test_its_commands_run(container: tuple[Buildah, str]) -> None:
    buildah, name = container
    assert buildah("run", name, "--", "kvmscope", "--version").startswith("kvmscope ")
    assert "Commands:" in buildah("run", name, "--", "kvmscope", "--help")


def test_the_user_that_the_server_becomes_is_there(container: tuple[Buildah, str]) -> None:
    buildah, name = container
    assert "(kvmscope)" in buildah("run", name, "--", "id", "kvmscope")


def test_nothing_of_its_build_is_left(container: tuple[Buildah, str]) -> None:
    buildah, name = container
    assert buildah("run", name, "--", "ls", "/tmp", "/var/lib/apt/lists").split() == ["/tmp:", "/var/lib/apt/lists:"]
