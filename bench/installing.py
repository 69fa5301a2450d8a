"""What `pip install` of the wheel brings: how much, how many distributions, and in what time.

Each goes into a new virtual environment; what that has at first is not counted, and pip compiles modules. Wheels come
from the index, or from pip's cache if it has them, so a time says more of this machine's network than of kvmscope; the
CPU time of pip stands beside it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.result import Row

ROOT = Path(__file__).parent.parent
LARGEST_CLI_BYTES = 120e6
CHOICES = ("", "[cli]", "[top,history]", "[top,serve,history,report,sql,otlp,qmp]")


def bench() -> Sequence[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _build_wheel(Path(scratch))
        rows = [Row("the wheel", f"{wheel.stat().st_size / 1e6:.1f} MB")]
        return [*rows, *(_installed(wheel, extras, Path(scratch) / f"venv{at}") for at, extras in enumerate(CHOICES))]


def _build_wheel(into: Path) -> Path:
    _run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(into), str(ROOT))
    return next(into.glob("*.whl"))


def _installed(wheel: Path, extras: str, venv: Path) -> Row:
    _run(sys.executable, "-m", "venv", str(venv))
    size, names = _size(venv), _distributions(venv)
    began, used = time.monotonic(), _cpu_s()
    # Elsewhere pip compiles modules; where PYTHONDONTWRITEBYTECODE is set, it would not.
    _run(str(venv / "bin/pip"), "install", "--quiet", f"{wheel}{extras}")
    taken_s, cpu_s = time.monotonic() - began, _cpu_s() - used
    added = _size(venv) - size
    others = sorted(_distributions(venv) - names - {"kvmscope"})
    what = f"`pip install kvmscope{extras}`"
    brought = others[0] if len(others) == 1 else f"{len(others)} others"
    measured = f"{added / 1e6:.0f} MB with {brought}; {taken_s:.0f} s, {cpu_s:.0f} s of CPU time"
    if not extras:
        return Row(what, measured, target="numpy alone", holds=others == ["numpy"])
    if extras == "[cli]":
        return Row(what, measured, target="≤ 120 MB", holds=added <= LARGEST_CLI_BYTES)
    return Row(what, measured)


def _distributions(venv: Path) -> set[str]:
    shown = _run(str(venv / "bin/pip"), "list", "--format=json", "--disable-pip-version-check")
    return {each["name"].lower() for each in json.loads(shown)}


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(*command: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
