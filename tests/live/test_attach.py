"""Attaching and detaching: who may read what is pinned, who may not, and what is left when it is taken away."""

from __future__ import annotations

import ctypes
import grp
import json
import mmap
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvmscope.analysis.window import Window
from kvmscope.codec.snapshot import MAX_SLOTS
from kvmscope.collect.live import Host
from kvmscope.errors import Busy, FormatError, PermissionNeeded, SourceError, Unavailable, UsageError
from kvmscope.lab import process
from kvmscope.lab.process import Running
from kvmscope.lab.spec import LabSpec
from kvmscope.linux.libbpf import library
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf import libbpf, pins
from kvmscope.sources.bpf.attach import access, attach, detach
from kvmscope.sources.bpf.layout import Layout
from kvmscope.sources.bpf.loading import load_program
from kvmscope.sources.bpf.place import ROOT, directory_in
from kvmscope.sources.bpf.source import BpfSource, PinnedSource, read_reasons
from kvmscope.sources.kvm_schema import read_kvm_schemas

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "root")]

NOBODY = 65534
GROUP, OTHER_GROUP = 60_001, 60_002  # need no entry in /etc/group

READ = """
import json, sys
from pathlib import Path
from kvmscope.errors import KvmscopeError
from kvmscope.sources.bpf.source import PinnedSource
try:
    source = PinnedSource(Path(sys.argv[1]))
    sample = source.read()
except KvmscopeError as error:
    print(json.dumps({"slug": error.slug, "reason": error.reason, "remedy": error.remedy}))
else:
    blocks = {f"{b.schema.provider}-{b.schema.scope.value}": b.values.tolist() for b in sample.blocks}
    ids = sample.vcpus.id.tolist(), sample.vcpus.vm.tolist()
    print(json.dumps({"pids": sample.vms.pid.tolist(), "vcpus": ids, "blocks": blocks}))
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """A place to attach in; whatever is there is detached in the end."""
    place = Path(f"/run/kvmscope-test-{os.getpid()}")
    try:
        yield place
    finally:
        detach(place)


@pytest.fixture(scope="module")
def guests() -> Iterator[Running]:
    """VMs that did something and are still."""
    with process.start(LabSpec(workload="pio", vms=2, vcpus=2, count=50)) as running:
        running.go()
        running.wait_for_done(60)
        yield running


def wait_until(holds: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.01)


def as_nobody(*command: str, groups: Sequence[int] = (), stdin: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command without any privilege, as a member of ``groups``."""
    return subprocess.run(
        [*unprivileged(groups), *command], stdin=stdin, capture_output=True, text=True, check=False, cwd="/"
    )


def unprivileged(groups: Sequence[int] = ()) -> list[str]:
    member = ["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]
    return ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), *member]


def read_as_nobody(root: Path, *groups: int) -> dict[str, Any]:
    done = as_nobody(sys.executable, "-c", READ, str(root), groups=groups)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextmanager
def pinned_source(root: Path) -> Iterator[PinnedSource]:
    source = PinnedSource(root)
    try:
        yield source
    finally:
        source.close()


def values_of(sample: Sample, pids: Sequence[int]) -> dict[int, list[list[int]]]:
    """All words of the kernel's statistics of these VMMs: the VM's, then each vCPU's."""
    vms, vcpus = sample.block("kvm", Scope.VM), sample.block("kvm", Scope.VCPU)
    assert vms is not None
    assert vcpus is not None
    return {
        pid: [vms.values[row].tolist(), *vcpus.values[sample.vcpus_of_vm[row]].tolist()]
        for row, pid in enumerate(sample.vms.pid.tolist())
        if pid in pids
    }


# -- who may read ----------------------------------------------------------------------------------------------------


@pytest.mark.needs("nobody")
def test_a_user_in_the_group_reads_what_root_reads(root: Path, guests: Running) -> None:
    attach(gid=GROUP, root=root)
    answer = read_as_nobody(root, GROUP)
    own = BpfSource()
    try:
        sample = own.read()
    finally:
        own.close()
    expected = values_of(sample, guests.pids)
    assert len(expected) == 2
    assert any(map(any, (words for vm in expected.values() for words in vm)))
    for pid, (vm, *vcpus) in expected.items():
        row = answer["pids"].index(pid)
        assert answer["blocks"]["kvm-vm"][row] == vm
        rows = [place for place, of in enumerate(answer["vcpus"][1]) if of == row]
        assert [answer["vcpus"][0][place] for place in rows] == [0, 1]
        assert [answer["blocks"]["kvm-vcpu"][place] for place in rows] == vcpus


