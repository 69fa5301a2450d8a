"""The source of published stats, with real publishers in processes of their own, and with hostile ones.

That all values are read as they are is in ``tests/publish/test_oracle.py``.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmscope import publish
from kvmscope.codec import publication, statsfile
from kvmscope.codec.publication import FILE_LIMIT, PublicationBlock
from kvmscope.publish import StatSet
from kvmscope.sample import Sample
from kvmscope.schema import Descriptor, Kind, Scope
from kvmscope.sources.published import PublishedSource

pytestmark = pytest.mark.whole_host

PR_SET_DUMPABLE = 4
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
REQUESTS = StatSet("disk", Scope.VM, (Descriptor("requests", Kind.CUMULATIVE),))
KICKS = StatSet("disk", Scope.VCPU, (Descriptor("kicks", Kind.CUMULATIVE),))

PUBLISHER = """
import os, sys
from kvmscope import publish
from kvmscope.schema import Scope

class Disk(publish.Stats, provider="disk", scope=Scope.VM):
    requests = publish.Counter("Requests.")

class Queue(publish.Stats, provider="disk", scope=Scope.VCPU):
    kicks = publish.Counter("Kicks.")

vms = [publish.Vm("web", created_ns=1000 - i) for i in range(2)]
for i, vm in enumerate(vms):
    Disk(vm).requests.add(10 * i)
    for vcpu in (1, 0):
        Queue(vm, vcpu=vcpu).kicks.add(10 * i + vcpu)
if "fork" in sys.argv and os.fork() == 0:
    os.write(1, b"%d\\n" % os.getpid())
    os.read(0, 1)
    os._exit(0)
os.write(1, b"ready\\n")
os.read(0, 1)
"""


@dataclass
class PublishingProcess:
    """A publisher in a process of its own; it lives until its standard input ends."""

    pid: int
    lines: list[str]
    popen: subprocess.Popen[str]

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


@contextmanager
def running(*command: str, lines: int = 1) -> Iterator[PublishingProcess]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as popen:
        out: IO[str] | None = popen.stdout
        assert out is not None
        try:
            yield PublishingProcess(popen.pid, sorted(out.readline().strip() for _ in range(lines)), popen)
        finally:
            popen.kill()


@contextmanager
def publisher() -> Iterator[PublishingProcess]:
    with running(sys.executable, "-c", PUBLISHER) as process:
        yield process


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with this process alone, so that whatever else runs here does not matter; ``show`` adds others."""
    (tmp_path / "self").symlink_to(str(os.getpid()))
    show(tmp_path, os.getpid())
    return tmp_path


def show(proc: Path, pid: int) -> None:
    (proc / str(pid)).symlink_to(f"/proc/{pid}")


@contextmanager
def source_of(proc: Path, *, simulated: bool | None = None) -> Iterator[PublishedSource]:
    with PublishedSource(proc=proc, simulated=simulated, walk_share=math.inf) as source:
        yield source


@contextmanager
def memfd(content: bytes, *, name: str = "kvmscope-vm-stats:disk:x", seals: int = SEALS) -> Iterator[int]:
    fd = os.memfd_create(name, os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, content)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        yield fd
    finally:
        os.close(fd)


def file_of(stat_set: StatSet = REQUESTS, *, provider: str = "disk", simulated: bool = False) -> bytes:
    about = PublicationBlock(provider, "web", key=1, simulated=simulated)
    return publication.encode(about, stat_set.encoded, file_id="x")


def named(vm: str) -> bytes:
    return publication.encode(PublicationBlock("disk", vm, key=1), REQUESTS.encoded, file_id="x")


def values(sample: Sample) -> list[list[int]]:
    return [block.values[:, 0].tolist() for block in sample.blocks]


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# Real publishers


def test_another_process_is_read_with_names_ids_and_values(proc: Path) -> None:
    with publisher() as process, source_of(proc) as source:
        show(proc, process.pid)
        sample = source.read()
        assert sample.gaps == ()
        assert (sample.source, sample.simulated) == ("published", False)
        assert sample.vms.label == ("web", "web")
        assert sample.vms.pid.tolist() == [process.pid] * 2
        assert sample.vms.created_ns.tolist() == [999, 1000]
        assert len(set(sample.vms.id.tolist())) == 2
        assert (sample.vcpus.vm.tolist(), sample.vcpus.id.tolist()) == ([0, 0, 1, 1], [0, 1, 0, 1])
        by_scope = {block.schema.scope: block.values.tolist() for block in sample.blocks}
        assert by_scope == {Scope.VM: [[10], [0]], Scope.VCPU: [[10], [11], [0], [1]]}
        assert {schema.scope for schema in source.schemas} == set(Scope)


