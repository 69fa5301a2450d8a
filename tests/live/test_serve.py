"""`kvmscope serve` on this host's KVM: real guests in its metrics, and no privileges in the process that answers."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf")]

DEADLINE_S = 30.0
NAME = "scraped"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that root has started, and its URL."""
    command = [sys.executable, "-m", "kvmscope", "serve", "--source", "bpf", "--web.listen-address", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        try:
            lines = iter(running.stderr.readline, "")
            yield running, next(line.split()[-1] for line in lines if line.startswith("serving at"))
        finally:
            running.terminate()


def values(url: str, name: str) -> dict[str, float]:
    """By the name of the VM."""
    with urllib.request.urlopen(f"{url}metrics", timeout=DEADLINE_S) as answer:
        families = list(parse_text(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples]
    names = {each.labels["vm"]: each.labels["name"] for each in samples if each.name == "kvm_vm_info"}
    return {names[each.labels["vm"]]: each.value for each in samples if each.name == name}


def test_what_a_guest_does_is_in_the_next_scrape_and_its_end_in_the_one_after(
    server: tuple[subprocess.Popen[str], str],
) -> None:
    _, url = server
    with process.start(LabSpec(workload="halt", vcpus=2, count=200, name=NAME)) as guests:
        guests.go()
        guests.wait_for_done(DEADLINE_S)
        halts = {name: value for name, value in values(url, "kvm_vm_halt_exits_total").items() if NAME in name}
        assert len(halts) == 1
        assert 400 <= max(halts.values()) <= 1200
    assert not [name for name in values(url, "kvm_vm_vcpus") if NAME in name]


def test_the_process_that_answers_has_no_privileges(server: tuple[subprocess.Popen[str], str]) -> None:
    running, _ = server
    status = Path(f"/proc/{running.pid}/status").read_text(encoding="ascii")
    masks = dict(re.findall(r"^Cap(Prm|Eff|Bnd|Amb|Inh):\s*([0-9a-f]+)$", status, re.MULTILINE))
    assert {name: int(mask, 16) for name, mask in masks.items()} == dict.fromkeys(
        ("Inh", "Prm", "Eff", "Bnd", "Amb"), 0
    )
    assert re.search(r"^NoNewPrivs:\s*1$", status, re.MULTILINE)
    assert re.search(r"^Uid:\s*([1-9][0-9]*)\s+\1\s+\1\s+\1$", status, re.MULTILINE)
    opened = []
    for each in Path(f"/proc/{running.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            opened.append(str(each.readlink()))
    assert "/dev/kvm" not in opened
