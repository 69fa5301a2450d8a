"""Prometheus itself, Debian's, scrapes a simulated host through ``kvmscope serve``, native histograms included."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kvmscope.lab import simulate
from kvmscope.web.server.listen import ListenAddress, open_sockets

pytestmark = [pytest.mark.slow, pytest.mark.whole_host]
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
DEADLINE_S = 60
GRAFANA = Path(__file__).parent.parent.parent / "contrib/grafana"

CONFIG = """
global: {{scrape_interval: 2s, scrape_timeout: 2s}}
scrape_configs:
  - job_name: kvmscope
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


def free_port() -> int:
    (socket,) = open_sockets([ListenAddress("127.0.0.1", 0)])
    with socket:
        port: int = socket.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], ready: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        wait_for(lambda: fetch(ready) is not None)
        yield
    finally:
        process.terminate()
        process.wait(20)


def fetch(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            body: bytes = answer.read()
            return body
    except OSError:
        return None


def wait_for(check: Any) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("nothing within the deadline")


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Of kvmscope and of Prometheus."""
    if PROMETHEUS is None:
        pytest.skip("prometheus is not installed: tools/debian-packages.txt")
    folder = tmp_path_factory.mktemp("prometheus")
    ours, theirs = free_port(), free_port()
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(port=ours), encoding="utf-8")
    serve = [sys.executable, "-m", "kvmscope", "serve", "--source", "published", "--interval", "1s"]
    prometheus = [
        PROMETHEUS,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{theirs}",
        "--enable-feature=native-histograms",
    ]
    with (
        simulate.start(vms=4, vcpus=2),
        running([*serve, f"--web.listen-address=127.0.0.1:{ours}"], f"http://127.0.0.1:{ours}/-/healthy"),
        running(prometheus, f"http://127.0.0.1:{theirs}/-/ready"),
    ):
        yield ours, theirs


def dashboard_queries() -> list[str]:
    """Every query of every dashboard, with its variables filled in."""
    found = []
    for path in sorted(GRAFANA.glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            found += [target["expr"] for target in panel["targets"]]
    return [text.replace('vm="$vm"', 'vm=~".+"').replace("$__rate_interval", "20s") for text in dict.fromkeys(found)]


def query(port: int, expression: str) -> list[dict[str, Any]]:
    words = urllib.parse.urlencode({"query": expression})
    body = fetch(f"http://127.0.0.1:{port}/api/v1/query?{words}")
    found: list[dict[str, Any]] = json.loads(body)["data"]["result"] if body else []
    return found


def test_prometheus_scrapes_every_vm(ports: tuple[int, int]) -> None:
    _, theirs = ports
    assert wait_for(lambda: query(theirs, "kvmscope_up == 1"))
    assert len(wait_for(lambda: query(theirs, "kvm_vm_exits_total > 0"))) >= 2
    assert len(query(theirs, "kvm_vm_info")) >= 4


def test_native_histograms_arrive_with_the_counts_of_the_classic_ones(ports: tuple[int, int]) -> None:
    _, theirs = ports
    native = "kvm_vm_halt_wait_hist_nanoseconds"
    assert wait_for(lambda: query(theirs, f"histogram_count({native}) > 0"))
    quantile = query(theirs, f"histogram_quantile(0.99, sum by (vm) ({native}))")
    assert quantile
    assert all(float(each["value"][1]) > 0 for each in quantile if each["value"][1] != "NaN")
    assert not query(theirs, "kvm_vm_halt_wait_hist_seconds_bucket"), "protobuf has the native form"


def test_a_rate_can_be_taken_over_native_histograms(ports: tuple[int, int]) -> None:
    _, theirs = ports
    expression = "histogram_quantile(0.5, sum(rate(kvm_vm_halt_wait_hist_nanoseconds[20s])))"
    assert wait_for(lambda: [each for each in query(theirs, expression) if float(each["value"][1]) > 0])


def test_promtool_finds_nothing_wrong_with_the_text(ports: tuple[int, int]) -> None:
    ours, _ = ports
    text = fetch(f"http://127.0.0.1:{ours}/metrics")
    assert text
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_the_identity_of_vms_is_that_of_another_process_too(ports: tuple[int, int]) -> None:
    ours, _ = ports
    other = free_port()
    serve = [sys.executable, "-m", "kvmscope", "serve", "--source", "published"]
    with running([*serve, f"--web.listen-address=127.0.0.1:{other}"], f"http://127.0.0.1:{other}/-/healthy"):
        infos = [
            sorted(
                line for line in (fetch(f"http://127.0.0.1:{port}/metrics") or b"").splitlines() if b"_vm_info{" in line
            )
            for port in (ours, other)
        ]
    assert infos[0] == infos[1]
    assert len(infos[0]) >= 4


HARDWARE = "sum by (fact) (kvm_host_apicv)"
"""A simulated host has no hardware to say this of."""


@pytest.mark.parametrize("expression", [each for each in dashboard_queries() if each != HARDWARE])
def test_every_query_of_the_dashboards_returns_data(ports: tuple[int, int], expression: str) -> None:
    assert wait_for(lambda: query(ports[1], expression))
