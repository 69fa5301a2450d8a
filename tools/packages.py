#!/usr/bin/env python3
"""Builds what a release consists of into dist/: wheel, source distribution, .deb and .rpm, and their checksums.

``tools/packages.py`` builds all, ``tools/packages.py debian12`` one package (contrib/packaging/targets.toml), and
``tools/packages.py wheel`` the wheel and the source distribution alone. Rule: the same commit gives the same bytes, on
any machine with the same versions of what builds it. All times are those of the commit, or SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tools import manpages, private_modules

ROOT = Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "contrib/packaging"
_WHEEL = "wheel"
_SHELLS = ("bash", "zsh", "fish")
_EXAMPLES = ("grafana", "kubernetes", "opentelemetry", "pcp", "prometheus", "telegraf", "textfile")


@dataclass(frozen=True, slots=True)
class Target:
    """A release of a distribution, as targets.toml has it."""

    name: str
    format: str
    python: str
    release: str
    zsh: str
    sos: str


def targets() -> dict[str, Target]:
    table = tomllib.loads((PACKAGING / "targets.toml").read_text(encoding="utf-8"))
    return {name: Target(name=name, **values) for name, values in table.items()}


# --- wheel and source distribution ------------------------------------------------------------------------------------


def build_wheel(dist: Path) -> Path:
    """The wheel, made from the source distribution that lies beside it then. Gives its path."""
    with tempfile.TemporaryDirectory() as scratch:
        _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", scratch, str(ROOT))
        (source,), (wheel,) = Path(scratch).glob("*.tar.gz"), Path(scratch).glob("*.whl")
        _repack(source, dist / source.name)
        return Path(shutil.copy(wheel, dist))


def _repack(archive: Path, into: Path) -> None:
    """Without what differs between machines and checkouts: times, owners and order of the files."""
    with (
        tarfile.open(archive) as old,
        into.open("wb") as raw,
        gzip.GzipFile("", "wb", mtime=_epoch_s(), fileobj=raw) as out,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = _epoch_s(), 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)


# --- .deb and .rpm ----------------------------------------------------------------------------------------------------


def build_package(target: Target, wheel: Path, dist: Path) -> None:
    """One .deb or .rpm of what the wheel has, by nfpm."""
    with tempfile.TemporaryDirectory() as scratch:
        stage = Path(scratch)
        private_modules.make_environment(stage / "venv", wheel, python=target.python)
        _write_manpages(stage / "man")
        _write_completions(stage / "completions")
        shutil.copytree(ROOT / "contrib", stage / "contrib")
        _write_documentation(stage / "doc", target, "\n".join(private_modules.licences(stage / "venv")))
        _set_times(stage)
        variables = {
            "STAGE": str(stage),
            "VERSION": _version(wheel),
            "RELEASE": target.release,
            "PYTHON": target.python,
            "ZSH": target.zsh,
            "SOS": target.sos,
            "MAINTAINER": _maintainer(),
        }
        what = ("-f", str(PACKAGING / "nfpm.yaml"), "-p", target.format, "-t", f"{dist.absolute()}/")
        _run(f"{sysconfig.get_path('scripts')}/nfpm", "package", *what, environment=variables)


def _write_manpages(folder: Path) -> None:
    for name, text in manpages.pages().items():
        _write_gzip(folder / f"{name}.gz", text)


def _write_completions(folder: Path) -> None:
    """click's own, which ask the program what could come next."""
    folder.mkdir()
    command = [sys.executable, "-m", "kvmscope"]
    for shell in _SHELLS:
        environment = {**os.environ, "_KVMSCOPE_COMPLETE": f"{shell}_source"}
        script = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout
        (folder / f"kvmscope.{shell}").write_bytes(script)


def _write_documentation(folder: Path, target: Target, licences: str) -> None:
    """What lies in /usr/share/doc: licences, changes, and what contrib has for other programs."""
    folder.mkdir()
    text = (PACKAGING / "copyright").read_text(encoding="utf-8")
    (folder / "copyright").write_text(text.rstrip() + f"\n\n{licences}\n", encoding="utf-8")
    _write_gzip(folder / "changelog.gz", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    if target.format == "deb":
        _write_gzip(folder / "changelog.Debian.gz", _debian_changelog(target))
    for name in _EXAMPLES:
        if (ROOT / "contrib" / name).is_dir():
            shutil.copytree(ROOT / "contrib" / name, folder / "examples" / name)


def _debian_changelog(target: Target) -> str:
    """One entry, that of this package: what changed in kvmscope stands in changelog.gz."""
    date = format_datetime(datetime.fromtimestamp(_epoch_s(), UTC))
    number = f"{version('kvmscope')}-{target.release}"
    return f"kvmscope ({number}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- {_maintainer()}  {date}\n"


def _set_times(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (_epoch_s(), _epoch_s()))


def _write_gzip(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def _maintainer() -> str:
    """Who answers for the packages: whoever KVMSCOPE_MAINTAINER names, else the author of what they are built from."""
    return os.environ.get("KVMSCOPE_MAINTAINER") or _of_last_commit("%an <%ae>")


def _version(wheel: Path) -> str:
    return wheel.name.split("-")[1]


# --- all of it --------------------------------------------------------------------------------------------------------


def _run(*command: str, environment: Mapping[str, str] | None = None) -> None:
    """Quietly, unless it fails."""
    done = subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)} failed:\n{done.stdout.decode(errors='replace')}")


def _epoch_s() -> int:
    return int(os.environ["SOURCE_DATE_EPOCH"])


def _set_epoch() -> None:
    if "SOURCE_DATE_EPOCH" not in os.environ:
        os.environ["SOURCE_DATE_EPOCH"] = _of_last_commit("%ct")


def _of_last_commit(what: str) -> str:
    command = ["git", "-C", str(ROOT), "log", "-1", f"--format={what}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write_checksums(dist: Path) -> None:
    """SHA256SUMS, as ``sha256sum --check`` reads it."""
    files = sorted(path for path in dist.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (dist / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def build(names: Iterable[str], dist: Path) -> None:
    dist.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel(dist)
    for name in names:
        if name != _WHEEL:
            build_package(targets()[name], wheel, dist)
    write_checksums(dist)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {_WHEEL}, {', '.join(targets())}; without: all")
    parser.add_argument("--into", type=Path, default=ROOT / "dist", help="the folder to write to")
    parser.add_argument("--pin", action="store_true", help="write requirements.txt, from the newest versions that fit")
    options = parser.parse_args()
    if unknown := set(options.names) - {_WHEEL, *targets()}:
        parser.error(f"there is no {unknown.pop()}")
    os.umask(0o022)
    _set_epoch()
    if options.pin:
        with tempfile.TemporaryDirectory() as scratch:
            private_modules.pin(build_wheel(Path(scratch)), python=min(each.python for each in targets().values()))
        return
    build(options.names or targets(), options.into)


if __name__ == "__main__":
    main()
