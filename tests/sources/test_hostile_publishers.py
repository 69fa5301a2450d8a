"""Hostile processes against the reader of published stats: each does its worst while a reader in a third process reads.

The reader must neither crash (a mapping that shrinks is SIGBUS), nor hang, nor raise; what it makes of the files is a
sample of values or gaps. Damage that needs no process of its own is in ``test_published``.
"""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kvmscope.codec import publication
from kvmscope.codec.statsfile import parse

# What every hostile process has to hand: a good file's bytes, and a memfd of any bytes.
PRELUDE = """
import ctypes, fcntl, itertools, os, random, socket, struct, sys, threading, time
from kvmscope.codec import publication, statsfile
from kvmscope.codec.publication import PublicationBlock
from kvmscope.publish import StatSet
from kvmscope.schema import Descriptor, Kind, Scope, Unit

SHRINK = fcntl.F_SEAL_SHRINK
REQUESTS = StatSet("disk", Scope.VM, (Descriptor("requests", Kind.CUMULATIVE), Descriptor("most", Kind.PEAK, offset=8)))

def good(key=1, vm="web"):
    return publication.encode(PublicationBlock("disk", vm, key=key), REQUESTS.encoded, file_id="x")

def memfd(content, seals=SHRINK, name="kvmscope-vm-stats:disk:x"):
    fd = os.memfd_create(name, os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd

def ready():
    os.write(1, b"ready\\n")
"""

READER = """
import json, math, os, sys, time
from pathlib import Path
from kvmscope.view.jsonout import dump, to_value
from kvmscope.sources.published import PublishedSource

proc, seconds = Path(sys.argv[1]), float(sys.argv[2])
if proc != Path("/proc"):
    (proc / "self").symlink_to(str(os.getpid()))
    (proc / str(os.getpid())).symlink_to("/proc/self")
seen, files, reads = set(), set(), 0
with PublishedSource(proc=proc, walk_share=math.inf) as source:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends or reads < 3:
        sample = source.read()
        reads += 1
        files.add(len(sample.vms))
        seen.update(gap["reason"] for gap in json.loads(dump(to_value(sample.gaps))))
        for block in sample.blocks:
            for name in block.schema.names:
                block.column(name).sum()
print(json.dumps({"reads": reads, "vms": sorted(files), "gaps": sorted(seen)}))
"""


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 30)[0], "it does not start"
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@contextmanager
def hostile(script: str) -> Iterator[subprocess.Popen[str]]:
    with running(sys.executable, "-c", PRELUDE + script) as process:
        yield process


def read(proc: Path, *pids: int, seconds: float = 0.4) -> dict[str, Any]:
    """What a reader saw of these processes, who reads again and again for so long."""
    for pid in pids:
        (proc / str(pid)).symlink_to(f"/proc/{pid}")
    line = [sys.executable, "-c", READER, str(proc), str(seconds)]
    reader = subprocess.run(line, timeout=60, capture_output=True, text=True, check=False)
    assert reader.returncode == 0, f"the reader ended with {reader.returncode}: {reader.stderr}"
    found: dict[str, Any] = json.loads(reader.stdout)
    return found


LOOP = """
ready()
for turn in itertools.count():
"""

WHILE_READ = {
    "truncates a file that is not sealed": (
        """
fd = memfd(good(), seals=0)
size = len(good())
"""
        + LOOP
        + """
    os.ftruncate(fd, 0)
    os.pwrite(fd, good(), 0)
    os.ftruncate(fd, 1)
    os.ftruncate(fd, size)
""",
        [0],
    ),
    "seals files while it truncates them": (
        LOOP
        + """
    fd = memfd(good() + bytes(500_000), seals=0)
    threading.Thread(target=os.ftruncate, args=(fd, turn % 400)).start()
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SHRINK)
    os.close(fd)
""",
        None,
    ),
    "grows a file": (
        """
fd = memfd(good())
"""
        + LOOP
        + """
    os.ftruncate(fd, os.fstat(fd).st_size + 4096 if turn < 20_000 else len(good()) + 4096 * 20_000)
""",
        None,
    ),
    "scribbles over a file": (
        """
fd = memfd(good())
size = len(good())
"""
        + LOOP
        + """
    os.pwrite(fd, os.urandom(random.randrange(1, 64)), random.randrange(size))
    if turn % 7 == 0:
        os.pwrite(fd, good(), 0)
""",
        [0, 1],
    ),
    "punches holes into a file": (
        """
fd = memfd(good() + bytes(100_000))
fallocate = ctypes.CDLL(None).fallocate
fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
"""
        + LOOP
        + """
    fallocate(fd, 3, 0, 110_000)
    os.pwrite(fd, good(), 0)
""",
        [0, 1],
    ),
    "puts a pipe and a socket in the place of a file": (
        """
fd, pipe, pair = memfd(good()), os.pipe()[0], socket.socketpair()[0].fileno()
other = os.dup(fd)
"""
        + LOOP
        + """
    os.dup2((pipe, other, pair)[turn % 3], fd)
""",
        [1],
    ),
    "opens and closes files as fast as it can": (
        LOOP
        + """
    fds = [memfd(good(key)) for key in range(turn % 20)]
    for fd in fds:
        os.close(fd)
""",
        None,
    ),
    "changes its mind about every file's length of name, number of stats and places": (
        """
fds = [memfd(good(key)) for key in range(30)]
"""
        + LOOP
        + """
    number = random.choice((0, 1, 2**31, 2**32 - 8, 24, 72))
    os.pwrite(fds[turn % 30], struct.pack("=I", number), 4 * random.randrange(1, 6))
""",
        None,
    ),
    "says that all is over and is not": (
        """
fd = memfd(good())
"""
        + LOOP
        + """
    os.pwrite(fd, struct.pack("=Q", turn % 2), publication.LIVE_AT)
""",
        None,
    ),
}


