"""Files handed over by SCM_RIGHTS: real publishers in processes of their own, and senders that mean harm."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvmscope import publish
from kvmscope.codec import publication
from kvmscope.codec.publication import PublicationBlock
from kvmscope.publish import StatSet
from kvmscope.schema import Descriptor, Kind, Scope
from kvmscope.sources.passed import PassedSource

REQUESTS = StatSet("disk", Scope.VM, (Descriptor("requests", Kind.CUMULATIVE),))

PUBLISHER = """
import os, socket, sys
from kvmscope import publish
from kvmscope.schema import Scope

class Disk(publish.Stats, provider="disk", scope=Scope.VM):
    requests = publish.Counter("Requests.")

class Queue(publish.Stats, provider="disk", scope=Scope.VCPU):
    kicks = publish.Counter("Kicks.")
    stalled = publish.Bit("The queue is full.")

connection = socket.socket(fileno=int(sys.argv[1]))
vm = publish.Vm("web")
disk, queue = Disk(vm), Queue(vm, vcpu=3)
disk.requests.add(7)
queue.stalled.set(True)
disk.publication.send(connection)
queue.publication.send(connection)
while command := connection.recv(10):
    if command == b"add":
        disk.requests.add()
    elif command == b"close":
        vm.close()
    connection.send(b"done")
"""

SENDER = """
import os, socket, sys
connection = socket.socket(fileno=int(sys.argv[1]))
exec(sys.argv[2])
connection.recv(1)
"""


@contextmanager
def running(*command: str) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A process and the socket to it, whose number is its first argument. It is killed at the end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.settimeout(20)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    script, *arguments = command
    with ours, theirs:
        line = [sys.executable, "-c", script, str(theirs.fileno()), *arguments]
        with subprocess.Popen(line, pass_fds=[theirs.fileno()]) as process:
            theirs.close()
            try:
                yield process, ours
            finally:
                process.kill()


def ask(connection: socket.socket, command: bytes) -> None:
    connection.send(command)
    assert connection.recv(10) == b"done"


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def reasons(source: PassedSource) -> list[str]:
    return [gap.reason for gap in source.read().gaps]


def test_what_is_handed_over_is_read_as_it_moves() -> None:
    with running(PUBLISHER) as (process, connection), PassedSource() as source:
        assert source.receive(connection)
        assert source.receive(connection)
        sample = source.read()
        assert (sample.source, sample.vms.label, sample.vms.pid.tolist()) == ("passed", ("web",), [process.pid])
        assert (sample.vcpus.id.tolist(), sample.gaps) == ([3], ())
        by_scope = {block.schema.scope: block for block in sample.blocks}
        assert by_scope[Scope.VM].column("requests").tolist() == [7]
        assert by_scope[Scope.VCPU].column("stalled").tolist() == [1]
        assert {schema.scope for schema in source.schemas} == set(Scope)
        ask(connection, b"add")
        (block,) = (block for block in source.read().blocks if block.schema.scope is Scope.VM)
        assert block.column("requests").tolist() == [8]


def test_it_ends_with_the_publication() -> None:
    with running(PUBLISHER) as (_, connection), PassedSource() as source:
        assert source.receive(connection)
        assert source.receive(connection)
        ask(connection, b"close")
        assert (len(source.read().vms), source.read().gaps) == (0, ())


def test_it_ends_with_the_process_though_the_memory_lives_on() -> None:
    before = open_fds()
    with running(PUBLISHER) as (process, connection), PassedSource() as source:
        assert source.receive(connection)
        assert len(source.read().vms) == 1
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert (len(source.read().vms), source.read().blocks, source.read().gaps) == (0, (), ())
    assert open_fds() == before


def test_no_fd_stays_open_for_a_file() -> None:
    with publish.Vm("web") as vm, PassedSource() as source:
        published = [vm.publish(REQUESTS), vm.publish(StatSet("net", Scope.VM, REQUESTS.descriptors))]
        for _ in range(2):
            source.take(published[0].open_fd(), os.getpid())
        before = open_fds()
        source.take(published[1].open_fd(), os.getpid())
        assert open_fds() == before
        assert (len(source.read().blocks), source.read().gaps) == (2, ())


def test_the_end_of_the_connection_is_told_and_ends_nothing_else() -> None:
    ours, theirs = socket.socketpair()
    with ours, publish.Vm("web") as vm, PassedSource() as source:
        vm.publish(REQUESTS).send(theirs)
        theirs.close()
        assert source.receive(ours)
        assert not source.receive(ours)
        assert len(source.read().vms) == 1


def test_a_file_sent_before_anybody_asked_who_sends_is_of_whoever_connected() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, publish.Vm("web") as vm, PassedSource() as source:
        vm.publish(REQUESTS).send(theirs)
        assert source.receive(ours)
        assert source.read().vms.pid.tolist() == [os.getpid()]


def test_a_file_of_another_process_is_not_taken_from_who_merely_holds_it() -> None:
    with running(SENDER, "") as (process, _), publish.Vm("web") as vm, PassedSource() as source:
        source.take(vm.publish(REQUESTS).open_fd(), process.pid)
        assert len(source.read().vms) == 0
        assert reasons(source) == [f"process {process.pid}, a file that it sent: another process publishes it"]


def test_a_process_that_is_not_there_is_a_gap() -> None:
    with publish.Vm("web") as vm, PassedSource() as source:
        published = vm.publish(REQUESTS)
        for pid in (0, 2**22 + 1):
            source.take(published.open_fd(), pid)
        assert len(source.read().vms) == 0
        assert all("has ended or is not visible here" in reason for reason in reasons(source))


def test_a_file_that_is_over_is_nothing() -> None:
    content = publication.encode(PublicationBlock("disk", "x", key=1, live=False), REQUESTS.encoded, file_id="x")
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with PassedSource() as source:
        source.take(fd, os.getpid())
        assert (len(source.read().vms), source.read().gaps) == (0, ())


def test_a_closed_source_reads_no_more() -> None:
    source = PassedSource()
    source.close()
    source.close()
    with pytest.raises(ValueError, match="closed"):
        source.read()


# Senders that mean harm

SEND = "socket.send_fds(connection, [b'x'], [fd]);"

HOSTILE = {
    "a file that could shrink": ("fd = os.memfd_create('x'); os.ftruncate(fd, 4096);" + SEND, "not sealed"),
    "no memfd": ("fd = os.open('/proc/self/stat', os.O_RDONLY);" + SEND, "not shared memory"),
    "a socket": ("fd = socket.socketpair()[0].detach();" + SEND, "not shared memory"),
    "a pipe": ("fd = os.pipe()[0];" + SEND, "not shared memory"),
    "a device that blocks": ("fd = os.open('/dev/ptmx', os.O_RDONLY);" + SEND, "not shared memory"),
    "a place and no file": ("fd = os.open('/proc/self/stat', os.O_PATH);" + SEND, "not shared memory"),
    "an empty memfd": (
        "import fcntl; fd = os.memfd_create('x', 2); fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 2);" + SEND,
        "0 bytes",
    ),
    "what only its owner can read": (
        "import fcntl; fd = os.memfd_create('x', 2); os.write(fd, b'x'); fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 2);"
        "fd = os.open(f'/proc/self/fd/{fd}', os.O_WRONLY);" + SEND,
        "Permission denied",
    ),
    "a memfd of nonsense": (
        "import fcntl; fd = os.memfd_create('x', 2); os.write(fd, os.urandom(9999));"
        "fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 2);" + SEND,
        "publication block",
    ),
}


@pytest.mark.parametrize(("script", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_published_file_is_a_gap_until_its_sender_ends(script: str, reason: str) -> None:
    before = open_fds()
    with running(SENDER, script) as (process, connection), PassedSource() as source:
        assert source.receive(connection)
        (told,) = reasons(source)
        assert told.startswith(f"process {process.pid}, a file that it sent: ")
        assert reason in told
        process.kill()
        process.wait()
        assert reasons(source) == []
    wait_until(lambda: open_fds() == before)


def test_a_socket_that_lingers_at_its_close_is_not_waited_for() -> None:
    # Its last holder waits at the close until all is sent, or 1,000 s; here nobody takes anything.
    script = """
