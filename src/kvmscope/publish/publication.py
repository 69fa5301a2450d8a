"""VMs that publish, and the files that they publish.

Not here: how stats are declared (``declare``) and written (``cells``). Rule: a file is complete before others can find
it; after that, only its data words change, and the word that marks its end.
"""

from __future__ import annotations

import os
import re
import socket
import time
from functools import cache

import numpy as np

from ..catalog.groups import kernel_providers
from ..closing import Closable
from ..codec import publication as block
from ..linux.procfs import start_ticks
from ..sample import U64Array
from ..schema import Scope
from .budget import Budget, check_budget
from .cells import Cell, cell_for
from .memory import SharedFile
from .statset import StatSet

_NAME_IN_LINK = 100  # characters; a memfd's name has at most 249 bytes
_NOT_FOR_LINKS = re.compile(r"[^A-Za-z0-9_.+-]")


class Vm(Closable):
    """A VM of this process, under whose name stats are published. Closing it ends all of its publications.

    ``name``: any text of at most 1024 bytes; two VMs may have the same. ``simulated``: the numbers do not come from a
    real VM, and every reader says so. ``created_ns``: CLOCK_REALTIME in nanoseconds, by default now. ``budget``: limit
    of the memory of all stats published for the VM, and for each vCPU.
    """

    def __init__(
        self, name: str, *, simulated: bool = False, created_ns: int | None = None, budget: Budget | None = None
    ) -> None:
        """Raises TypeError if the name is not a str, ValueError if it is too long or not encodable in UTF-8."""
        block.check_name(name)
        self.name = name
        self.budget = budget
        self.simulated = simulated
        self.created_ns = time.time_ns() if created_ns is None else created_ns
        self.key = int.from_bytes(os.urandom(8), "little")
        self._publications: list[Publication] = []
        self._is_open = True

    def publish(self, stat_set: StatSet, *, vcpu: int | None = None, words: U64Array | None = None) -> Publication:
        """Publishes a file of these stats: for the vCPU ``vcpu``, or for the VM if the set is of that scope.

        ``words``: the initial data block, shape (words,); by default all zero. A set without stats has no file.
        Raises ValueError if the scope and ``vcpu`` do not match, the provider's name is reserved for simulations, the
        budget is exceeded, or the VM is closed; OSError if the kernel refuses the memory or the fd.
        """
        if not self._is_open:
            raise ValueError(f"the VM {self.name!r} is closed")
        if self.budget is not None:
            others = [other.stat_set for other in self._publications if other.is_open and other.is_of(stat_set, vcpu)]
            check_budget([*others, stat_set], self.budget.of(stat_set.scope))
        publication = Publication(self, stat_set, vcpu, words)
        self._publications.append(publication)
        return publication

    def close(self) -> None:
        """Ends all publications of this VM. Idempotent."""
        self._is_open = False
        for publication in self._publications:
            publication.close()
        self._publications.clear()


