"""What a VMM publishes counts for its own VMs: only files that it made, and of which it says that it publishes them."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from processes import open_files

from kvmscope.linux import memfd
from kvmscope.linux.procfs import start_ticks
from kvmscope.schema import Scope, StatNote, Tier
from kvmscope.sources.vm_publications import PREFIXES, VmPublications

NOBODY = 65534

VMM = """
import os, sys
from kvmscope import publish
from kvmscope.schema import Scope, Tier

class Disk(publish.Stats, provider="disk", scope=Scope.VM):
    requests = publish.Counter("Requests that the disk completed.", tier=Tier.STABLE)

vm = publish.Vm("web-1")
disk = Disk(vm)
disk.requests.add(7)
print("ready", flush=True)
sys.stdin.readline()
vm.close()
print("over", flush=True)
sys.stdin.readline()
"""

HOLDER = """
import socket, sys
connection = socket.socket(fileno=int(sys.argv[1]))
_, fds, _, _ = socket.recv_fds(connection, 1, 1)
print("got it", flush=True)
sys.stdin.readline()
"""

FORGER = """
import fcntl, os, sys
from kvmscope.codec import publication
from kvmscope.codec.publication import PublicationBlock
from kvmscope.publish import StatSet
from kvmscope.schema import Descriptor, Kind, Scope
if os.geteuid() != {user}:
    os.setgid({user}); os.setuid({user})
stats = StatSet("disk", Scope.VM, (Descriptor("requests", Kind.CUMULATIVE),))
about = PublicationBlock("disk", "web-1", key=1, owner_start=int(sys.argv[1]))
fd = os.memfd_create("kvmscope-vm-stats:disk:web-1", os.MFD_ALLOW_SEALING)
os.write(fd, publication.encode(about, stats.encoded, file_id="x"))
fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
print(fd, flush=True)
sys.stdin.readline()
"""


@contextmanager
def running(script: str, *arguments: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(  # type: ignore[call-overload]
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 30)[0], "it says nothing"
    return process.stdout.readline().strip()


def found_at(pid: int) -> dict[int, dict[int, int]]:
    return {pid: memfd.find(pid, PREFIXES, mount=memfd.own_mount())}


def test_what_a_vmm_publishes_is_read_with_its_meaning_and_ends_with_it() -> None:
    with running(VMM) as vmm:
        assert line_of(vmm) == "ready"
        publications = VmPublications()
        found = found_at(vmm.pid)
        sample = publications.read(found)
        assert sample is not None
        block = sample.block("disk", Scope.VM)
        assert block is not None
        assert (block.column("requests").tolist(), sample.vms.pid.tolist()) == ([7], [vmm.pid])
        assert block.schema.note("requests") == StatNote("Requests that the disk completed.", Tier.STABLE)
        assert publications.schemas == (block.schema,)
        assert vmm.stdin is not None
        vmm.stdin.write("\n")
        vmm.stdin.flush()
        assert line_of(vmm) == "over"
        assert publications.read(found) is None
        publications.close()


def test_without_files_nothing_is_opened() -> None:
    before = open_files()
    publications = VmPublications()
    assert publications.read({os.getpid(): {}}) is None
    assert publications.read({}) is None
    assert open_files().items() <= before.items()
    publications.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to run a process as another user")
@pytest.mark.parametrize("user", [NOBODY, 0])
def test_a_file_that_another_user_made_is_not_of_the_vm_that_holds_it(user: int) -> None:
    """As when a client of a VMM's socket hands it an fd. The file says all that a true one would say."""
    ours, theirs = socket.socketpair()
    with ours, theirs, running(HOLDER, str(theirs.fileno()), pass_fds=[theirs.fileno()]) as victim:
        with running(FORGER.format(user=user), str(start_ticks(victim.pid))) as forger:
            fd = os.open(f"/proc/{forger.pid}/fd/{int(line_of(forger))}", os.O_RDWR)
            socket.send_fds(ours, [b"x"], [fd])
            os.close(fd)
            assert line_of(victim) == "got it"
        publications = VmPublications()
        sample = publications.read(found_at(victim.pid))
        publications.close()
    assert sample is not None
    if user == NOBODY:
        assert len(sample.vms) == 0
        assert [gap.reason.partition(": ")[2] for gap in sample.gaps] == [
            "user 65534 made it, who is not the user of this process"
        ]
    else:
        assert (sample.vms.label, sample.gaps) == (("web-1",), ())


@pytest.mark.parametrize("start", ["0", "1"])
def test_a_file_that_does_not_name_its_process_is_not_of_its_vm(start: str) -> None:
    with running(FORGER.format(user=os.geteuid()), start) as process:
        line_of(process)
        publications = VmPublications()
        assert publications.read(found_at(process.pid)) is None
        publications.close()
