"""Prometheus itself, Debian's, and VictoriaMetrics scrape a simulated host through ``kvmscope serve``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from monitoring import dashboard_queries, fetch, free_port, prometheus, query, running, victoria_metrics, wait_for

from kvmscope.lab import simulate

pytestmark = [pytest.mark.slow, pytest.mark.whole_host]
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
VICTORIA, NODE_EXPORTER = shutil.which("victoria-metrics"), shutil.which("prometheus-node-exporter")
TEXTFILE = Path(__file__).parents[2] / "contrib/textfile/kvmscope-textfile.sh"
SERVE = (sys.executable, "-m", "kvmscope", "serve", "--source", "published", "--interval", "1s")


@pytest.fixture(scope="module")
def served() -> Iterator[int]:
    """The port at which a simulated host is served."""
    port = free_port()
    serve = [*SERVE, f"--web.listen-address=127.0.0.1:{port}"]
    with simulate.start(vms=4, vcpus=2), running(serve, f"http://127.0.0.1:{port}/-/healthy"):
        yield port


@pytest.fixture(scope="module")
def ports(served: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Of kvmscope and of Prometheus."""
    if PROMETHEUS is None:
        pytest.skip("prometheus is not installed: tools/debian-packages.txt")
    with prometheus(PROMETHEUS, tmp_path_factory.mktemp("prometheus"), served) as port:
        yield served, port


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
    with running([*SERVE, f"--web.listen-address=127.0.0.1:{other}"], f"http://127.0.0.1:{other}/-/healthy"):
        infos = [
            sorted(
                line for line in (fetch(f"http://127.0.0.1:{port}/metrics") or b"").splitlines() if b"_vm_info{" in line
            )
            for port in (ours, other)
        ]
    assert infos[0] == infos[1]
    assert len(infos[0]) >= 4


NOT_SIMULATED = ("kvm_host_apicv", "run_delay_vcpus")
"""A simulated host has neither hardware nor threads to say this of."""


@pytest.mark.parametrize(
    "expression", [each for each in dashboard_queries() if not any(name in each for name in NOT_SIMULATED)]
)
def test_every_query_of_the_dashboards_returns_data(ports: tuple[int, int], expression: str) -> None:
    assert wait_for(lambda: query(ports[1], expression))


def test_node_exporter_passes_on_what_the_textfile_script_puts_there(served: int, tmp_path: Path) -> None:
    if NODE_EXPORTER is None or shutil.which("curl") is None:
        pytest.skip("prometheus-node-exporter or curl is not installed: tools/debian-packages.txt")
    url = f"http://127.0.0.1:{served}/metrics"
    subprocess.run(["sh", str(TEXTFILE), str(tmp_path)], env={**os.environ, "KVMSCOPE_URL": url}, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["kvmscope.prom"]
    port = free_port()
    options = [f"--collector.textfile.directory={tmp_path}", "--collector.disable-defaults", "--collector.textfile"]
    theirs = f"http://127.0.0.1:{port}/metrics"
    with running([NODE_EXPORTER, *options, f"--web.listen-address=127.0.0.1:{port}"], theirs):
        text = (fetch(theirs) or b"").decode()
    assert "node_textfile_scrape_error 0" in text
    assert text.count("\nkvm_vm_info{") >= 4
    assert "kvm_vm_halt_wait_hist_seconds_bucket{" in text


def test_the_textfile_script_leaves_nothing_behind_where_no_server_is(tmp_path: Path) -> None:
    env = {**os.environ, "KVMSCOPE_URL": f"http://127.0.0.1:{free_port()}/metrics"}
    done = subprocess.run(["sh", str(TEXTFILE), str(tmp_path)], env=env, capture_output=True, check=False)
    assert done.returncode != 0
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def victoria(served: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of VictoriaMetrics."""
    if VICTORIA is None:
        pytest.skip("victoria-metrics is not installed: tools/debian-packages.txt")
    with victoria_metrics(VICTORIA, tmp_path_factory.mktemp("victoria"), served) as port:
        yield port


def test_victoriametrics_takes_every_series_of_the_text(served: int, victoria: int) -> None:
    text = fetch(f"http://127.0.0.1:{served}/metrics") or b""
    names = {line.split()[2].decode() for line in text.splitlines() if line.startswith(b"# TYPE")}
    assert len(names) > 100

    def stored() -> set[str]:
        found = query(victoria, 'count by (__name__) ({__name__=~"kvm.+"})')
        return {each["metric"]["__name__"].removesuffix("_bucket") for each in found}

    assert wait_for(lambda: names <= stored())


def test_victoriametrics_reads_the_classic_buckets(victoria: int) -> None:
    expression = "histogram_quantile(0.99, sum by (vm, le) (kvm_vm_halt_wait_hist_seconds_bucket))"
    assert [each for each in wait_for(lambda: query(victoria, expression)) if float(each["value"][1]) > 0]
