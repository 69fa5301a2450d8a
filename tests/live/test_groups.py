"""Groups that count by BPF on this host: what it cannot see is said, what is closed is gone, and pins serve users.

Whether exits are told depends on who runs the VMs here; what is counted where they are, is in kernels/test_exits.py.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmscope.collect import open_host
from kvmscope.errors import UsageError
from kvmscope.lab import process
from kvmscope.lab.process import Running
from kvmscope.lab.spec import LabSpec
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf import groups as bpf_groups
from kvmscope.sources.bpf import libbpf
from kvmscope.sources.bpf.attach import attach, detach
from kvmscope.sources.bpf.groups.kernel import Isa, KernelFacts
from kvmscope.sources.bpf.source import BpfSource, PinnedSource

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "root")]

GROUP, NOBODY = 60_001, 65534
TELLS_EXITS = KernelFacts().isa is not Isa.UNKNOWN

READ = """
import json, sys
from pathlib import Path
from kvmscope.errors import KvmscopeError
from kvmscope.sources.bpf.source import PinnedSource
try:
    sample = PinnedSource(Path(sys.argv[1]), groups=sys.argv[2:] or None).read()
except KvmscopeError as error:
    print(json.dumps({"slug": error.slug, "reason": error.reason, "remedy": error.remedy}))
else:
    gaps = [[gap.provider, gap.reason] for gap in sample.gaps]
    providers = [block.schema.provider for block in sample.blocks]
    print(json.dumps({"ids": sample.vms.id.tolist(), "gaps": gaps, "providers": providers}))
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """A place to attach in; whatever is there is detached in the end."""
    place = Path(f"/run/kvmscope-groups-{os.getpid()}")
    try:
        yield place
    finally:
        detach(place)


@pytest.fixture(scope="module")
def guests() -> Iterator[Running]:
    with process.start(LabSpec(workload="pio", vcpus=2, count=50)) as running:
        running.go()
        running.wait_for_done(60)
        yield running


def wait_until(holds: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.01)


def loaded(kind: str) -> set[int]:
    """Ids of the BPF programs, maps or links of this host."""
    libbpf_ = ctypes.CDLL("libbpf.so.1")
    number, found = ctypes.c_uint32(0), set()
    while libbpf_[f"bpf_{kind}_get_next_id"](number, ctypes.byref(number)) == 0:
        found.add(number.value)
    return found


def own_ids() -> dict[str, set[int]]:
    """Of the BPF objects that this process holds files of."""
    keys = {"prog_id": "prog", "map_id": "map", "link_id": "link"}
    found: dict[str, set[int]] = {kind: set() for kind in keys.values()}
    for path in Path("/proc/self/fdinfo").iterdir():
        for line in path.read_text(encoding="ascii").splitlines() if path.exists() else ():
            key, _, value = line.partition(":")
            if key in keys:
                found[keys[key]].add(int(value))
    return found


