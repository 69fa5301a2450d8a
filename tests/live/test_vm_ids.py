"""A VM has one id for as long as it lives: in every loading, after attaching again, from every source that can tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kvmscope.lab import process
from kvmscope.lab.process import Running
from kvmscope.lab.spec import LabSpec
from kvmscope.sample import Sample
from kvmscope.sources.bpf.attach import attach, detach
from kvmscope.sources.bpf.source import BpfSource, PinnedSource

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "root")]

STATSFD = """
import json
from kvmscope.sources.statsfd import StatsFdSource
with StatsFdSource() as source:
    sample = source.read()
    print(json.dumps(dict(zip(sample.vms.pid.tolist(), sample.vms.id.tolist(), strict=True))))
"""


@pytest.fixture(scope="module")
def guests() -> Iterator[Running]:
    """VMs whose VMM keeps their stats fds, each in a process of its own."""
    with process.start(LabSpec(workload="bare", vms=3, hold_stats_fds=True)) as running:
        running.wait_for_ready()
        yield running


@pytest.fixture
def root() -> Iterator[Path]:
    place = Path(f"/run/kvmscope-test-{os.getpid()}")
    try:
        yield place
    finally:
        detach(place)


def ids_of(sample: Sample, guests: Running) -> dict[int, int]:
    """By pid."""
    ids = dict(zip(sample.vms.pid.tolist(), sample.vms.id.tolist(), strict=True))
    return {pid: ids[pid] for pid in guests.pids}


def read_ids(guests: Running) -> dict[int, int]:
    with closing(BpfSource()) as source:
        return ids_of(source.read(), guests)


def read_pinned_ids(root: Path, guests: Running) -> dict[int, int]:
    with closing(PinnedSource(root)) as source:
        return ids_of(source.read(), guests)


def test_a_vm_has_the_same_id_in_every_loading_and_after_attaching_again(guests: Running, root: Path) -> None:
    first = read_ids(guests)
    assert len(set(first.values())) == 3
    assert read_ids(guests) == first
    attach(gid=0, root=root)
    assert read_pinned_ids(root, guests) == first
    detach(root)
    attach(gid=0, root=root)
    assert read_pinned_ids(root, guests) == first


@pytest.mark.needs("unshare")
def test_root_gets_the_same_ids_from_stats_fds_where_debugfs_is_mounted(guests: Running) -> None:
    mount = "mount --make-rprivate / && mount -t debugfs none /sys/kernel/debug"
    script = f"{mount} && exec {sys.executable} -c '{STATSFD}'"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=True)
    found = {int(pid): vm for pid, vm in json.loads(done.stdout).items()}
    assert {pid: found[pid] for pid in guests.pids} == read_ids(guests)


def test_vms_of_one_process_one_after_the_other_have_different_ids() -> None:
    with process.start(LabSpec(workload="churn", vcpus=1, count=5000)) as guests, closing(BpfSource()) as source:
        guests.go()
        seen: set[int] = set()
        while len(seen) <= 20 and not guests.wait_for_end(0):
            seen.update(source.read().vms.id.tolist())
    assert len(seen) > 20
