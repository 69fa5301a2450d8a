"""`kvmscope serve` on this host's KVM: real guests in its metrics, and no privileges in the process that answers."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from monitoring import prometheus, query, wait_for
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.web.server.privileges import NEEDED

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf")]

DEADLINE_S = 30.0
NAME = "scraped"
Server = tuple[subprocess.Popen[str], str]
"""A process, and its URL."""


@contextlib.contextmanager
def serving(source: str) -> Iterator[Server]:
    """A server that root has started."""
    command = [sys.executable, "-m", "kvmscope", "serve", "--source", source, "--web.listen-address", "127.0.0.1:0"]
    with subprocess.Popen([*command, "--interval", "1s"], stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        try:
            lines = iter(running.stderr.readline, "")
            yield running, next(line.split()[-1] for line in lines if line.startswith("serving at"))
        finally:
            running.terminate()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("bpf") as served:
        yield served


def values(url: str, name: str) -> dict[str, float]:
    """By the name of the VM."""
    with urllib.request.urlopen(f"{url}metrics", timeout=DEADLINE_S) as answer:
        families = list(parse_text(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples]
    names = {each.labels["vm"]: each.labels["name"] for each in samples if each.name == "kvm_vm_info"}
    return {names[each.labels["vm"]]: each.value for each in samples if each.name == name}


def test_what_a_guest_does_is_in_the_next_scrape_and_its_end_in_the_one_after(server: Server) -> None:
    _, url = server
    with process.start(LabSpec(workload="halt", vcpus=2, count=200, name=NAME)) as guests:
        guests.go()
        guests.wait_for_done(DEADLINE_S)
        halts = {name: value for name, value in values(url, "kvm_vm_halt_exits_total").items() if NAME in name}
        assert len(halts) == 1
        assert 400 <= max(halts.values()) <= 1200
    assert not [name for name in values(url, "kvm_vm_vcpus") if NAME in name]


def capabilities(status: str) -> dict[str, int]:
    masks = re.findall(r"^Cap(Prm|Eff|Bnd|Amb|Inh):\s*([0-9a-f]+)$", status, re.MULTILINE)
    return {name: int(mask, 16) for name, mask in masks}


def test_a_server_that_looks_into_processes_has_what_that_needs_and_no_more() -> None:
    spec = LabSpec(workload="halt", vcpus=2, count=200, name=NAME, hold_stats_fds=True)
    with process.start(spec) as guests:
        guests.wait_for_ready()
        with serving("statsfd") as (running, url):
            guests.go()
            guests.wait_for_done(DEADLINE_S)
            (halts,) = (value for name, value in values(url, "kvm_vm_halt_exits_total").items() if NAME in name)
            assert 400 <= halts <= 1200
            status = Path(f"/proc/{running.pid}/status").read_text(encoding="ascii")
    kept = sum(1 << capability for capability in NEEDED["statsfd"])
    assert capabilities(status) == {"Inh": 0, "Prm": kept, "Eff": kept, "Bnd": 0, "Amb": 0}


def test_the_process_that_answers_has_no_privileges(server: Server) -> None:
    running, _ = server
    status = Path(f"/proc/{running.pid}/status").read_text(encoding="ascii")
    assert capabilities(status) == dict.fromkeys(("Inh", "Prm", "Eff", "Bnd", "Amb"), 0)
    assert re.search(r"^NoNewPrivs:\s*1$", status, re.MULTILINE)
    assert re.search(r"^Uid:\s*([1-9][0-9]*)\s+\1\s+\1\s+\1$", status, re.MULTILINE)
    opened = []
    for each in Path(f"/proc/{running.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            opened.append(str(each.readlink()))
    assert "/dev/kvm" not in opened


def test_prometheus_scrapes_real_guests_with_their_native_histograms(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if (program := shutil.which("prometheus")) is None:
        pytest.skip("prometheus is not installed: tools/debian-packages.txt")
    _, url = server
    scraped = int(url.rstrip("/").rpartition(":")[2])
    spec = LabSpec(workload="halt", vcpus=2, count=200, name=NAME)
    with process.start(spec) as guests, prometheus(program, tmp_path_factory.mktemp("prometheus"), scraped) as port:
        guests.go()
        guests.wait_for_done(DEADLINE_S)
        (halts,) = (value for name, value in values(url, "kvm_vm_halt_exits_total").items() if NAME in name)
        of_guest = f'* on (vm) group_left () kvm_vm_info{{name=~".*{NAME}.*"}}'

        def scraped_value(expression: str) -> list[float]:
            return [float(each["value"][1]) for each in query(port, f"{expression} {of_guest}")]

        assert wait_for(lambda: scraped_value("kvm_vm_halt_exits_total") == [halts])
        assert 400 <= halts <= 1200
        (waits,) = scraped_value("histogram_count(kvm_vm_halt_wait_hist_nanoseconds)")
        (polls,) = scraped_value("kvm_vm_halt_successful_poll_total")
        assert 0 < waits <= halts
        assert polls <= halts
        assert wait_for(lambda: query(port, "sum by (fact) (kvm_host_apicv)")), "what a host has of APICv"