@pytest.mark.needs("nobody")
def test_a_user_outside_of_the_group_is_told_which_group_to_join(root: Path) -> None:
    attach(gid=OTHER_GROUP, root=root)
    answer = read_as_nobody(root, GROUP)
    assert answer["slug"] == PermissionNeeded.slug
    assert str(root) in answer["reason"]
    assert f"join its group ({OTHER_GROUP})" in answer["remedy"]


@pytest.mark.needs("nobody")
def test_where_nothing_is_attached_a_user_is_told_what_root_can_do(root: Path) -> None:
    answer = read_as_nobody(root, GROUP)
    assert answer["slug"] == Unavailable.slug
    assert answer["reason"] == "nothing is attached"
    assert "kvmscope attach" in answer["remedy"]


@pytest.mark.needs("nobody")
def test_with_a_mode_for_all_everybody_reads(root: Path, guests: Running) -> None:
    attach(gid=0, mode=0o444, root=root)
    assert set(guests.pids) <= set(read_as_nobody(root)["pids"])


@pytest.mark.needs("nobody")
def test_attaching_again_for_others_loads_again_and_changes_who_may_read(root: Path, guests: Running) -> None:
    first = attach(gid=GROUP, root=root)
    program = identity_of(root)["program"]
    second = attach(gid=OTHER_GROUP, root=root)
    assert (first.kept, second.kept) == (False, False)
    assert second.directory == first.directory
    assert identity_of(root)["program"] != program
    assert read_as_nobody(root, GROUP)["slug"] == PermissionNeeded.slug
    assert set(guests.pids) <= set(read_as_nobody(root, OTHER_GROUP)["pids"])


@pytest.mark.needs("nobody")
def test_attaching_needs_root(root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from kvmscope.sources.bpf.attach import access, attach, detach\n"
        "for call in (lambda r: attach(gid=0, root=r), detach):\n"
        "    try: call(Path(sys.argv[1]))\n"
        "    except Exception as error: print(type(error).__name__)\n"
    )
    done = as_nobody(sys.executable, "-c", code, str(root))
    assert done.stdout.split() == ["PermissionNeeded", "PermissionNeeded"]
    assert not root.exists()


# -- what a reader can do beside reading -----------------------------------------------------------------------------

WRITE = """
import ctypes, errno, mmap, os, sys
from pathlib import Path
from kvmscope.sources.bpf import libbpf
root = Path(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
class Element(ctypes.Structure):
    _fields_ = (("map_fd", ctypes.c_uint32), ("key", ctypes.c_uint64), ("value", ctypes.c_uint64),
                ("flags", ctypes.c_uint64))
for name in ("control", "vms", "vcpus", "meta"):
    fd = libbpf.open_pinned_map(root / name)
    try:
        mmap.mmap(fd, mmap.PAGESIZE)
        print(name, "mapped for writing")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
    key, value = ctypes.c_uint32(0), ctypes.create_string_buffer(1 << 17)
    element = Element(fd, ctypes.addressof(key), ctypes.addressof(value), 0)
    number = libbpf._SYSCALL_BPF[os.uname().machine]
    done = libc.syscall(number, 2, ctypes.byref(element), ctypes.sizeof(element))  # BPF_MAP_UPDATE_ELEM
    print(name, errno.errorcode[ctypes.get_errno()] if done else "updated")
    try:
        os.unlink(root / name)
        print(name, "unlinked")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
"""


@pytest.mark.needs("nobody")
def test_a_reader_can_neither_change_nor_remove_what_others_read(root: Path) -> None:
    directory = attach(gid=GROUP, root=root).directory
    done = as_nobody(sys.executable, "-c", WRITE, str(directory), groups=[GROUP])
    assert done.returncode == 0, done.stderr
    said = [line.split() for line in done.stdout.splitlines()]
    assert len(said) == 4 * 3
    assert {code for _, code in said} <= {"EPERM", "EACCES"}, said


def test_not_even_root_can_change_the_numbers_of_others(root: Path) -> None:
    directory = attach(gid=GROUP, root=root).directory
    fd = libbpf.open_pinned_map(directory / "vcpus")
    try:
        with pytest.raises(PermissionError):
            mmap.mmap(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)


