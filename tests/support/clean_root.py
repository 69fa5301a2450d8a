"""A Debian system in a folder, made by debootstrap once and unpacked for each use.

Rule: whatever runs inside has a mount namespace of its own, so its mounts end with it, also if the tests are killed. It
shares the kernel with this machine; /dev, with /dev/kvm, and /sys are those of the host.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
MIRROR = "http://deb.debian.org/debian"
USER = "newcomer"
_SHARED = ("/etc/resolv.conf", "/etc/hosts")
_AUTHORITIES = "/usr/local/share/ca-certificates"
"""Those that this machine trusts beside Debian's; ca-certificates adds them when it is installed."""
_OF_PIP = ("PIP_CERT", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
"""How pip reaches an index from this machine; files that these name are there inside too."""

_ENTER = """
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root" # rpm's scriptlets change how the root is mounted
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
exec chroot "$root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended well, with what it wrote and how long it took."""

    stdout: str
    stderr: str
    wall_s: float


@dataclass(frozen=True, slots=True)
class CleanRoot:
    """The system in ``path``."""

    path: Path

    def run(self, script: str, *, user: str = "root", expect: int = 0) -> Done:
        """Run lines of shell inside, as a user logged in does. Fails with all it wrote if its exit code is another."""
        home = "/root" if user == "root" else f"/home/{user}"
        environment = {
            "HOME": home,
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "TERM": "dumb",
            "DEBIAN_FRONTEND": "noninteractive",
            **_environment_of_pip(),
        }
        inside = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
        if user != "root":
            inside += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        inside += ["sh", "-euc", f"cd {home}\n{script}"]
        began = time.monotonic()
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-euc", _ENTER, "sh", str(self.path), *inside],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        wall_s = time.monotonic() - began
        assert done.returncode == expect, f"{script}\n{done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return Done(done.stdout, done.stderr, wall_s)

    def add_user(self) -> None:
        self.run(f"id {USER} 2>/dev/null || useradd --create-home --shell /bin/bash {USER}")

    def holds(self, pattern: str) -> list[str]:
        return [f"/{path.relative_to(self.path)}" for path in self.path.glob(pattern.lstrip("/"))]


def _environment_of_pip() -> dict[str, str]:
    """Also for the pip that a pip starts to build: it reads none of PIP_CERT."""
    found = {name: os.environ[name] for name in _OF_PIP if name in os.environ}
    return found | ({"REQUESTS_CA_BUNDLE": found["PIP_CERT"]} if "PIP_CERT" in found else {})


@contextmanager
def unpacked_root(release: str, folder: Path) -> Iterator[CleanRoot]:
    """A fresh system below ``folder``, which is removed at the end."""
    path = folder / "root"
    path.mkdir()
    try:
        _succeed("tar", "--extract", f"--file={archive_of(release)}", "--numeric-owner", "-C", str(path))
        _share_with(path)
        yield CleanRoot(path)
    finally:
        shutil.rmtree(path)


def _share_with(root: Path) -> None:
    """How names are resolved here, and the files that pip is told of."""
    for name in _SHARED:
        shutil.copyfile(name, root / name.lstrip("/"))
    if Path(_AUTHORITIES).is_dir():
        shutil.copytree(_AUTHORITIES, root / _AUTHORITIES.lstrip("/"), dirs_exist_ok=True)
    for name in (os.environ.get(variable, "") for variable in _OF_PIP):
        inside = root / name.lstrip("/")
        if name.startswith("/") and Path(name).is_file() and not inside.exists():
            inside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, inside)


def archive_of(release: str) -> Path:
    """The archive of what debootstrap makes, from the cache where it is there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmscope/roots"
    archive = cache / f"{release}.tar"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            made = Path(scratch)
            _succeed("debootstrap", "--variant=minbase", release, str(made / "root"), MIRROR)
            _succeed("tar", "--create", f"--file={made}/root.tar", "--numeric-owner", "-C", str(made / "root"), ".")
            (made / "root.tar").rename(archive)
    return archive


def _succeed(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


# --- what README says, and the checkout that it says it of ------------------------------------------------------------


def shell_block(word: str) -> str:
    """The block of README's shell lines that has this word."""
    (found,) = (
        block for block in re.findall(r"^```sh\n(.*?)^```$", _readme(), re.MULTILINE | re.DOTALL) if word in block
    )
    return str(found)


def apt_get_line(packages: str) -> str:
    """The `apt-get install` of these packages that README's text names."""
    (line,) = set(re.findall(rf"`(apt-get install {packages})`", _readme()))
    return str(line)


def _readme() -> str:
    return (PROJECT / "README.md").read_text(encoding="utf-8")


def put_archive(root: CleanRoot, owner: str) -> None:
    """What is committed, as a downloaded archive has it, in the home of its owner."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=PROJECT, check=True, capture_output=True).stdout
    (root.path / "checkout.tar").write_bytes(archive)
    place = f"~{owner}/kvmscope"
    root.run(f"rm -rf {place} && mkdir {place} && tar -xf /checkout.tar -C {place} && chown -R {owner}: {place}")


def put_clone(root: CleanRoot, owner: str) -> None:
    """What is committed, cloned by the git that is inside."""
    bundle = root.path / "kvmscope.bundle"
    _succeed("git", "-C", str(PROJECT), "bundle", "create", str(bundle), "HEAD")
    place = f"~{owner}/kvmscope"
    root.run(f"rm -rf {place} && git clone -q /kvmscope.bundle {place} && chown -R {owner}: {place}")
