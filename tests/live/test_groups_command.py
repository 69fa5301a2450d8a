"""``kvmscope groups`` on real guests: what there is and costs, what a trial counts, and pinning for other users."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kvmscope.catalog.groups import load_groups
from kvmscope.lab import process
from kvmscope.lab.process import Running
from kvmscope.lab.spec import LabSpec
from kvmscope.sources.bpf.place import ROOT

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf")]

KVMSCOPE = (sys.executable, "-m", "kvmscope")
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


def run(*arguments: str, before: tuple[str, ...] = (), code: int = 0) -> str:
    done = subprocess.run(
        [*before, *KVMSCOPE, *arguments], capture_output=True, text=True, check=False, timeout=120, cwd="/"
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def guests() -> Iterator[Running]:
    """A VM that returns to its VMM without end."""
    with process.start(LabSpec(workload="pio", vms=1, vcpus=1, name=f"groups{os.getpid()}")) as running:
        running.wait_for_ready()
        running.go()
        yield running


def test_the_list_has_every_owner_with_its_cost(guests: Running) -> None:
    rows: list[dict[str, Any]] = json.loads(run("groups", "--json", "--source", "bpf"))["groups"]
    kernel = next(row for row in rows if row["owner"] == "kernel")
    assert kernel["state"] == "always on"
    assert kernel["bytes_per_vcpu"] >= 8 * kernel["vcpu_stats"]
    of_groups = {row["name"]: row for row in rows if row["state"] != "always read" and row["owner"] == "kvmscope"}
    assert set(of_groups) == set(load_groups())
    for row in of_groups.values():
        assert row["state"] in ("off", "pinned") or row["note"]
        assert (row["total_bytes"] is None) == (row["state"] == "not here")
    assert "mmu_lock" in run("groups", "--source", "bpf")


def test_a_trial_counts_what_the_guest_does_and_what_that_costs(guests: Running) -> None:
    said = json.loads(run("groups", "try", "userspace", "--for", "1s", "--vm", guests.spec.vm_name(0), "--json"))
    [group] = said["groups"]
    events = {event["event"]: event for event in group["events"]}
    assert events["userspace_exit_io"]["per_s"] > 100
    assert events["userspace_exits"]["per_s"] >= events["userspace_exit_io"]["per_s"]
    assert 0 < events["userspace_exits"]["p50_s"] <= events["userspace_exits"]["p99_s"]
    assert group["runs"] > 0
    assert group["ns_per_run"] > 0


def test_a_group_that_cannot_see_says_so_and_shows_no_zeros(guests: Running) -> None:
    said = json.loads(run("groups", "try", "exits", "--for", "200ms", "--json"))
    [group] = said["groups"]
    if group["events"]:
        pytest.skip("KVM on this machine tells of exits")
    assert "exits" in {gap["provider"] for gap in said["gaps"]}
    assert "unknown: " in run("groups", "try", "exits", "--for", "200ms")


def test_a_group_that_there_is_not_is_a_usage_error() -> None:
    assert "did you mean exits" in run("groups", "try", "exit", code=2)
    assert "cannot be pinned" in run("groups", "pin", "apicv", code=2)


@pytest.mark.needs("nobody")
def test_a_pinned_group_is_read_without_root_until_it_is_unpinned(guests: Running) -> None:
    if ROOT.exists():
        pytest.skip(f"something is attached at {ROOT}, which this test would replace")
    name = guests.spec.vm_name(0)
    try:
        assert "userspace" in run("groups", "pin", "userspace", "--mode", "0444")
        state = {row["name"]: row["state"] for row in json.loads(run("groups", "--json"))["groups"]}
        assert state["userspace"] == "pinned"
        said = run("read", name + "/0", "userspace_exits", "--json", before=NOBODY)
        [vm] = json.loads(said)["vms"]
        assert vm["vcpus"][0]["stats"]["userspace_exits"] > 0
        assert run("groups", "unpin", "userspace") == "no longer counted\n"
        assert "no stat 'userspace_exits'" in run("read", name + "/0", "userspace_exits", before=NOBODY, code=2)
    finally:
        run("detach")
    assert not ROOT.exists()
