"""``sql`` that is ended by a signal: what it left for temporary files is removed by the next command at the latest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("duckdb", reason="DuckDB is not installed: make setup")

from loads import record, simulated_scenes

ENDLESS = "SELECT count(*) FROM range(1000000) AS a, range(1000000) AS b WHERE a.range * b.range % 7 = 3"
SPILLING = "SELECT max(b) FROM (SELECT range * 7919 % 1000003 AS a, range AS b FROM range(400000000) ORDER BY a, b)"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    return record(simulated_scenes(3), tmp_path_factory.mktemp("recording") / "r")


def sql(recording: str, query: str, place: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kvmscope", "sql", query, "--from", recording, "--memory", "200M"]
    environment = {**os.environ, "TMPDIR": str(place)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_files(place: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not any(place.glob(pattern)):
        assert time.monotonic() < deadline, f"nothing like {pattern} in {place}"
        time.sleep(0.02)


@pytest.mark.parametrize("query", [ENDLESS, SPILLING])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_after_a_signal_and_a_next_start_there_are_no_temporary_files(
    recording: str, tmp_path: Path, number: signal.Signals, query: str
) -> None:
    with sql(recording, query, tmp_path) as ended:
        wait_for_files(tmp_path, "kvmscope-tmp-*/duckdb_temp*" if query == SPILLING else "kvmscope-tmp-*")
        ended.send_signal(number)
        assert ended.wait(timeout=30) in (128 + number, -number)
    with sql(recording, "SELECT 1", tmp_path) as following:
        assert following.wait(timeout=60) == 0
    assert list(tmp_path.iterdir()) == []
