"""Monitoring systems that are not ours, as processes of a test: on free ports, asked over HTTP, ended with it."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kvmscope.web.server.listen import ListenAddress, open_sockets

DEADLINE_S = 60
GRAFANA = Path(__file__).parents[2] / "contrib/grafana"

T = TypeVar("T")


def free_port() -> int:
    (socket,) = open_sockets([ListenAddress("127.0.0.1", 0)])
    with socket:
        port: int = socket.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], ready: str, *, any_answer: bool = False) -> Iterator[None]:
    """``command`` from when it answers at the URL ``ready``; ``any_answer``: an error of HTTP is one, too."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        wait_for(lambda: fetch(ready, any_answer=any_answer) is not None)
        yield
    finally:
        process.terminate()
        process.wait(20)


def fetch(url: str, *, any_answer: bool = False) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        with error:
            return error.read() if any_answer else None
    except OSError:
        return None


def wait_for(check: Callable[[], T]) -> T:
    """What ``check`` gives as soon as it is something."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("nothing within the deadline")


def query(port: int, expression: str) -> list[dict[str, Any]]:
    """What Prometheus, or whatever has its API, answers to a query of this moment."""
    words = urllib.parse.urlencode({"query": expression})
    body = fetch(f"http://127.0.0.1:{port}/api/v1/query?{words}")
    found: list[dict[str, Any]] = json.loads(body)["data"]["result"] if body else []
    return found


def dashboard_queries(rate_interval: str = "20s") -> list[str]:
    """Every query of every dashboard, with its variables filled in."""
    found = []
    for path in sorted(GRAFANA.glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            found += [target["expr"] for target in panel["targets"]]
    filled = [text.replace('vm="$vm"', 'vm=~".+"') for text in dict.fromkeys(found)]
    return [text.replace("$__rate_interval", rate_interval) for text in filled]


SCRAPE = """
global: {{scrape_interval: 2s, scrape_timeout: 2s}}
scrape_configs:
  - job_name: kvmscope
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


@contextmanager
def prometheus(program: str, folder: Path, scraped: int) -> Iterator[int]:
    """Prometheus with native histograms that scrapes a port every 2 s; gives its own port."""
    port = free_port()
    config = folder / "prometheus.yml"
    config.write_text(SCRAPE.format(port=scraped), encoding="utf-8")
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=native-histograms",
    ]
    with running(command, f"http://127.0.0.1:{port}/-/ready"):
        yield port


@contextmanager
def victoria_metrics(program: str, folder: Path, scraped: int) -> Iterator[int]:
    """VictoriaMetrics that scrapes a port every 2 s; gives its own port."""
    port = free_port()
    config = folder / "victoria.yml"
    config.write_text(SCRAPE.format(port=scraped), encoding="utf-8")
    command = [
        program,
        f"-promscrape.config={config}",
        f"-storageDataPath={folder}/victoria",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-search.latencyOffset=0s",  # else what is younger than 30 s is not shown
    ]
    with running(command, f"http://127.0.0.1:{port}/health"):
        yield port
