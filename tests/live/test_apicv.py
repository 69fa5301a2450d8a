"""The verdict on this host's real KVM; on one without APICv it is "unsupported" wherever it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from kvmscope.analysis.apicv import Branch, State, judge, what_if
from kvmscope.collect import open_host
from kvmscope.host.apicv import HostApicv, host_apicv
from kvmscope.host.libvirt_files import read_config
from kvmscope.host.machine import read_machine
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.schema import Scope

pytestmark = [pytest.mark.needs("kvm", "bpf")]

NAME = "apicv-verdict"


@pytest.fixture(scope="module")
def host() -> HostApicv:
    return host_apicv(read_machine())


@pytest.fixture(scope="module")
def vm() -> Iterator[str]:
    """The name of a VM of two vCPUs that runs."""
    with process.start(LabSpec(workload="halt", vcpus=2, name=NAME)) as guests:
        guests.go()
        yield guests.spec.vm_name(0)


@pytest.fixture
def without(host: HostApicv) -> None:
    if host.supported.value is not False:
        pytest.skip(f"this host may have it: {host.supported.evidence}")


def kvmscope(*arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "kvmscope", *arguments, "--json"], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def of_vm(answer: Any, vm: str) -> Any:
    return next(entry for entry in answer["vms"] if entry["name"] == vm)


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize("source", ["bpf", "auto"])
def test_a_host_without_it_is_unsupported_with_the_evidence(vm: str, host: HostApicv, source: str) -> None:
    answer = of_vm(kvmscope("apicv", "--source", source), vm)
    assert (answer["apicv"]["state"], answer["apicv"]["branch"]) == ("unsupported", "not-supported")
    assert answer["apicv"]["verified"] is True
    texts = {evidence["text"] for evidence in answer["apicv"]["evidence"]}
    assert texts >= {"apicv_inhibit_disabled is set", host.supported.evidence}
    assert [vcpu["state"] for vcpu in answer["vcpus"]] == ["unsupported"] * 2
    assert answer["apicv"]["reasons"][0]["remedy"].startswith("None on this host")


@pytest.mark.usefixtures("without")
def test_status_says_the_same(vm: str, host: HostApicv) -> None:
    answer = of_vm(kvmscope("status", "--interval", "200ms"), vm)
    assert answer["apicv"]["state"] == "unsupported"
    assert answer["apicv"]["reasons"][0]["cause"] == host.supported.evidence
    assert [vcpu["apicv_active"] for vcpu in answer["vcpus"]] == [False, False]


@pytest.mark.usefixtures("without")
def test_no_zero_looks_like_a_count(vm: str) -> None:
    """Of time and events nothing is counted, so nothing is 0: it is null, or not there."""
    reason = of_vm(kvmscope("apicv", "--interval", "200ms"), vm)["apicv"]["reasons"][0]
    assert (reason["share"], reason["inhibited_s"], reason["since_s"]) == (None, None, None)
    read = of_vm(kvmscope("read", vm, "--provider", "apicv"), vm)
    stats = read["stats"] | {name: value for vcpu in read["vcpus"] for name, value in vcpu["stats"].items()}
    counts = {name for name, value in stats.items() if not isinstance(value, bool)}
    assert counts <= {"apic_id", "apic_ldr", "apic_dfr"}, "registers, as they stand"


@pytest.mark.usefixtures("without")
def test_a_source_without_the_state_is_unsupported_by_what_the_host_is(vm: str, host: HostApicv) -> None:
    with open_host("bpf") as seen:
        sample = replace(seen.read(), source="statsfd", blocks=())
    verdicts = judge(sample, host)
    assert {(verdict.state, verdict.is_verified) for verdict in verdicts.vms} == {(State.UNSUPPORTED, False)}
    assert {vcpu.active for vcpu in verdicts.by_vcpu.values()} == {None}


@pytest.mark.usefixtures("without")
def test_what_if_says_that_the_host_cannot(vm: str, host: HostApicv) -> None:
    with open_host("bpf") as seen:
        sample = seen.read()
        configs = [read_config(identity.process) for identity in seen.identify(sample)]
    assert {found.host for found in what_if(sample, host, configs)} == {Branch.NOT_SUPPORTED}


def test_the_verdict_agrees_with_the_flags_of_the_kernel(vm: str, host: HostApicv) -> None:
    with open_host("bpf") as seen:
        sample = seen.read()
    block = sample.block("apicv", Scope.VCPU)
    assert block is not None
    flags = dict(zip(block.rows.tolist(), block.column("apicv_active").tolist(), strict=True))
    judged = judge(sample, host).by_vcpu
    assert {row: int(bool(verdict.active)) for row, verdict in judged.items() if row in flags} == flags