import struct
listener = socket.create_server(("127.0.0.1", 0))
talker = socket.create_connection(listener.getsockname())
talker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1000))
talker.setblocking(False)
try:
    while True:
        talker.send(bytes(1 << 16))
except BlockingIOError:
    pass
socket.send_fds(connection, [b"x"], [talker.fileno()])
talker.close()
"""
    with running(SENDER, script) as (_, connection), PassedSource() as source:
        done = threading.Thread(target=source.receive, args=(connection,), daemon=True)
        done.start()
        done.join(20)
        assert not done.is_alive(), "the receiver hangs"
        assert "not shared memory" in reasons(source)[0]


def test_a_flood_of_bad_files_ends_the_matter() -> None:
    script = f"""
for number in range(100):
    fd = os.memfd_create("x")
    os.ftruncate(fd, number)
    try:
        {SEND}
    except OSError:
        break
    os.close(fd)
fds = os.pipe() * 100
socket.send_fds(connection, [b"x"], fds)
"""
    with running(SENDER, script) as (_, connection), PassedSource() as source:
        messages = 0
        while source.receive(connection):
            messages += 1
        assert messages == 31
        assert len(reasons(source)) == 32


def test_messages_without_files_are_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, PassedSource() as source:
        theirs.send(b"hello" * 100)
        assert source.receive(ours)
        assert (len(source.read().vms), source.read().gaps) == (0, ())