def kernel_addresses(words: np.ndarray[Any, np.dtype[np.uint64]]) -> list[str]:
    """Words that are addresses of the kernel's half: direct map, vmalloc, BPF, text and modules."""
    suspects = words[(words >= 0xFFFF_8000_0000_0000) & (words < 0xFFFF_FFFF_FF60_0000)]
    return [hex(word) for word in suspects.tolist()]


def test_an_address_would_be_noticed() -> None:
    words = np.array([5, 0xFFFF_8880_1234_5678, 2**64 - 1, 0xFFFF_FFFF_8100_0000], dtype=np.uint64)
    assert kernel_addresses(words) == ["0xffff888012345678", "0xffffffff81000000"]


@pytest.mark.usefixtures("guests")
def test_nothing_that_a_reader_can_map_has_an_address_of_the_kernel(root: Path) -> None:
    directory = attach(gid=GROUP, root=root).directory
    with process.start(LabSpec(workload="spin", vcpus=2)) as running, pinned_source(root) as source:
        running.go()
        wait_until(lambda: bool(source.read().vcpus.tid.max() > 0))
        for _ in range(20):
            source.read()
    for name in ("control", "vms", "vcpus", "meta"):
        fd = libbpf.open_pinned_map(directory / name)
        size = size_of_map(fd)
        with mmap.mmap(fd, size, prot=mmap.PROT_READ) as mapped:
            words = np.frombuffer(bytes(mapped), dtype=np.uint64)
        os.close(fd)
        assert words.any(), f"{name} is empty, so this would prove nothing"
        assert kernel_addresses(words) == []