class Publication:
    """One published stats file; made by ``Vm.publish``."""

    def __init__(self, vm: Vm, stat_set: StatSet, vcpu: int | None, words: U64Array | None = None) -> None:
        about = _describe(vm, stat_set, vcpu)
        self.stat_set = stat_set
        self.vcpu = vcpu
        if words is not None and words.nbytes != stat_set.data_size:
            raise ValueError(f"{words.nbytes} bytes of words for stats of {stat_set.data_size}")
        self._file = _publish(about, stat_set, words) if stat_set.descriptors else None
        mapping = bytearray() if self._file is None else self._file.mapping
        data_offset = len(mapping) - stat_set.data_size
        self._bytes = memoryview(mapping)
        self._data = self._bytes[data_offset:].cast("Q")
        self._live = self._bytes[block.LIVE_AT : block.LIVE_AT + 8].cast("Q")
        self._words: U64Array | None = np.frombuffer(mapping, dtype=np.uint64, offset=data_offset)
        self._descriptors = {descriptor.name: descriptor for descriptor in stat_set.descriptors}
        self._cells: dict[str, Cell] = {}

    def cell(self, name: str) -> Cell:
        """The writer of one stat, the same object at each call. Raises KeyError if there is no stat of that name."""
        if name not in self._cells:
            descriptor = self._descriptors[name]
            first = descriptor.offset // 8
            self._cells[name] = cell_for(descriptor, self._data[first : first + descriptor.size])
        return self._cells[name]

    @property
    def words(self) -> U64Array:
        """The data block, writable, shape (words,), to update many stats with one store each.

        Raises ValueError after ``close``. Release the array before ``close``, or the memory stays mapped.
        """
        if self._words is None:
            raise ValueError("this publication is closed")
        return self._words

    @property
    def is_open(self) -> bool:
        return self._words is not None

    def is_of(self, stat_set: StatSet, vcpu: int | None) -> bool:
        """Whether it has the same subject as these stats would have."""
        return (self.stat_set.scope, self.vcpu) == (stat_set.scope, vcpu)

    def open_fd(self) -> int:
        """A new read-only fd of the file, to pass to another process; the caller closes it.

        Raises ValueError if there is no file, as after ``close`` or for a set without stats; OSError if the kernel
        refuses.
        """
        if self._file is None or not self.is_open:
            raise ValueError("this publication has no file")
        return self._file.open_fd()

    def send(self, connection: socket.socket) -> None:
        """Sends the file to the other end of a Unix socket; ``sources.passed`` receives it.

        The file still belongs to this process: it ends for the receiver when this publication ends. Raises as
        ``open_fd``.
        """
        fd = self.open_fd()
        try:
            socket.send_fds(connection, [block.PASSED], [fd])
        finally:
            os.close(fd)

    def close(self) -> None:
        """Marks the file as ended and releases the memory; later writes to its cells have no effect. Idempotent."""
        if self._words is None:
            return
        if self._file is not None:
            self._live[0] = 0
        self._words = None
        for cell in self._cells.values():
            cell.detach()
        for view in (self._live, self._data, self._bytes):
            view.release()
        if self._file is not None:
            self._file.close()


def _publish(about: block.PublicationBlock, stat_set: StatSet, words: U64Array | None) -> SharedFile:
    encoded = block.encode(about, stat_set.encoded, file_id=_file_id(about))
    if words is not None:
        encoded = encoded[: len(encoded) - stat_set.data_size] + words.tobytes()
    return SharedFile(_link_name(about), encoded)


def _describe(vm: Vm, stat_set: StatSet, vcpu: int | None) -> block.PublicationBlock:
    if (stat_set.scope is Scope.VM) != (vcpu is None):
        raise ValueError(f"stats of a {stat_set.scope.value} published with vCPU {vcpu}")
    if vcpu is not None and not (isinstance(vcpu, int) and 0 <= vcpu < 2**63):
        raise ValueError(f"a vCPU has an id from 0 to 2^63 - 1, not {vcpu!r}")
    if stat_set.provider in kernel_providers() and not vm.simulated:
        raise ValueError(f"{stat_set.provider} is a provider of the kernel: only a simulated VM may publish it")
    return block.PublicationBlock(
        provider=stat_set.provider,
        vm=vm.name,
        key=vm.key,
        vcpu=vcpu,
        owner_start=_start_of(os.getpid()),
        created_ns=vm.created_ns,
        simulated=vm.simulated,
        notes=stat_set.notes,
    )


@cache
def _start_of(pid: int) -> int:
    """Start time of this process in clock ticks since boot. Cached by pid, since a fork has another start time."""
    try:
        return start_ticks(pid)
    except OSError:
        return 0


def _file_id(about: block.PublicationBlock) -> str:
    """An id in the kernel's form, for readers that know only the kernel's ids; at most 47 bytes."""
    mark = "simulated:" if about.simulated else ""
    suffix = "" if about.vcpu is None else f"/vcpu-{about.vcpu}"
    provider = about.provider[: 47 - len(f"{mark}-{os.getpid()}{suffix}")]
    return f"{mark}{provider}-{os.getpid()}{suffix}"


def _link_name(about: block.PublicationBlock) -> str:
    name = _NOT_FOR_LINKS.sub("_", about.vm)[:_NAME_IN_LINK]
    suffix = "" if about.vcpu is None else f":{about.vcpu}"
    return f"{block.LINK_PREFIXES[about.scope]}{about.provider}:{name}{suffix}"
