"""The small programs of examples/ read this host: what they print is of the guests that run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from monitoring import fetch, free_port, running, wait_for
from prometheus_client.parser import text_string_to_metric_families

from kvmscope.lab import process
from kvmscope.lab.process import Running
from kvmscope.lab.spec import LabSpec

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf")]


@pytest.fixture(scope="module")
def guests() -> Iterator[Running]:
    with process.start(LabSpec(workload="halt", name="example", vms=1, vcpus=2)) as guests:
        guests.wait_for_ready()
        guests.go()
        yield guests


def test_the_exporter_has_thirty_lines_and_a_line_for_each_vcpu(guests: Running) -> None:
    assert len((EXAMPLES / "exporter.py").read_text(encoding="utf-8").splitlines()) == 30
    url = f"http://127.0.0.1:{(port := free_port())}/"
    with running([sys.executable, str(EXAMPLES / "exporter.py"), str(port)], url):
        text = wait_for(lambda: fetch(url)) or b""
    (family,) = text_string_to_metric_families(text.decode())
    vcpus = [sample.labels["vcpu"] for sample in family.samples if sample.value > 0]
    assert {"0", "1"} <= set(vcpus)


def test_the_rates_are_of_each_vcpu_and_an_unknown_stat_is_no_number(guests: Running) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "vcpu_rates.py", "halt_exits", "no_such_stat"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines()}
    for vcpu in (0, 1):
        halts, unknown = rows[f"{guests.spec.vm_name(0)}/{vcpu}"]
        assert int(halts) > 0
        assert unknown == "-"