def size_of_map(fd: int) -> int:
    info = fdinfo(fd)
    # An element begins at a multiple of 8; the array is mapped in whole pages.
    size = -(-int(info["value_size"]) // 8) * 8 * int(info["max_entries"])
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def fdinfo(fd: int) -> dict[str, str]:
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


# -- for how long ----------------------------------------------------------------------------------------------------


@pytest.mark.needs("nobody")
def test_it_outlives_the_process_that_attached(root: Path, guests: Running) -> None:
    code = (
        "import sys; from pathlib import Path; from kvmscope.sources.bpf.attach import attach\n"
        "attach(gid=int(sys.argv[2]), root=Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(root), str(GROUP)], check=True)
    assert set(guests.pids) <= set(read_as_nobody(root, GROUP)["pids"])


def identity_of(root: Path) -> dict[str, int]:
    """The kernel's numbers of the pinned program and maps."""
    directory = directory_in(root)
    found: dict[str, int] = {}
    for name in ("read", "control", "vms", "vcpus", "meta"):
        fd = int(library().bpf_obj_get(os.fsencode(directory / name)))
        assert fd >= 0
        info = fdinfo(fd)
        os.close(fd)
        found |= {"program": int(info["prog_id"])} if name == "read" else {name: int(info["map_id"])}
    return found


def is_loaded(kind: str, number: int) -> bool:
    lib = library()
    get = lib.bpf_prog_get_fd_by_id if kind == "program" else lib.bpf_map_get_fd_by_id
    fd = int(get(ctypes.c_uint32(number)))
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def test_detaching_leaves_nothing(root: Path) -> None:
    attach(gid=GROUP, root=root)
    loaded = identity_of(root)
    assert all(is_loaded(*item) for item in loaded.items())
    assert str(root) in mounts()
    assert detach(root) is True
    assert str(root) not in mounts()
    assert not root.exists()
    wait_until(lambda: not any(is_loaded(*item) for item in loaded.items()))
    assert detach(root) is False


def test_a_reader_is_told_when_it_was_detached(root: Path) -> None:
    attach(gid=GROUP, root=root)
    with pinned_source(root) as source:
        source.read()
        detach(root)
        with pytest.raises(Unavailable, match="detached"):
            source.read()


def test_detaching_does_not_wait_for_readers(root: Path) -> None:
    directory = attach(gid=GROUP, root=root).directory
    fd = os.open(directory / "read", os.O_RDONLY)  # a reader in the middle of a run
    try:
        assert detach(root) is True
        assert str(root) not in mounts()
        assert not root.exists()
    finally:
        os.close(fd)


def test_a_reader_that_was_open_when_room_was_added_never_reads_old_numbers(root: Path) -> None:
    attach(gid=GROUP, vcpus=4096, root=root)
    with process.start(LabSpec(workload="bare", vcpus=2)) as before, pinned_source(root) as source:
        before.wait_for_ready()
        source.read()
        assert not attach(gid=GROUP, vcpus=8192, root=root).kept
        with process.start(LabSpec(workload="bare", vcpus=3)) as after, pinned_source(root) as other:
            after.wait_for_ready()
            for _ in range(5):  # the new program may come by the generation that the old one stopped at
                assert {before.pid, after.pid} <= set(source.read().vms.pid.tolist())
                assert {before.pid, after.pid} <= set(other.read().vms.pid.tolist())


def test_a_reader_that_was_open_when_it_was_detached_reads_again_once_it_is_attached(root: Path) -> None:
    attach(gid=GROUP, root=root)
    with pinned_source(root) as source:
        source.read()
        detach(root)
        with pytest.raises(Unavailable):
            source.read()
        attach(gid=GROUP, root=root)
        source.read()


def test_too_little_room_is_told_with_the_room_that_is_needed(root: Path, guests: Running) -> None:
    attach(gid=GROUP, vms=1, vcpus=1, root=root)
    with pytest.raises(Unavailable, match="room for 1 VMs with 1 vCPUs") as caught, pinned_source(root):
        pass
    named = dict(re.findall(r"--(\w+) (\d+)", caught.value.remedy))
    assert named.keys() == {"vcpus", "vms"}
    assert not attach(gid=GROUP, vms=int(named["vms"]), vcpus=int(named["vcpus"]), root=root).kept
    with pinned_source(root) as source:
        assert set(guests.pids) <= set(source.read().vms.pid.tolist())


# -- versions and damage ---------------------------------------------------------------------------------------------


def test_another_version_is_kept_beside_ours_and_taken_away_with_it(root: Path) -> None:
    directory = attach(gid=GROUP, root=root).directory
    other = root / "v999"
    other.mkdir()
    attach(gid=GROUP, vcpus=16384, root=root)
    assert other.is_dir()
    with pinned_source(root) as source:
        source.read()
    detach(root)
    assert not directory.exists()
    assert not other.exists()


@pytest.mark.needs("nobody")
def test_where_only_another_version_is_attached_it_is_named(root: Path) -> None:
    directory = attach(gid=GROUP, root=root).directory
    directory.rename(root / "v999")
    with pytest.raises(Unavailable, match=r"another version.*v999"):
        PinnedSource(root)
    assert read_as_nobody(root, GROUP)["reason"].endswith("(v999)")


class Garbage(pins.Meta):
    """A description that is none."""

    content = b""

    def encode(self) -> bytes:
        return self.content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"null",
        b'{"format": "kvmscope-pins/1"}',
        b'{"format": "other/9"}',
        b"x" * pins.META_SIZE,
    ],
)
def test_a_damaged_description_is_a_format_error_and_is_replaced(root: Path, content: bytes) -> None:
    schemas = read_kvm_schemas()
    layout = Layout(schemas.vm.data_size, schemas.vcpu.data_size, vm_room=64, vcpu_room=64, slots=2)
    meta = Garbage(layout, schemas, read_reasons(), pins.kvm_inode(), "", "")
    Garbage.content = content
    bpf = load_program(layout)
    try:
        link = bpf.attach_map_iterator("read_host", "control")
        pins.pin_program(bpf, link, meta, root=root, gid=GROUP, mode=0o440)
    finally:
        bpf.close()
    with pytest.raises(FormatError, match="pinned meta"):
        PinnedSource(root)
    assert not attach(gid=GROUP, root=root).kept
    with pinned_source(root) as source:
        source.read()


def test_a_kvm_that_was_loaded_anew_is_told(root: Path) -> None:
    schemas = read_kvm_schemas()
    layout = Layout(schemas.vm.data_size, schemas.vcpu.data_size, vm_room=64, vcpu_room=64, slots=2)
    meta = pins.Meta(layout, schemas, read_reasons(), pins.kvm_inode(), "", "")
    bpf = load_program(layout)
    try:
        link = bpf.attach_map_iterator("read_host", "control")
        pins.pin_program(bpf, link, replace(meta, kvm_inode=1), root=root, gid=GROUP, mode=0o440)
    finally:
        bpf.close()
    with pytest.raises(Unavailable, match="reloaded"):
        PinnedSource(root)
    assert not attach(gid=GROUP, root=root).kept