@pytest.mark.parametrize(("script", "vms"), WHILE_READ.values(), ids=[name.replace(" ", "-") for name in WHILE_READ])
def test_a_process_that_harms_its_files_while_they_are_read(tmp_path: Path, script: str, vms: list[int] | None) -> None:
    with hostile(script) as process:
        found = read(tmp_path, process.pid)
    assert found["reads"] >= 3
    if vms is not None:
        assert set(found["vms"]) <= set(vms)


def test_children_that_publish_and_die_at_once() -> None:
    script = """
fd = memfd(good())
ready()
for turn in itertools.count():
    if os.fork() == 0:
        fds = [memfd(good(key)) for key in range(5)]
        os._exit(0)
    if turn >= 5:
        os.wait()
"""
    with hostile(script):
        found = read(Path("/proc"))
    assert max(found["vms"]) >= 1


def test_names_that_are_no_text_reach_nobody_as_they_are(tmp_path: Path) -> None:
    script = r"""
names = [b"\x1b[2Jcleared", b"two\nlines", b"\xff\xfe", "\u202e reversed".encode(), b"\x7f", b"a\0b", b""]
raw = good()
at = raw.index(b"requests")
for number, name in enumerate(names):
    memfd(raw[:at] + name.ljust(8, b"\0")[:12] + raw[at + max(8, min(12, len(name))):])
memfd(good(vm="\x1b[31mred\n\udcff"))
ready()
sys.stdin.read()
"""
    with hostile(script) as process:
        found = read(tmp_path, process.pid, seconds=0)
    assert len(found["gaps"]) >= 5
    assert all(reason.isprintable() for reason in found["gaps"])


def test_descriptions_that_cannot_be(tmp_path: Path) -> None:
    script = """
def described(*descriptors):
    encoded = statsfile.encode(statsfile.build("", descriptors))
    return memfd(publication.encode(PublicationBlock("disk", "x", key=len(descriptors)), encoded, file_id="x"))

def bits(numbers):
    return (Descriptor(f"bit_{place}", Kind.INSTANT, Unit.BIT, bucket_size=bit) for place, bit in enumerate(numbers))

one = Descriptor("one", Kind.CUMULATIVE)
described(one, Descriptor("two", Kind.CUMULATIVE))                                    # one word
described(Descriptor("all", Kind.LOG_HISTOGRAM, size=32_000), one)                    # one inside the other
described(*bits([7] * 9))                                                             # one bit
described(*bits(range(60, 999)))                                                      # no bits
described(*(Descriptor(f"stat_{n}", Kind.CUMULATIVE, offset=8 * n) for n in range(1024)))
raw = good()
at = len(raw) - 16 - 2 * 64
for place, layout, values in (
    (8, "I", (3, 1025, 2**32 - 1)),
    (36, "I", (0, 60, 2**32 - 8)),
    (84, "H", (0, 2**16 - 1)),
    (at, "I", (3, 0x50, 0xf, 2**32 - 1)),
    (at + 6, "H", (0, 9, 2**16 - 1)),
    (at + 8, "I", (1, 8, 2**32 - 8)),
):
    for value in values:
        changed = bytearray(raw)
        struct.pack_into("=" + layout, changed, place, value)
        memfd(bytes(changed))
ready()
sys.stdin.read()
"""
    with hostile(script) as process:
        found = read(tmp_path, process.pid, seconds=0)
    assert len(found["gaps"]) >= 8
    assert min(found["vms"]) >= 3