def test_a_name_that_is_not_utf_8_is_text_in_the_sample(proc: Path) -> None:
    with memfd(named("w\udcffb")), source_of(proc) as source:
        assert source.read().vms.label == (r"w\xffb",)


def test_ids_are_the_same_for_every_reader_and_at_every_read(proc: Path) -> None:
    with publisher() as process, source_of(proc) as one, source_of(proc) as other:
        show(proc, process.pid)
        first = one.read().vms.id.tolist()
        assert first == one.read().vms.id.tolist() == other.read().vms.id.tolist()


def test_a_killed_publisher_is_gone_at_the_next_read_and_leaves_no_fd(proc: Path) -> None:
    before = open_fds()
    with publisher() as process, source_of(proc) as source:
        show(proc, process.pid)
        assert len(source.read().vms) == 2
        process.popen.send_signal(signal.SIGKILL)
        # Not waited for: a zombie's numbers are as stale as those of a process that is quite gone.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        sample = source.read()
        assert (len(sample.vms), sample.blocks, sample.gaps) == (0, (), ())
    assert open_fds() == before


def test_a_killed_publisher_is_noticed_without_pidfds_too(proc: Path) -> None:
    (proc / "self").unlink()
    (proc / "self").symlink_to("/proc/self")  # what a /proc of another pid namespace looks like from here
    with publisher() as process, source_of(proc) as source:
        show(proc, process.pid)
        assert len(source.read().vms) == 2
        process.kill()
        assert len(source.read().vms) == 0


def test_a_child_that_inherits_the_files_does_not_count_and_does_not_keep_them_alive(proc: Path) -> None:
    with running(sys.executable, "-c", PUBLISHER, "fork", lines=2) as process, source_of(proc) as source:
        child = int(process.lines[0])
        show(proc, process.pid)
        show(proc, child)
        assert source.read().vms.pid.tolist() == [process.pid] * 2
        process.kill()
        assert len(source.read().vms) == 0
        os.kill(child, signal.SIGKILL)


def test_a_vm_that_is_closed_is_gone_at_once_and_its_successor_is_another(proc: Path) -> None:
    with source_of(proc) as source:
        with publish.Vm("web") as vm:
            vm.publish(REQUESTS)
            first = source.read().vms.id.tolist()
        assert len(source.read().vms) == 0
        with publish.Vm("web") as vm:
            vm.publish(REQUESTS)
            second = source.read().vms.id.tolist()
    assert len(first) == len(second) == 1
    assert first != second


def test_between_walks_known_files_are_read_and_new_ones_wait(proc: Path) -> None:
    with publish.Vm("web") as vm, PublishedSource(proc=proc, walk_share=1e-9) as source:
        requests = vm.publish(REQUESTS)
        source.walk()
        requests.words[0] = 5
        kicks = vm.publish(KICKS, vcpu=0)
        assert values(source.read()) == [[5]]
        source.walk()
        kicks.words[0] = 6
        assert values(source.read()) == [[5], [6]]


def test_many_vms_come_and_go_without_a_trace(proc: Path) -> None:
    with source_of(proc) as source:
        before = open_fds()
        for count in range(200):
            with publish.Vm(f"vm-{count}") as vm:
                vm.publish(REQUESTS).words[0] = count
                sample = source.read()
                assert (sample.vms.label, values(sample)) == ((f"vm-{count}",), [[count]])
        assert source.read().blocks == ()
        assert open_fds() == before


def test_names_of_any_length_share_one_block(proc: Path) -> None:
    with source_of(proc) as source:
        vms = [publish.Vm("x" * length, created_ns=length) for length in range(100)]
        for number, vm in enumerate(vms):
            vm.publish(REQUESTS).words[0] = number
        sample = source.read()
        assert values(sample) == [list(range(100))]
        assert sample.gaps == ()
        for vm in vms:
            vm.close()


