"""Packages of Debian and PyPI for guests of emulated kernels: found, fetched, verified and unpacked, never installed.

apt runs with a separate configuration, lists and caches: of this machine's apt, only its network settings are read, and
nothing is written. apt checks the signatures of the archive against Debian's keyring; pip checks wheels against the
hashes of the index.
Rule: any failure to get a package is ``Unavailable`` with the tool's message.
Source: apt.conf(5), apt-secure(8); Debian policy §5.6 and §7.1 for the fields of a package.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import Unavailable

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""From the package debian-archive-keyring. Backports are also signed with the keys of the previous release."""

_MIRROR = "http://deb.debian.org"
_KERNEL_PACKAGE = re.compile(r"linux-(image|binary|modules)-\d")
_NETWORK_SETTING = re.compile(r"Acquire::((https?|ftp)::|Retries|Check-Valid-Until|Check-Date)")
_WHEEL_PLATFORMS = {"amd64": "x86_64", "arm64": "aarch64"}
_COMMAND_TIMEOUT_S = 600


def run_tool(argv: Sequence[str], *, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a tool and return its stdout. Raises Unavailable with its last error line if it is missing or fails."""
    try:
        done = subprocess.run(
            argv, env=env, cwd=cwd, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{argv[0]} is not on this machine", remedy=f"install {argv[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{argv[0]} did not end within {_COMMAND_TIMEOUT_S} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise Unavailable(f"{' '.join(argv[:3])} failed: {said[-1]}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Package:
    """A package as the archive describes it."""

    name: str
    version: str
    depends: tuple[str, ...]


def parse_packages(text: str) -> list[Package]:
    """The stanzas that ``apt-cache show`` prints; of alternatives in a dependency, the first."""
    return [_parse_stanza(stanza) for stanza in text.split("\n\n") if stanza.strip()]


def _parse_stanza(stanza: str) -> Package:
    fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", stanza, flags=re.MULTILINE))
    depends = tuple(re.split(r"[ (|:]", part.strip(), maxsplit=1)[0] for part in fields.get("Depends", "").split(","))
    return Package(fields["Package"], fields["Version"], tuple(name for name in depends if name))


def kernel_closure(show: Callable[[str], Package], metapackage: str) -> list[Package]:
    """The packages with a kernel's files, found by the dependencies of its metapackage."""
    found: dict[str, Package] = {}
    pending = [metapackage]
    while pending:
        package = show(pending.pop())
        found[package.name] = package
        pending += [name for name in package.depends if _KERNEL_PACKAGE.match(name) and name not in found]
    return [package for name, package in sorted(found.items()) if _KERNEL_PACKAGE.match(name)]


class Apt:
    """apt in a separate directory, for one architecture and one list of suites."""

    def __init__(self, root: Path, *, arch: str, suites: Sequence[str]) -> None:
        self._root = root
        self._arch = arch
        self._suites = suites
        self._env = {**os.environ, "APT_CONFIG": str(root / "apt.conf"), "LC_ALL": "C"}

    def update(self) -> None:
        """Fetch the lists of the suites. Raises Unavailable if a suite cannot be fetched or is not signed by Debian."""
        if not KEYRING.exists():
            raise Unavailable(f"{KEYRING} is missing", remedy="install debian-archive-keyring")
        for folder in ("lists/partial", "archives/partial", "parts"):
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        (self._root / "status").touch()
        (self._root / "sources.list").write_text(sources_list(self._suites, arch=self._arch), encoding="utf-8")
        (self._root / "apt.conf").write_text(
            apt_configuration(self._root, arch=self._arch) + _network_settings(), encoding="utf-8"
        )
        run_tool(["apt-get", "update", "--error-on=any"], env=self._env)

    def show(self, name: str) -> Package:
        """The newest version of a package in these suites."""
        packages = parse_packages(run_tool(["apt-cache", "show", "--no-all-versions", name], env=self._env))
        if not packages:
            raise Unavailable(f"{', '.join(self._suites)} has no package {name}")
        return packages[0]

    def download(self, packages: Iterable[Package], *, into: Path) -> list[Path]:
        """Fetch these packages into an empty directory and return the files, by name."""
        into.mkdir(parents=True, exist_ok=True)
        names = [f"{package.name}={package.version}" for package in packages]
        run_tool(["apt-get", "download", *names], env=self._env, cwd=into)
        return sorted(into.glob("*.deb"))


def apt_configuration(root: Path, *, arch: str) -> str:
    """apt's configuration with every path below ``root``; without this machine's hooks."""
    return f"""\
Dir "{root}/";
Dir::Etc "{root}/parts";
Dir::Etc::main "none";
Dir::Etc::parts "{root}/parts";
Dir::Etc::preferences "none";
Dir::Etc::preferencesparts "{root}/parts";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "{root}/parts";
Dir::Etc::trusted "none";
Dir::Etc::trustedparts "{root}/parts";
Dir::State "{root}";
Dir::State::status "{root}/status";
Dir::Cache "{root}";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
"""


def sources_list(suites: Iterable[str], *, arch: str) -> str:
    """The lines of a sources.list; ``KVMSCOPE_DEBIAN_MIRROR`` selects another mirror than Debian's."""
    mirror = os.environ.get("KVMSCOPE_DEBIAN_MIRROR", _MIRROR).rstrip("/")
    lines = (suite.split() for suite in suites)
    return "".join(f"deb [arch={arch} signed-by={KEYRING}] {mirror}/{path} {suite} main\n" for path, suite in lines)


def _network_settings() -> str:
    """This machine's network settings of apt (proxies, time-outs), without its keys, sources and hooks."""
    lines = run_tool(["apt-config", "dump"]).splitlines()
    return "".join(line + "\n" for line in lines if _NETWORK_SETTING.match(line))


def unpack_deb(package: Path, *, into: Path) -> None:
    """Unpack a package's files below ``into``; its scripts do not run."""
    into.mkdir(parents=True, exist_ok=True)
    run_tool(["dpkg-deb", "--extract", str(package), str(into)])


def download_wheels(requirements: Sequence[str], *, arch: str, python: str, into: Path) -> list[Path]:
    """Fetch exactly these requirements as wheels for a foreign Python, without dependencies."""
    machine = _WHEEL_PLATFORMS[arch]
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(17, 37)]
    run_tool(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", f"--dest={into}"),
            *(f"--python-version={python}", "--implementation=cp", *platforms, *requirements),
        ]
    )
    return sorted(into.glob("*.whl"))


def unpack_wheel(wheel: Path, *, into: Path) -> None:
    """Unpack a wheel's modules below ``into``, without the tests in some wheels (numpy's are 10 MB)."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(into)
    for tests in list(into.rglob("tests")):
        shutil.rmtree(tests, ignore_errors=True)
