"""Provider ``pressure`` against the files of the cgroup that it is of."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from threads import pin_to_one_cpu

from kvmscope.collect import Host, open_host
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.linux.cgroups import find_unified, read_pressure
from kvmscope.schema import Scope

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "root")]

ENOUGH_US = 400_000


@contextmanager
def unified_group() -> Iterator[Path]:
    hierarchy = find_unified()
    if hierarchy is None or not Path("/proc/pressure/cpu").exists():
        pytest.skip("no unified hierarchy of cgroups with pressure")
    group = Path(hierarchy.place, f"kvmscope-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error.strerror}")
    try:
        yield group
    finally:
        group.rmdir()


def pressure_of(host: Host, pid: int) -> dict[str, int] | None:
    sample = host.look().sample
    (row,) = (row for row, each in enumerate(sample.vms.pid.tolist()) if each == pid)
    block = sample.block("pressure", Scope.VM)
    places = [] if block is None else [place for place, each in enumerate(block.rows.tolist()) if each == row]
    return {name: int(block.column(name)[places[0]]) for name in block.schema.names} if block and places else None


def test_a_guest_that_waits_for_its_cpu_has_the_pressure_of_its_cgroup() -> None:
    with (
        unified_group() as group,
        process.start(LabSpec(workload="spin")) as guest,
        process.start(LabSpec(workload="spin")) as other,
    ):
        (group / "cgroup.procs").write_text(str(guest.pid), encoding="ascii")
        for each in (guest, other):
            each.wait_for_ready()
            each.go()
        pin_to_one_cpu(guest, other)
        deadline = time.monotonic() + 60
        with open_host("bpf") as host:
            while (before := read_pressure(str(group), "cpu").value) is None or before.some_us < ENOUGH_US:
                assert time.monotonic() < deadline, "nothing made the guest wait"
                time.sleep(0.05)
            found = pressure_of(host, guest.pid)
            after = read_pressure(str(group), "cpu").value
            assert found is not None
            assert after is not None
            assert before.some_us <= found["cpu_some_ns"] // 1000 <= after.some_us
            assert before.full_us <= found["cpu_full_ns"] // 1000 <= after.full_us
            assert pressure_of(host, other.pid) is None, "a VM in the root cgroup has the pressure of the whole host"
        guest.close()
