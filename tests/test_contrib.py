"""contrib/: the unit is confined, the dashboards are those of the catalogue, and their queries parse."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
