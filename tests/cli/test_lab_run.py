"""``kvmscope lab run`` runs guests, reports what they did, and ends well however it is ended."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from kvmscope.cli.lab import lab
from kvmscope.errors import UsageError
from kvmscope.lab.spec import WITHOUT_GUESTS
from kvmscope.lab.workloads import WORKLOADS


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(lab, ["run", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_list_names_every_workload() -> None:
    listed = [line.split()[0] for line in invoke("--list").splitlines()]
    assert listed == [*WORKLOADS, "bare", "churn"]


def test_an_unknown_workload_is_a_usage_error_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        invoke("--workload", "mmoi")
    assert "mmio" in caught.value.nearest


@pytest.mark.parametrize("arguments", [["--for", "soon"], ["--for", "0s"], ["--for", "3 d"], ["--vcpu-ids", "a,b"]])
def test_a_malformed_option_is_a_usage_error(arguments: list[str]) -> None:
    assert CliRunner().invoke(lab, ["run", *arguments]).exit_code == 2


@pytest.mark.live
@pytest.mark.needs("kvm")
def test_json_tells_what_each_guest_did() -> None:
    report = json.loads(invoke("--vms", "2", "--vcpus", "2", "--count", "100", "--json"))
    assert report["format"] == "kvmscope/1"
    assert [vcpu["did"] for vm in report["vms"] for vcpu in vm["vcpus"]] == [100] * 4
    assert [vcpu["exits"] for vm in report["vms"] for vcpu in vm["vcpus"]] == [{"io": 101}] * 4


@pytest.mark.live
@pytest.mark.needs("kvm")
def test_the_table_has_a_row_for_each_vcpu() -> None:
    table = invoke("--vcpus", "2", "--count", "100").splitlines()
    assert [line.split()[0] for line in table] == ["VM", "lab-pio-0", "lab-pio-0"]


@pytest.mark.live
@pytest.mark.needs("kvm")
@pytest.mark.parametrize("workload", [*WORKLOADS, *WITHOUT_GUESTS])
def test_every_workload_runs_for_the_time_that_is_asked(workload: str) -> None:
    began = time.monotonic()
    report = json.loads(invoke("--workload", workload, "--for", "200ms", "--json"))
    assert time.monotonic() - began >= 0.2
    assert report["ended_by"] == "time"
    assert {vcpu["state"] for vcpu in report["vms"][0]["vcpus"]} <= {"stopped"}


@pytest.mark.live
@pytest.mark.needs("kvm")
def test_a_run_that_reaches_its_count_before_the_time_is_over_says_so() -> None:
    result = CliRunner().invoke(lab, ["run", "--count", "10", "--for", "30s", "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["ended_by"] == "count"
    assert result.stderr == "ended before 30 s: every vCPU reached the count\n"


def test_vms_that_never_run_take_no_count() -> None:
    with pytest.raises(UsageError, match="never run"):
        invoke("--workload", "bare", "--count", "5")


@pytest.mark.live
@pytest.mark.needs("kvm")
def test_churn_is_reported_by_its_vms() -> None:
    report = json.loads(invoke("--workload", "churn", "--count", "5", "--json"))
    assert report["vms"][0]["churned"] == 5


@pytest.mark.live
@pytest.mark.needs("kvm")
def test_an_interrupt_ends_it_with_its_report() -> None:
    command = [
        sys.executable,
        "-c",
        "from kvmscope.cli.lab import lab; lab()",
        "run",
        "--workload",
        "pio",
        "--json",
    ]
    command += ["--count", "100", "--stay"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert running.stdout is not None
        assert "stay until Ctrl-C" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        assert json.loads(running.stdout.read())["vms"][0]["vcpus"][0]["did"] == 100
    assert running.returncode == 0


@pytest.mark.live
@pytest.mark.needs("kvm")
def test_sigterm_ends_a_run_whose_vms_would_stay() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "kvmscope", "lab", "run", "--workload", "spin", "--stay"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs) as running:
        assert os.read(ours, 4096).startswith(b"VMs run spin")
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 128 + signal.SIGTERM
    os.close(theirs)
    os.close(ours)
