"""``kvmscope serve --from``: a process of its own, which gives up root if it has it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import pytest
from loads import record, simulated_scenes

import kvmscope

pytest.importorskip("starlette", reason="starlette is not installed: make setup")


@pytest.fixture
def place() -> Iterator[str]:
    """A recording that every user can read; directories of pytest are root's alone."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield record(simulated_scenes(10), Path(directory) / "r")


def test_a_recording_is_served_by_a_process_that_has_no_rights(place: str) -> None:
    command = [sys.executable, "-m", "kvmscope", "serve", "--from", place, "--web.listen-address", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+/", line)))
            for path in (
                "histories",
                "summary",
                "vms",
                "doctor",
                "apicv",
                "heat",
                "rules",
                "timeline",
                "stats?vm=vm-0",
            ):
                with urlopen(f"{address}api/v1/{path}") as answer:
                    found = json.load(answer)
                if path == "histories":
                    assert len(found["times"]) == 9
        finally:
            process.terminate()


PRIVATE = """
mount -t tmpfs -o mode=0700 tmpfs "$1"
mkdir "$1/environment" "$1/src"
mount --bind "$2" "$1/environment"
mount --bind "$3" "$1/src"
export PYTHONPATH="$1/src"
cd /
exec "$1/environment/bin/python" -m kvmscope serve --from "$4" --web.listen-address 127.0.0.1:0"""
"""A shell script: what runs lies below a directory of root's, as ``pipx install`` leaves it in root's home."""


@pytest.mark.needs("root")
def test_a_program_that_root_alone_can_read_serves_after_it_gave_up_its_rights(place: str, tmp_path: Path) -> None:
    arguments = [str(tmp_path), sys.prefix, str(Path(kvmscope.__file__).parents[1]), place]
    command = ["unshare", "--mount", "sh", "-euc", PRIVATE, "sh", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = iter(process.stderr.readline, "")
            address = next(found[0] for line in said if (found := re.search(r"http://\S+/", line)))
            for path in ("", "api/v1/summary", "api/v1/doctor", "api/v1/openapi.json"):
                with urlopen(f"{address}{path}", timeout=30) as answer:
                    assert answer.status == 200
        finally:
            process.terminate()


@pytest.mark.parametrize("option", [("--otlp", "http://127.0.0.1:1"), ("--count", "exits"), ("--include", "kvm_*")])
def test_what_is_of_a_live_host_alone_is_refused_with_a_recording(place: str, option: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "kvmscope", "serve", "--from", place, *option]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 2
    assert "--from" in found.stderr