def test_other_kinds_of_memory_are_not_taken(tmp_path: Path) -> None:
    script = """
libc = ctypes.CDLL(None, use_errno=True)
try:
    os.memfd_create("kvmscope-vm-stats:disk:huge", os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
except OSError:
    pass
secret = libc.syscall(447, 0)
memfd(good(), seals=0)
memfd(good())
ready()
sys.stdin.read()
"""
    with hostile(script) as process:
        found = read(tmp_path, process.pid, seconds=0)
    assert found["vms"] == [1]
    assert len(found["gaps"]) == 1


@pytest.mark.needs("root")
def test_what_only_bears_the_name_of_such_a_file_is_never_opened(tmp_path: Path) -> None:
    # Seen from another mount namespace, files at the root of a mount that is gone bear any name one likes.
    mount = tmp_path / "mount"
    mount.mkdir()
    script = f"""
import stat
name = lambda what: f"{mount}/memfd:kvmscope-vm-stats:disk:{{what}}"
os.mkfifo(name("fifo"))
os.mknod(name("zeroes"), 0o600 | stat.S_IFCHR, os.makedev(1, 5))
os.mknod(name("terminal"), 0o600 | stat.S_IFCHR, os.makedev(5, 0))
os.chdir("{mount}")  # as the path of a socket has 108 bytes at most
socket.socket(socket.AF_UNIX).bind(os.path.basename(name("socket")))
os.chdir("/")
os.mkdir(name("directory"))
os.symlink("/dev/zero", name("link"))
with open(name("file"), "wb") as file:
    file.write(good())
kept = [os.open(name(what), os.O_PATH | os.O_NOFOLLOW) for what in "fifo zeroes terminal socket directory link".split()]
kept += [os.open(name("zeroes"), os.O_RDONLY), os.open(name("file"), os.O_RDWR), os.open(name("fifo"), os.O_RDWR)]
os.system("umount -l '{mount}'")
memfd(good())
ready()
sys.stdin.read()
"""
    command = f'mount -t tmpfs none "{mount}" && exec "{sys.executable}" -c "$0"'
    with running("unshare", "-m", "sh", "-c", command, PRELUDE + script) as process:
        links = [str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert sum(link.startswith("/memfd:kvmscope-vm-stats:disk:") for link in links) == 10
        (tmp_path / "proc").mkdir()
        found = read(tmp_path / "proc", process.pid, seconds=0)
    assert (found["vms"], found["gaps"]) == ([1], [])


@pytest.mark.slow
@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 17_000, reason="may not have so many open files")
def test_a_process_with_more_files_than_anybody_needs_is_read_in_part(tmp_path: Path) -> None:
    script = """
import resource
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
for key in range(16_700):
    memfd(good(key))
ready()
sys.stdin.read()
"""
    with hostile(script) as process:
        found = read(tmp_path, process.pid, seconds=0)
    assert found["vms"] == [16_384]
    assert any("more than 67108864 bytes in one process" in reason for reason in found["gaps"])


# A publisher that dies in the middle

UPDATER = """
import os, sys
from kvmscope import publish
from kvmscope.schema import Scope

class Busy(publish.Stats, provider="busy", scope=Scope.VM):
    first = publish.Counter("Updates that began.")
    times = publish.LogHistogram("Something.")
    flip = publish.Bit("True after every other update.")
    last = publish.Counter("Updates that ended.")

vm = publish.Vm("web")
busy = Busy(vm)
fd = busy.publication.open_fd()
print("ready")
print(fd, flush=True)
while True:
    busy.first.add()
    busy.times.record(busy.first.raw[0])
    busy.flip.set(busy.first.raw[0] % 2 == 1)
    busy.last.add()
"""


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline


@pytest.mark.parametrize("updates", [1, 1000, 5000])
def test_a_publisher_killed_in_the_middle_of_an_update_leaves_a_file_that_is_as_good_as_before(updates: int) -> None:
    with running(sys.executable, "-c", UPDATER) as process:
        assert process.stdout is not None
        fd = os.open(f"/proc/{process.pid}/fd/{int(process.stdout.readline())}", os.O_RDONLY)
        try:
            wait_until(lambda: int(parse(os.pread(fd, 1 << 20, 0))["last"]) >= updates)  # type: ignore[arg-type]
            process.kill()
            process.wait()
            raw = os.pread(fd, 1 << 20, 0)
        finally:
            os.close(fd)
    file = parse(raw)
    assert publication.parse(raw).vm == "web"
    first, times, last = file["first"], file["times"], file["last"]
    assert isinstance(first, int)
    assert isinstance(times, tuple)
    assert isinstance(last, int)
    assert first >= sum(times) >= last >= first - 1 >= updates - 1
    assert isinstance(file["flip"], bool)
