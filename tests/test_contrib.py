"""contrib/: the unit is confined, the dashboards are those of the catalogue, and their queries parse."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from kvmscope.web.server.listen import DEFAULT_ADDRESS

PROJECT = Path(__file__).parent.parent
CONTRIB = PROJECT / "contrib"
MOST_EXPOSED = 1.5


def dashboard_queries() -> list[str]:
    """Every query of every dashboard, with its variables filled in."""
    found = []
    for path in sorted((CONTRIB / "grafana").glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            found += [target["expr"] for target in panel["targets"]]
    return [query.replace('vm="$vm"', 'vm=~".+"').replace("$__rate_interval", "10s") for query in found]


def test_the_server_has_little_to_attack() -> None:
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    unit = CONTRIB / "systemd/kvmscope-serve.service"
    command = [analyze, "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    level = re.search(r"exposure level for .*: ([0-9.]+)", done.stdout)
    assert level, done.stderr
    assert float(level[1]) <= MOST_EXPOSED


def test_the_dashboards_are_those_of_the_catalogue() -> None:
    command = [sys.executable, str(PROJECT / "tools/dashboards.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "snippet",
    [
        "prometheus/prometheus.yml",
        "telegraf/kvmscope.conf",
        "opentelemetry/collector.yml",
        "pcp/kvmscope.url",
        "textfile/kvmscope-textfile.sh",
    ],
)
def test_every_snippet_asks_where_the_server_is_by_default(snippet: str) -> None:
    text = (CONTRIB / snippet).read_text(encoding="utf-8")
    assert re.findall(r"127\.0\.0\.1:(?!4318)[0-9]+", text) == [DEFAULT_ADDRESS]


def test_the_snippets_are_well_formed() -> None:
    (telegraf,) = tomllib.loads((CONTRIB / "telegraf/kvmscope.conf").read_text(encoding="utf-8"))["inputs"][
        "prometheus"
    ]
    assert telegraf["urls"] == [f"http://{DEFAULT_ADDRESS}/metrics"]
    collector = yaml.safe_load((CONTRIB / "opentelemetry/collector.yml").read_text(encoding="utf-8"))
    pipeline = collector["service"]["pipelines"]["metrics"]
    assert set(pipeline["receivers"]) == set(collector["receivers"])
    assert set(pipeline["exporters"]) == set(collector["exporters"])


def test_promtool_takes_the_scrape_configuration() -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed: tools/debian-packages.txt")
    command = [promtool, "check", "config", str(CONTRIB / "prometheus/prometheus.yml")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_promtool_parses_every_query(tmp_path: Path) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed: tools/debian-packages.txt")
    queries = dashboard_queries()
    assert len(queries) > 50
    rules = [{"record": f"r:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "rules.json"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
