"""One VM, one row: what its VMM publishes stands beside what the kernel counts of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kvmscope.collect import open_host
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.schema import Scope

COUNT = 300
TIMEOUT_S = 60.0

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf")]


def answer(*arguments: str) -> Any:
    line = [sys.executable, "-m", "kvmscope", *arguments, "--source", "bpf", "--json"]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout)


@pytest.fixture(scope="module")
def vm() -> Iterator[str]:
    """The name of a VM that has done its thing, and stays."""
    with process.start(LabSpec(workload="pio", vcpus=2, count=COUNT, name="both", publishes=True)) as running:
        running.wait_for_ready(TIMEOUT_S)
        running.go()
        running.wait_for_end(TIMEOUT_S)
        yield running.spec.vm_name(0)


def test_read_has_the_stats_of_both_providers(vm: str) -> None:
    """Also where the kernel does not count its own: the other's does not take its place."""
    read = answer("read", vm)
    uncounted = any(gap["stat"] == "io_exits" for gap in read["gaps"])
    (found,) = read["vms"]
    for vcpu in found["vcpus"]:
        assert vcpu["stats"]["userspace_exits"] > COUNT
        assert vcpu["stats"]["exits"] > COUNT
        assert vcpu["stats"]["kvmscope_lab:io_exits"] == vcpu["stats"]["userspace_exits"]
        assert ("io_exits" in vcpu["stats"]) != uncounted


def test_a_stat_of_the_same_name_from_a_second_provider_is_told_apart_in_text(vm: str) -> None:
    line = [sys.executable, "-m", "kvmscope", "read", f"{vm}/0", "io_exits", "--source", "bpf"]
    text = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout
    names = [words.split()[1] for words in text.splitlines()]
    assert names in (["io_exits", "kvmscope_lab:io_exits"], ["kvmscope_lab:io_exits"])


def test_a_vm_is_listed_once_and_its_stats_with_their_meaning(vm: str) -> None:
    assert [found["name"] for found in answer("list", "--vms")["vms"]].count(vm) == 1
    (stat,) = [stat for stat in answer("list")["stats"] if stat["name"] == "requests_served"]
    assert (stat["provider"], stat["tier"]) == ("kvmscope_lab", "stable")
    assert stat["meaning"]


def test_explain_shows_what_the_author_says(vm: str) -> None:
    (found,) = answer("explain", "requests_served", "--interval", "100ms")["found"]
    assert found["meaning"]
    assert found["tier"] == "stable"


def test_a_process_with_two_vms_is_a_gap_and_no_guess() -> None:
    spec = LabSpec(workload="pio", vms=2, count=1, name="pair", publishes=True, one_process=True)
    with process.start(spec) as running, open_host("bpf") as host:
        running.wait_for_ready(TIMEOUT_S)
        scene = host.look()
        pair = {row for row, pid in enumerate(scene.sample.vms.pid.tolist()) if pid == running.pid}
        assert len(pair) == 2
        block = scene.sample.block("kvmscope_lab", Scope.VCPU)
        assert block is None or not pair & set(scene.sample.vcpus.vm[block.rows].tolist())
        vms = {scene.sample.vms.vm_id(row) for row in pair}
        assert {gap.vm for gap in scene.sample.gaps if "publishes statistics of 2" in gap.reason} == vms