def read_as_nobody(root: Path, *groups: str) -> dict[str, Any]:
    command = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--groups", str(GROUP)]
    done = subprocess.run(
        [*command, sys.executable, "-c", READ, str(root), *groups], capture_output=True, text=True, check=True, cwd="/"
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def exits_gaps(sample: Sample) -> list[str]:
    return [gap.reason for gap in sample.gaps if gap.provider == "exits"]


# -- what is seen ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(TELLS_EXITS, reason="this KVM tells of exits")
def test_where_exits_are_not_told_there_is_a_reason_and_no_zero(guests: Running) -> None:
    with open_host("bpf", groups=("exits",)) as host:
        sample = host.read()
    assert sample.block("exits", Scope.VCPU) is None
    (reason,) = exits_gaps(sample)
    assert "no exit was seen" in reason
    assert KernelFacts().vendor in reason


@pytest.mark.skipif(not TELLS_EXITS, reason="this KVM does not tell of exits")
def test_where_exits_are_told_a_guest_that_writes_to_a_port_has_them() -> None:
    with open_host("bpf", groups=("exits",)) as host, process.start(LabSpec(workload="pio", count=50)) as guests:
        guests.go()
        guests.wait_for_done(60)
        block = host.read().block("exits", Scope.VCPU)
        assert block is not None
        names = [name for name in block.schema.names if name in ("exit_io", "exit_io_instruction")]
        assert block.column(names[0]).max() >= 50


def test_a_group_adds_to_the_sample_and_takes_nothing_from_it(guests: Running) -> None:
    with open_host("bpf") as plain, open_host("bpf", groups=("exits", "apic")) as host:
        base, more = plain.read(), host.read()
    assert [b.schema.provider for b in more.blocks][: len(base.blocks)] == [b.schema.provider for b in base.blocks]
    assert more.vms.pid.tolist() == base.vms.pid.tolist()
    assert guests.pid in base.vms.pid


def test_the_schemas_of_groups_are_among_those_of_the_host() -> None:
    with open_host("bpf", groups=("exits",)) as host:
        (schema,) = [schema for schema in host.schemas if schema.provider == "exits"]
    assert schema.scope is Scope.VCPU
    assert "exit_other" in schema


def test_every_group_says_what_it_costs() -> None:
    source = BpfSource(groups=tuple(bpf_groups.plans_by_name()))
    try:
        assert [group.name for group in source.groups] == list(bpf_groups.plans_by_name())
        for group in source.groups:
            if group.cost is not None:
                assert group.cost.memory_bytes == group.cost.room * (
                    group.cost.bytes_per_vm + group.cost.bytes_per_vcpu
                )
                assert group.cost.words * 8 < group.cost.bytes_per_vm + group.cost.bytes_per_vcpu
    finally:
        source.close()


# -- while it is open, and no longer ---------------------------------------------------------------------------------


def test_nothing_of_a_group_is_left_after_close() -> None:
    before = own_ids()
    source = BpfSource(groups=tuple(bpf_groups.plans_by_name()))
    held = {kind: ids - before[kind] for kind, ids in own_ids().items()}
    assert all(held.values())
    source.close()
    for kind, ids in held.items():
        wait_until(lambda kind=kind, ids=ids: not ids & loaded(kind))  # type: ignore[misc]


def test_without_groups_none_is_loaded() -> None:
    source = BpfSource()
    try:
        assert source.groups == ()
        assert not any(schema.provider in bpf_groups.plans_by_name() for schema in source.schemas)
    finally:
        source.close()


# -- pinned ----------------------------------------------------------------------------------------------------------


@pytest.mark.needs("nobody")
def test_a_group_can_be_pinned_later_and_vms_keep_their_ids(root: Path, guests: Running) -> None:
    attach(gid=GROUP, root=root)
    before = read_as_nobody(root)
    done = attach(gid=GROUP, root=root, groups=("exits",))
    assert (done.kept, done.groups) == (True, ("exits",))
    after = read_as_nobody(root, "exits")
    assert set(before["ids"]) & set(after["ids"])
    assert ("exits" in after["providers"]) == TELLS_EXITS
    assert [provider for provider, _ in after["gaps"]] == ["exits"] * (not TELLS_EXITS)


@pytest.mark.needs("nobody")
def test_what_is_pinned_is_read_without_being_asked_for(root: Path, guests: Running) -> None:
    attach(gid=GROUP, root=root, groups=("exits",))
    answer = read_as_nobody(root)
    assert "exits" in [*answer["providers"], *(provider for provider, _ in answer["gaps"])]


@pytest.mark.needs("nobody")
def test_a_group_that_is_not_pinned_is_an_error_that_says_what_root_can_do(root: Path) -> None:
    attach(gid=GROUP, root=root)
    answer = read_as_nobody(root, "exits")
    assert (answer["slug"], answer["reason"]) == ("unavailable", "group exits is not pinned")
    assert answer["remedy"] == "as root: kvmscope attach --count exits"
    assert "providers" in read_as_nobody(root, "apic"), "which is there with every iterator that is pinned"


def ids_in(root: Path) -> list[int]:
    source = PinnedSource(root)
    try:
        return [int(vm) for vm in source.read().vms.id]
    finally:
        source.close()


@pytest.mark.needs("nobody")
@pytest.mark.usefixtures("guests")
def test_attaching_again_for_more_room_keeps_groups_and_ids(root: Path) -> None:
    attach(gid=GROUP, root=root, vcpus=64, groups=("exits",))
    before, inode = ids_in(root), (root / "groups/exits/meta").stat().st_ino
    assert not attach(gid=GROUP, root=root, vcpus=8192).kept
    assert ids_in(root) == before
    assert (root / "groups/exits/meta").stat().st_ino == inode, "its counts go on"
    assert read_as_nobody(root, "exits")["providers"]


def test_an_iterator_of_the_same_shape_from_another_object_is_replaced(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not attach(gid=GROUP, root=root).kept
    monkeypatch.setattr("kvmscope.sources.bpf.attach.object_data", lambda: b"another build")
    assert not attach(gid=GROUP, root=root).kept
    assert attach(gid=GROUP, root=root).kept


def test_the_links_are_roots_alone(root: Path) -> None:
    attach(gid=GROUP, root=root, mode=0o444, groups=("exits",))
    private = [*(root / "groups/exits").glob("link-*")]
    assert len(private) == 2
    for path in private:
        assert path.stat().st_uid == path.stat().st_gid == 0
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_no_array_of_a_pinned_group_can_be_written(root: Path) -> None:
    attach(gid=GROUP, root=root, groups=("exits",))
    for name in ("who", "data", "state", "meta"):
        fd = libbpf.open_pinned_map(root / "groups/exits" / name)
        try:
            with pytest.raises(PermissionError):
                mmap.mmap(fd, mmap.PAGESIZE)
        finally:
            os.close(fd)


def test_a_reader_is_told_when_the_group_is_detached_and_goes_on_when_it_comes_back(root: Path) -> None:
    attach(gid=GROUP, root=root, groups=("exits",))
    source = PinnedSource(root)
    try:
        assert detach(root, groups=("exits",))
        assert exits_gaps(source.read()) == ["group exits was detached"]
        assert not detach(root, groups=("exits",))
        attach(gid=GROUP, root=root, groups=("exits",))
        assert "group exits was detached" not in exits_gaps(source.read())
    finally:
        source.close()


def test_detaching_takes_groups_along(root: Path) -> None:
    links = loaded("link")
    attach(gid=GROUP, root=root, groups=("exits",))
    assert len(loaded("link") - links) >= 3
    added = loaded("link") - links
    assert detach(root)
    assert not root.exists()
    wait_until(lambda: not added & loaded("link"))


# -- asking ----------------------------------------------------------------------------------------------------------


def test_a_group_that_cannot_be_pinned_is_a_usage_error(root: Path) -> None:
    with pytest.raises(UsageError, match="to pin"):
        attach(gid=GROUP, root=root, groups=("apicv",))
    assert not root.exists()


def test_only_sources_that_count_take_groups() -> None:
    with pytest.raises(UsageError, match="'bpf' and 'pinned', not 'statsfd'"):
        open_host("statsfd", groups=("exits",))
    with pytest.raises(UsageError, match="only by"):
        open_host("pinned", groups=("apicv", "exits"))