def test_simulated_and_real_vms_can_be_asked_for_apart(proc: Path) -> None:
    with publish.Vm("real") as real, publish.Vm("simulated", simulated=True) as simulated:
        real.publish(REQUESTS)
        simulated.publish(REQUESTS)
        found = []
        for wanted in (None, False, True):
            with source_of(proc, simulated=wanted) as source:
                sample = source.read()
                found.append((set(sample.vms.label), sample.simulated))
    assert found == [({"real", "simulated"}, True), ({"real"}, False), ({"simulated"}, True)]


def test_a_host_where_nothing_is_published_is_an_empty_sample(proc: Path) -> None:
    with source_of(proc) as source:
        sample = source.read()
    assert (len(sample.vms), len(sample.vcpus), sample.blocks, sample.gaps) == (0, 0, (), ())


def test_the_real_proc_can_be_read() -> None:
    with publisher() as process, PublishedSource() as source:
        sample = source.read()
        assert sample.vms.pid.tolist().count(process.pid) == 2


def test_a_closed_source_reads_no_more(proc: Path) -> None:
    source = PublishedSource(proc=proc)
    source.close()
    source.close()
    with pytest.raises(ValueError, match="closed"):
        source.read()


@pytest.mark.needs("root")
def test_processes_of_others_are_a_gap_for_the_unprivileged(proc: Path) -> None:
    proc.chmod(0o755)
    for parent in proc.parents:
        if parent.name.startswith(("pytest", "popen")):  # the second is xdist's, of one worker
            parent.chmod(0o755)
    with publisher() as process:
        show(proc, process.pid)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                (proc / "self").unlink()
                (proc / "self").symlink_to(str(os.getpid()))
                show(proc, os.getpid())
                os.setresuid(65534, 65534, 65534)
                ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # as after an exec: its own /proc is its own
                with PublishedSource(proc=proc) as source:
                    sample = source.read()
                os.write(writer, f"{len(sample.vms)} VMs, {[gap.reason for gap in sample.gaps]}".encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as answer:
            assert answer.read() == "0 VMs, ['2 processes could not be inspected by this user']"
        os.waitpid(child, 0)


# Hostile files


def gap_of(proc: Path) -> str:
    """The one reason why something of this process was not read, while a good neighbour was."""
    with publish.Vm("good") as vm, source_of(proc) as source:
        vm.publish(REQUESTS).words[0] = 7
        sample = source.read()
        assert (sample.vms.label, values(sample)) == (("good",), [[7]])
        (gap,) = sample.gaps
        assert str(os.getpid()) in gap.reason
        return gap.reason


def changed(raw: bytes, offset: int, layout: str, value: int) -> bytes:
    return raw[:offset] + struct.pack(layout, value) + raw[offset + struct.calcsize(layout) :]


GOOD = file_of()
BIG = statsfile.encode(statsfile.build("", REQUESTS.descriptors, byteorder="big"))
ODD = statsfile.encode(statsfile.build("", (Descriptor("\x1b[2J", Kind.CUMULATIVE),)))
MANY = statsfile.encode(statsfile.build("", [Descriptor(f"s{i}", Kind.CUMULATIVE) for i in range(1025)]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"x", "publication block"),
        (bytes(4096), "publication block"),
        (bytes(FILE_LIMIT + 1), "are accepted"),
        (REQUESTS.encoded, "publication block"),
        (GOOD[:-1], "data block"),
        (GOOD[:150], "descriptor block"),
        (changed(GOOD, 8, "=I", 2**32 - 1), "stats, more than 1024"),
        (changed(GOOD, 8, "=I", 1000), "descriptor block"),
        (changed(GOOD, 4, "=I", 2**32 - 1), "id block"),
        (changed(GOOD, 20, "=I", 2**32 - 8), "data block"),
        (file_of(provider="kvm"), "claims to be the kernel's provider kvm"),
        (file_of(provider="\x1b[2J"), "cannot be the name of a provider"),
        (publication.encode(PublicationBlock("disk", "x", key=1), ODD, file_id="x"), "cannot be printed"),
        (publication.encode(PublicationBlock("disk", "x", key=1), MANY, file_id="x"), "1025 stats"),
    ],
)
def test_a_bad_file_is_a_gap_with_the_reason(proc: Path, content: bytes, reason: str) -> None:
    with memfd(content):
        assert reason in gap_of(proc)