# -- several readers -------------------------------------------------------------------------------------------------

READ_OFTEN = """
import json, sys
from pathlib import Path
from kvmscope.sources.bpf.source import PinnedSource
source = PinnedSource(Path(sys.argv[1]))
expected = {int(pid): shape for pid, shape in json.loads(sys.argv[2]).items()}
for turn in range(int(sys.argv[3])):
    sample = source.read()
    pids = sample.vms.pid.tolist()
    for pid, shape in expected.items():
        rows = [row for row, of in enumerate(pids) if of == pid]
        seen = [sample.vcpus.id[sample.vcpus_of_vm[row]].tolist() for row in rows]
        assert seen == shape, (turn, pid, seen)
        kvm = next(b for b in sample.blocks if b.schema.provider == "kvm" and b.schema.scope.value == "vcpu")
        for row in rows:
            assert not kvm.column("exits")[sample.vcpus_of_vm[row]].any(), "these never ran"
print("whole")
"""


@pytest.mark.needs("nobody")
def test_more_readers_than_slots_all_get_whole_samples(root: Path) -> None:
    attach(gid=GROUP, slots=2, root=root)
    specs = [
        LabSpec(workload="bare", vms=20, vcpus=3, one_process=True),
        LabSpec(workload="bare", vcpu_ids=(9, 2, 64)),
        LabSpec(workload="bare", vcpus=70),
    ]
    with process.start(specs[0]) as many, process.start(specs[1]) as odd, process.start(specs[2]) as wide:
        for running in (many, odd, wide):
            running.wait_for_ready()
        shapes = {many.pid: [[0, 1, 2]] * 20, odd.pid: [[9, 2, 64]], wide.pid: [list(range(70))]}
        with process.start(LabSpec(workload="spin", vcpus=1)) as noise:
            noise.go()
            command = [sys.executable, "-c", READ_OFTEN, str(root), json.dumps(shapes), "200"]
            readers = [
                subprocess.Popen(
                    [*unprivileged([GROUP]), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
                for _ in range(5)
            ]
            said = [reader.communicate(timeout=120) for reader in readers]
    assert [out.strip() for out, _ in said] == ["whole"] * 5, [error[-400:] for _, error in said]


def pin_with_held_slots(root: Path, held: Sequence[int]) -> None:
    """An iterator with a slot for root and two for all, some of which are held, as by readers that never run again."""
    schemas = read_kvm_schemas()
    sizes = schemas.vm.data_size, schemas.vcpu.data_size
    layout = Layout(*sizes, vm_room=64, vcpu_room=256, slots=3, root_slots=1, reads_apic=True)
    bpf = load_program(layout)
    try:
        with mmap.mmap(bpf.map_fd("control"), mmap.PAGESIZE) as control:
            for slot in held:
                struct.pack_into("=I", control, 8 * MAX_SLOTS + 4 * slot, 1)
        link = bpf.attach_map_iterator("read_host", "control")
        meta = pins.Meta(layout, schemas, read_reasons(), pins.kvm_inode(), "", "")
        pins.pin_program(bpf, link, meta, root=root, gid=GROUP, mode=0o440)
    finally:
        bpf.close()


@pytest.mark.needs("nobody")
def test_root_reads_while_others_hold_every_slot_that_they_can(root: Path, guests: Running) -> None:
    pin_with_held_slots(root, [1, 2])
    with pinned_source(root) as source:
        assert set(guests.pids) <= set(source.read().vms.pid.tolist())
    began = time.monotonic()
    answer = read_as_nobody(root, GROUP)
    assert time.monotonic() - began < 10, "the wait has a bound"
    assert answer["slug"] == Busy.slug
    assert "--slots" in answer["remedy"]


def test_a_host_that_is_kept_busy_goes_on_by_bpf_and_says_why(root: Path, guests: Running) -> None:
    attach(gid=GROUP, root=root)
    with Host(PinnedSource(root), {}, instead=BpfSource) as host:
        before = host.read()
        pin_with_held_slots(root, [0, 1, 2])
        after = host.read()
        assert (before.source, after.source, host.source) == ("pinned", "bpf", "bpf")
        assert set(guests.pids) <= set(after.vms.pid.tolist())
        (gap,) = set(after.gaps) - set(before.gaps)
        assert gap.reason == "read by bpf, since other readers kept the attached iterator busy for 1 s"
        assert isinstance(host.why_not["pinned"], Busy)
        window = Window(before, after)
        assert len(window.gone(Scope.VM)) == 0, "they are the same VMs"
        assert host.read().source == "bpf"


def test_a_host_that_is_kept_busy_and_may_use_nothing_else_says_what_would_help(root: Path) -> None:
    attach(gid=GROUP, root=root)
    with Host(PinnedSource(root), {}) as host:
        pin_with_held_slots(root, [0, 1, 2])
        with pytest.raises(Busy, match="busy for 1 s") as caught:
            host.read()
        assert "kvmscope attach --slots" in caught.value.remedy


# -- attaching again, and several at once ----------------------------------------------------------------------------


def test_what_is_not_given_stays_as_it_is(root: Path) -> None:
    attach(gid=GROUP, mode=0o440, vms=100, vcpus=300, slots=3, root=root)
    before = identity_of(root)
    assert attach(root=root).kept
    attach(root=root, vcpus=400)
    assert access(root) == (GROUP, 0o440)
    layout = pins.open_pinned(root).meta.layout
    assert (layout.vm_room, layout.vcpu_room, layout.slots - layout.root_slots) == (100, 400, 3)
    assert identity_of(root) != before


@pytest.mark.parametrize("narrower", [{"gid": OTHER_GROUP}, {"mode": 0o400}, {"gid": 0}])
def test_access_that_narrows_takes_the_arrays_from_who_has_mapped_them(root: Path, narrower: dict[str, int]) -> None:
    attach(gid=GROUP, root=root)
    before = identity_of(root)
    assert not attach(root=root, gid=narrower.get("gid"), mode=narrower.get("mode")).kept
    assert not set(identity_of(root).items()) & set(before.items())


READ_BY_OLD_FILES = """
import mmap, os, sys
from pathlib import Path
from kvmscope.sources.bpf import libbpf
root, held = Path(sys.argv[1]), []
held += [os.open(root / "read", os.O_RDONLY) for _ in range(3)] + [os.open(root / "read", os.O_PATH)]
fd = libbpf.open_pinned_map(root / "control")
control = mmap.mmap(fd, mmap.PAGESIZE, prot=mmap.PROT_READ)
print(len(os.read(held[0], 4096)), flush=True)
sys.stdin.readline()
before = bytes(control)
files = [held[1], held[2], *(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY) for fd in held)]
print([len(os.read(fd, 4096)) for fd in files], before == bytes(control))
try:
    print(libbpf.open_pinned_map(root / "closed"))
except PermissionError:
    print("root's alone")
except FileNotFoundError:
    print("gone")
"""


@pytest.mark.needs("nobody")
@pytest.mark.parametrize("how", ["detach", "narrow", "more room"])
def test_files_that_a_member_had_open_read_nothing_more(root: Path, how: str) -> None:
    directory = attach(gid=GROUP, root=root).directory
    command = [*unprivileged([GROUP]), sys.executable, "-c", READ_BY_OLD_FILES, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as member:
        assert member.stdout is not None
        assert int(member.stdout.readline()) > 0
        if how == "detach":
            detach(root)
        elif how == "narrow":
            attach(gid=OTHER_GROUP, root=root)
        else:
            attach(vms=4096, root=root)
        said, _ = member.communicate("go\n", timeout=30)
    assert said.splitlines() == [
        "[0, 0, 0, 0, 0, 0] True",
        "gone" if how == "detach" else "root's alone",
    ]


def test_access_that_widens_keeps_the_arrays(root: Path) -> None:
    attach(gid=GROUP, mode=0o400, root=root)
    assert attach(mode=0o440, root=root).kept
    assert attach(mode=0o444, gid=0, root=root).kept


def test_a_file_where_to_attach_is_told(root: Path) -> None:
    root.write_text("", encoding="ascii")
    try:
        for call in (lambda: attach(gid=GROUP, root=root), lambda: detach(root)):
            with pytest.raises(SourceError, match="is not a directory"):
                call()
    finally:
        root.unlink()


def test_a_link_is_attached_at_its_target_once(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    attach(gid=GROUP, root=link)
    assert attach(root=link).kept
    assert attach(root=root).kept
    assert mounts().count(str(root)) == 1
    assert detach(link)
    assert not root.exists()


RACES = int(os.environ.get("KVMSCOPE_RACES", "170"))
"""How often each of three processes attaches or detaches while the others do."""
AT_ONCE = """
import sys
from pathlib import Path
from kvmscope.sources.bpf.attach import access, attach, detach
for turn in range(int(sys.argv[3])):
    if sys.argv[2] == "detach":
        detach(Path(sys.argv[1]))
    else:
        attach(gid=int(sys.argv[2]), root=Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_two_attaches_and_a_detach_at_once_leave_a_working_or_a_clean_state(root: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", AT_ONCE, str(root)]
    running = [
        subprocess.Popen([*command, what, str(RACES)], stderr=subprocess.PIPE, text=True)
        for what in (str(GROUP), str(OTHER_GROUP), "detach")
    ]
    said = [process.communicate(timeout=1800)[1] for process in running]
    assert said == ["", "", ""]
    if root.exists():
        with pinned_source(root) as source:
            source.read()
    attach(gid=GROUP, root=root)
    assert detach(root)
    assert str(root) not in mounts()


# -- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def group() -> str:
    """A group that this machine has by name, that nobody is in."""
    entry = next(entry for entry in grp.getgrall() if entry.gr_gid not in (0, NOBODY) and not entry.gr_mem)
    return entry.gr_name


@pytest.fixture
def attached(group: str) -> Iterator[str]:
    """``kvmscope attach`` where every command looks; the group that may read."""
    pytest.importorskip("click")
    pytest.importorskip("kvmscope.cli", exc_type=ImportError)
    if ROOT.exists():
        pytest.skip(f"something is attached at {ROOT} already, and not ours to replace")
    try:
        done = subprocess.run([*KVMSCOPE, "attach", "--group", group], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        yield group
    finally:
        subprocess.run([*KVMSCOPE, "detach"], check=True, stdout=subprocess.DEVNULL)
        assert not ROOT.exists()


KVMSCOPE = [sys.executable, "-m", "kvmscope"]


@pytest.mark.needs("nobody")
def test_commands_work_for_the_group_and_tell_others_why_not(attached: str, guests: Running) -> None:
    gid = grp.getgrnam(attached).gr_gid
    read = as_nobody(*KVMSCOPE, "read", "--json", groups=[gid])
    assert read.returncode == 0, read.stderr
    told = json.loads(read.stdout)
    assert told["format"] == "kvmscope/1"
    by_pid = {vm["pid"]: vm for vm in told["vms"]}
    for pid in guests.pids:
        assert [vcpu["id"] for vcpu in by_pid[pid]["vcpus"]] == [0, 1]
        assert all(vcpu["stats"]["exits"] > 0 for vcpu in by_pid[pid]["vcpus"])
    status = as_nobody(*KVMSCOPE, "status", "--json", groups=[gid])
    assert status.returncode == 0, status.stderr
    told = json.loads(status.stdout)
    assert told["source"]["name"] == "pinned"
    assert set(guests.pids) <= {vm["pid"] for vm in told["vms"]}

    for command in ("read", "status"):
        outside = as_nobody(*KVMSCOPE, command, "--source", "pinned")
        assert outside.returncode == 3
        assert outside.stdout == ""
        assert attached in outside.stderr
        assert f"this user may not read {ROOT}" in outside.stderr


def test_detach_without_anything_attached_says_so() -> None:
    pytest.importorskip("kvmscope.cli", exc_type=ImportError)
    if ROOT.exists():
        pytest.skip(f"something is attached at {ROOT} already, and not ours to replace")
    done = subprocess.run([*KVMSCOPE, "detach"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "nothing was attached\n")


def test_more_slots_than_the_format_has_are_refused(root: Path) -> None:
    with pytest.raises((UsageError, SourceError), match="slots"):
        attach(gid=GROUP, slots=5, root=root)
    assert not root.exists()


def test_what_is_kept_tells_the_memory_that_it_holds_and_not_what_was_asked_for(root: Path) -> None:
    held = attach(gid=GROUP, vms=64, vcpus=512, root=root).memory_bytes
    again = attach(gid=GROUP, vms=8, vcpus=64, root=root)
    assert again.kept
    assert again.memory_bytes == held
