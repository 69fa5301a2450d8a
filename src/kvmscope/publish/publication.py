"""VMs that publish, and the files that they publish.

Not here: how stats are declared (``declare``) and written (``cells``). Rule: a file that others can find is complete;
only its data words change after that, and the word that says it is over.
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
    """A VM of this process, under whose name stats are published. Closing it ends all that was published for it.

    ``name``: any text of at most 1024 bytes; two VMs may have the same. ``simulated``: no VM stands behind the numbers,
    and every reader will say so. ``created_ns``: CLOCK_REALTIME in nanoseconds, the present moment if not given.
    ``budget``: what all that is published for the VM, and for each vCPU, may take of memory.
    """

    def __init__(
        self, name: str, *, simulated: bool = False, created_ns: int | None = None, budget: Budget | None = None
    ) -> None:
        """TypeError if the name is no text, ValueError if it is too long or holds what UTF-8 has not."""
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

        ``words``: the data block as readers first see it, shape (words,); all zero if not given.
        A set without stats has no file. ValueError if the scope and ``vcpu`` do not fit, the provider's name is one
        that only a simulation may use, the budget is passed, or the VM is closed. OSError if the kernel refuses the
        memory or the fd.
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
        """Ends what was published for this VM. Idempotent."""
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
        """The writer of one stat, the same at each call; KeyError if there is none of that name."""
        if name not in self._cells:
            descriptor = self._descriptors[name]
            first = descriptor.offset // 8
            self._cells[name] = cell_for(descriptor, self._data[first : first + descriptor.size])
        return self._cells[name]

    @property
    def words(self) -> U64Array:
        """The data block, writable, shape (words,): for updates of many stats in one store each.

        ValueError after ``close``. Release it before that, or the memory stays mapped.
        """
        if self._words is None:
            raise ValueError("this publication is closed")
        return self._words

    @property
    def is_open(self) -> bool:
        return self._words is not None

    def is_of(self, stat_set: StatSet, vcpu: int | None) -> bool:
        """Whether it is of the same subject as such stats would be."""
        return (self.stat_set.scope, self.vcpu) == (stat_set.scope, vcpu)

    def open_fd(self) -> int:
        """A new fd of the file that can only be read, to be handed to another process; close it thereafter.

        ValueError if there is no file: after ``close``, and of a set without stats. OSError if the kernel refuses.
        """
        if self._file is None or not self.is_open:
            raise ValueError("this publication has no file")
        return self._file.open_fd()

    def send(self, connection: socket.socket) -> None:
        """Sends the file to the other end of a Unix socket; ``sources.passed`` receives it.

        It stays this process's: what the receiver reads ends with this publication. Raises as ``open_fd``.
        """
        fd = self.open_fd()
        try:
            socket.send_fds(connection, [block.PASSED], [fd])
        finally:
            os.close(fd)

    def close(self) -> None:
        """Marks the file as ended and releases the memory; later writes to its cells go nowhere. Idempotent."""
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
    """Start time of this process in clock ticks after boot; the pid is the key since a fork has a start of its own."""
    try:
        return start_ticks(pid)
    except OSError:
        return 0


def _file_id(about: block.PublicationBlock) -> str:
    """As the kernel's ids are, for readers that know only those; at most 47 bytes."""
    mark = "simulated:" if about.simulated else ""
    suffix = "" if about.vcpu is None else f"/vcpu-{about.vcpu}"
    provider = about.provider[: 47 - len(f"{mark}-{os.getpid()}{suffix}")]
    return f"{mark}{provider}-{os.getpid()}{suffix}"


def _link_name(about: block.PublicationBlock) -> str:
    name = _NOT_FOR_LINKS.sub("_", about.vm)[:_NAME_IN_LINK]
    suffix = "" if about.vcpu is None else f":{about.vcpu}"
    return f"{block.LINK_PREFIXES[about.scope]}{about.provider}:{name}{suffix}"
