"""The private virtual environment of a package: kvmscope and what it needs, below /usr/lib/kvmscope.

Neither Debian 12 nor 13 has pyarrow, without which nothing is recorded, and their other modules are older than what
kvmscope is tested with. So a package carries all modules itself, at the versions of contrib/packaging/requirements.txt,
and takes from the release its Python, libbpf and libc. pip fetches the wheels of that Python, whichever runs this.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PathDistribution
from pathlib import Path

EXTRAS = "cli,top,serve,otlp,report,qmp,history,sql"
"""All but what ClickHouse needs, which is larger than all of these."""

PINS = Path(__file__).resolve().parent.parent / "contrib/packaging/requirements.txt"
_HEAD = "# What packages carry beside kvmscope. Made by `tools/packages.py --pin`; not edited by hand.\n"
_PLATFORMS = [f"--platform=manylinux{tag}_x86_64" for tag in ("_2_28", "_2_27", "_2_26", "_2_24", "_2_17", "2014")]

_NOT_NEEDED = (
    "bin",  # commands of the libraries
    "share",
    "**/tests",
    "**/*.pyi",  # types, for who checks programs that use the libraries
    "*.dist-info/direct_url.json",  # where the wheel of kvmscope was on the machine that built this
    "*.dist-info/RECORD",  # has a checksum of that; dpkg and rpm know what is installed
    "numpy/_core/include",  # headers, to compile against
    "numpy/_core/lib",
    "numpy/f2py",
    "numpy/random/lib",  # a static library, likewise
    "pyarrow/include",
    "pyarrow/src",
    "pyarrow/**/*.px?",
    "pyarrow/**/*.pyx",
    "pyarrow/libarrow*.so",  # the same libraries under the names that compilers look for
    "pyarrow/libarrow*.so.*.*.*",  # and under their full versions: programs are linked with libarrow.so.MAJOR
    "pyarrow/libarrow_flight*",  # Flight, a protocol that kvmscope does not speak: 33 MB
    "pyarrow/libarrow_python_flight*",
    "pyarrow/_flight*",
)


def make_environment(venv: Path, wheel: Path, *, python: str) -> None:
    """Fill ``venv``, but for bin/python3, which is a link to the release's interpreter."""
    modules = venv / f"lib/python{python}/site-packages"
    modules.mkdir(parents=True)
    _pip("install", "--no-deps", "--no-compile", f"--target={modules}", *_of(python), f"-r{PINS}", str(wheel))
    for pattern in _NOT_NEEDED:
        for path in modules.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (venv / "pyvenv.cfg").write_text(f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n")
    for path in venv.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def pin(wheel: Path, *, python: str) -> None:
    """Write the newest versions that fit into ``PINS``."""
    report = _pip("install", "--dry-run", "--ignore-installed", "--report=-", *_of(python), f"{wheel}[{EXTRAS}]")
    found = {each["metadata"]["name"].lower(): each["metadata"]["version"] for each in json.loads(report)["install"]}
    del found["kvmscope"]
    PINS.write_text(_HEAD + "".join(f"{name}=={found[name]}\n" for name in sorted(found)), encoding="utf-8")


def licences(venv: Path) -> Iterator[str]:
    """A paragraph of debian/copyright for each library, with where its licence stands in full."""
    for path in sorted(venv.glob("lib/python*/site-packages/*.dist-info")):
        about = PathDistribution(path).metadata
        if about["Name"] != "kvmscope":
            licence = about["License-Expression"] or about["License"] or _classified(about.get_all("Classifier", []))
            where = f"/usr/lib/kvmscope/{path.relative_to(venv)}"
            yield f"{about['Name']} {about['Version']}: {licence.splitlines()[0]}\n  {where}"


def _classified(classifiers: list[str]) -> str:
    return ", ".join(each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License ::")) or "see there"


def _of(python: str) -> list[str]:
    """Which wheels are wanted: pip takes those for another Python only into a folder of their own."""
    return [f"--python-version={python}", "--only-binary=:all:", *_PLATFORMS]


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