def test_a_file_of_the_other_byte_order_is_a_gap(proc: Path) -> None:
    raw = publication.encode(PublicationBlock("disk", "x", key=1), REQUESTS.encoded, file_id="x")
    shift = len(raw) - len(REQUESTS.encoded)
    moved = (0, 0, 0, shift, shift, shift)
    header = struct.pack(">6I", *(a + b for a, b in zip(struct.unpack_from(">6I", BIG), moved, strict=True)))
    with memfd(header + raw[24 : 24 + shift] + BIG[24:]):
        gap_of(proc)


def test_a_file_that_could_shrink_is_never_mapped(proc: Path) -> None:
    with memfd(GOOD, seals=0) as fd:
        assert "not sealed against shrinking" in gap_of(proc)
        os.ftruncate(fd, 0)
        assert "not sealed against shrinking" in gap_of(proc)


def test_a_file_that_is_sealed_later_is_read_then(proc: Path) -> None:
    with memfd(GOOD, seals=0) as fd, source_of(proc) as source:
        assert len(source.read().gaps) == 1
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        sample = source.read()
        assert (len(sample.vms), sample.gaps) == (1, ())


def test_a_file_that_grows_or_is_scribbled_over_while_mapped_harms_nobody(proc: Path) -> None:
    with memfd(GOOD, seals=fcntl.F_SEAL_SHRINK) as fd, source_of(proc) as source:
        assert len(source.read().vms) == 1
        os.pwrite(fd, os.urandom(2 * FILE_LIMIT), 0)
        sample = source.read()
        assert [block.values.shape for block in sample.blocks] in ([], [(1, 1)])


def test_one_process_with_many_bad_files_costs_a_bounded_number_of_gaps(proc: Path) -> None:
    fds = [os.memfd_create(f"kvmscope-vm-stats:disk:{i}") for i in range(200)]
    with source_of(proc) as source:
        gaps = source.read().gaps
    for fd in fds:
        os.close(fd)
    assert len(gaps) == 33
    assert any("too many were invalid" in gap.reason for gap in gaps)


def test_one_process_with_many_descriptions_is_parsed_a_bounded_number_of_times(proc: Path) -> None:
    vm = publish.Vm("web")
    for number in range(40):
        vm.publish(StatSet("disk", Scope.VM, (Descriptor(f"s{number}", Kind.CUMULATIVE),)))
    with source_of(proc) as source:
        sample = source.read()
    vm.close()
    assert len(sample.blocks) == 32
    assert all("different descriptions" in gap.reason for gap in sample.gaps)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8)), max_size=4),
    st.integers(0, len(GOOD)),
)
def test_no_damage_to_a_file_stops_the_reader(proc: Path, edits: Sequence[tuple[int, bytes]], length: int) -> None:
    raw = bytearray(GOOD)
    for at, new in edits:
        raw[at : at + len(new)] = new
    with memfd(bytes(raw[:length])), source_of(proc) as source:
        sample = source.read()
        assert len(sample.vms) + len(sample.gaps) <= 1


@pytest.mark.needs("root")
def test_a_file_system_that_never_answers_is_never_asked(proc: Path, tmp_path: Path) -> None:
    # A FIFO opened for reading blocks until somebody writes; seen from another mount namespace, this one bears the name
    # of a memfd, as a file on a file system of the owner's own can.
    mount = tmp_path / "mount"
    mount.mkdir()
    script = f"""
import os
os.mkfifo("{mount}/memfd:kvmscope-vm-stats:disk:x")
fd = os.open("{mount}/memfd:kvmscope-vm-stats:disk:x", os.O_PATH)
os.system("umount -l '{mount}'")
print("ready", flush=True)
os.read(0, 1)
"""
    command = f'mount -t tmpfs none "{mount}" && exec "{sys.executable}" -c "$0"'
    with running("unshare", "-m", "sh", "-c", command, script) as process:
        assert process.lines == ["ready"]
        links = [str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert "/memfd:kvmscope-vm-stats:disk:x" in links
        show(proc, process.pid)
        seen: list[Sample] = []

        def read() -> None:
            with source_of(proc) as source:
                seen.append(source.read())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(10)
        assert len(seen) == 1, "the reader hangs"
        assert (len(seen[0].vms), seen[0].gaps) == (0, ())
