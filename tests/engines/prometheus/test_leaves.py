"""Counts and rates over real scrapes: late and failed ones, counters that fall, series that begin and end."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kvmscope.engines.prometheus.leaves import ExportedCount, Leaves

EXITS = ExportedCount("kvm_vcpu_exits_total")
SUMMED = ExportedCount("kvm_vm_exits_total", is_sum=True)
LEAVES = Leaves("1m")


def unit_test(query: str, at: str, values: str, *, vcpus: str = "2+0x20") -> dict[str, Any]:
    """A unit test of promtool: one counter, scraped every 15 s, and what a query comes to."""
    series = [
        {"series": f'{EXITS.series}{{vm="a"}}', "values": values},
        {"series": f'{SUMMED.series}{{vm="a"}}', "values": values},
        {"series": 'kvm_vm_vcpus{vm="a"}', "values": vcpus},
    ]
    return {"interval": "15s", "input_series": series, "promql_expr_test": [{"expr": query, "eval_time": at}]}


def run(folder: Path, test: dict[str, Any], wanted: float | None) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: tools/debian-packages.txt")
    test["promql_expr_test"][0]["exp_samples"] = [] if wanted is None else [{"labels": '{vm="a"}', "value": wanted}]
    path = folder / "tests.json"  # JSON is YAML
    path.write_text(json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": [test]}), encoding="utf-8")
    done = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("at", "values", "rate"),
    [
        pytest.param("60s", "0 150 300 450 600", 10.0, id="scrapes on time"),
        pytest.param("70s", "0 150 300 450 600 750", 10.0, id="asked between scrapes"),
        pytest.param("60s", "0 150 300 450 _ 750", 10.0, id="the newest scrape failed"),
        pytest.param("120s", "0 150 300 450 _ 750 900 1050 1200", 10.0, id="the first scrape failed"),
        pytest.param("120s", "0 150 300 _ _ _ _ _ _", None, id="a window without a scrape"),
        pytest.param("60s", "_ 150 300 450 600", None, id="the series is new"),
        pytest.param("60s", "0 150 300 450 stale", None, id="the series has ended"),
        pytest.param("60s", "500 650 800 50 200", None, id="the count fell"),
        pytest.param("60s", "10 160 5 155 305", None, id="the count fell and has overtaken itself"),
        pytest.param("60s", "7 7 7 7 7", 0.0, id="nothing was counted"),
    ],
)
def test_a_rate_is_that_of_the_scrapes(tmp_path: Path, at: str, values: str, rate: float | None) -> None:
    run(tmp_path, unit_test(LEAVES.rate(EXITS), at, values), rate)


@pytest.mark.parametrize(
    ("values", "change"), [("0 150 300 450 600", 600.0), ("0 150 _ _ _", None), ("500 650 800 50 200", None)]
)
def test_an_increase_is_that_between_two_scrapes(tmp_path: Path, values: str, change: float | None) -> None:
    at = "60s" if change else "90s"
    run(tmp_path, unit_test(LEAVES.change(EXITS), at, values), change)


def test_a_sum_over_other_vcpus_than_before_is_unknown(tmp_path: Path) -> None:
    values = "0 150 300 450 600"
    run(tmp_path, unit_test(LEAVES.rate(SUMMED), "60s", values, vcpus="2 2 2 2 2"), 10.0)
    run(tmp_path, unit_test(LEAVES.rate(SUMMED), "60s", values, vcpus="2 2 2 3 3"), None)
