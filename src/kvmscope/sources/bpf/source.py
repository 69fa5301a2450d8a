"""Samples from the BPF iterator: loaded for this process (``bpf``) or pinned by ``attach`` (``pinned``).

Both run the same program and make the same sample of what it leaves; they differ in who loaded it.
"""

from __future__ import annotations

import os
import secrets
import time
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np

from ...codec.snapshot import SnapshotFlag, VmFlag
from ...errors import Unavailable
from ...sample import NOT_KNOWN, Block, Gap, I64Array, Sample, Vcpus, Vms
from ...schema import Schema
from ..kvm_schema import KvmSchemas, read_kvm_schemas
from . import libbpf, pins
from .arena import Arena, Layout, Overflow, Run

_FIRST_VMS, _FIRST_VCPUS = 512, 2048


def load_program(layout: Layout) -> libbpf.BpfObject:
    """The program, fitted to this kernel and loaded with room for ``layout``. Close what you get."""
    data = files(__package__).joinpath("kvmscope.bpf.o").read_bytes()
    return libbpf.load_object(data, maps=layout.maps, constants=layout.constants(secrets.token_bytes(16)))


class Program:
    """The iterator loaded for this process alone; gone when closed."""

    def __init__(self, layout: Layout) -> None:
        self._bpf = load_program(layout)
        try:
            link = self._bpf.attach_map_iterator("read_host", "control")
            fds = {name: self._bpf.map_fd(name) for name in ("control", "vms", "vcpus")}
            self.arena = Arena(layout, fds, partial(libbpf.open_iterator, link))
        except BaseException:
            self._bpf.close()
            raise

    def close(self) -> None:
        self.arena.close()
        self._bpf.close()


class BpfSource:
    """Loads the iterator for as long as it is open. Needs CAP_BPF and CAP_PERFMON, and /dev/kvm once."""

    name = "bpf"

    def __init__(self) -> None:
        self._schemas = read_kvm_schemas()
        self._program = Program(self._layout(_FIRST_VMS, _FIRST_VCPUS))

    @property
    def schemas(self) -> tuple[Schema, ...]:
        return self._schemas.vm, self._schemas.vcpu

    def read(self) -> Sample:
        """Every VM and vCPU of the host. Raises SourceError."""
        try:
            return self._read()
        except Overflow as overflow:
            self._grow(overflow)
            return self._read()

    def close(self) -> None:
        self._program.close()

    def _read(self) -> Sample:
        taken_ns = time.time_ns()
        return make_sample(self.name, taken_ns, self._schemas, self._program.arena.read())

    def _grow(self, overflow: Overflow) -> None:
        larger = Program(self._layout(max(_FIRST_VMS, 2 * overflow.vms), max(_FIRST_VCPUS, 2 * overflow.vcpus)))
        self._program.close()
        self._program = larger

    def _layout(self, vms: int, vcpus: int) -> Layout:
        return Layout(self._schemas.vm.data_size, self._schemas.vcpu.data_size, vms, vcpus, slots=1)


class PinnedSource:
    """Reads what ``kvmscope attach`` pinned. Needs no privilege but membership of the group that was given."""

    name = "pinned"

    def __init__(self, root: Path = pins.ROOT) -> None:
        self._pinned = pins.open_pinned(root)
        iterator = os.fspath(self._pinned.iterator)
        try:
            opener = partial(os.open, iterator, os.O_RDONLY | os.O_CLOEXEC)
            self._arena = Arena(self._pinned.meta.layout, self._pinned.fds, opener)
        finally:
            self._pinned.close()

    @property
    def schemas(self) -> tuple[Schema, ...]:
        return self._pinned.meta.schemas.vm, self._pinned.meta.schemas.vcpu

    def read(self) -> Sample:
        """Every VM and vCPU of the host. Raises SourceError, Unavailable if it was detached or has no more room."""
        taken_ns = time.time_ns()
        self._pinned.meta.check_kvm()
        try:
            run = self._arena.read()
        except Overflow as overflow:
            remedy = f"as root: kvmscope attach --vcpus {2 * overflow.vcpus} --vms {2 * overflow.vms}"
            raise Unavailable(f"the attached iterator has {overflow.reason}", remedy=remedy) from overflow
        except FileNotFoundError as error:
            raise Unavailable("the iterator was detached", remedy="as root: kvmscope attach") from error
        return make_sample(self.name, taken_ns, self._pinned.meta.schemas, run)

    def close(self) -> None:
        self._arena.close()


def make_sample(source: str, taken_ns: int, schemas: KvmSchemas, run: Run) -> Sample:
    """The columns of one run; stats stay views of the copied records."""
    vms, vcpus = run.vms, run.vcpus
    created = np.where(vms.flags & VmFlag.CREATED, vms.created_ns, NOT_KNOWN)
    return Sample(
        taken_ns=taken_ns,
        monotonic_ns=run.header.boot_ns,
        source=source,
        simulated=False,
        vms=Vms(vms.id, _known(vms.pid), created, ("",) * len(vms)),
        vcpus=Vcpus(vcpus.vm, vcpus.id, _known(vcpus.tid)),
        blocks=(
            Block(schemas.vm, vms.stats, np.arange(len(vms))),
            Block(schemas.vcpu, vcpus.stats, np.arange(len(vcpus))),
        ),
        gaps=(Gap("the walk over processes was cut short"),) if SnapshotFlag.UNFINISHED in run.header.flags else (),
    )


def _known(numbers: I64Array) -> I64Array:
    """0 in a record means that the reader's pid namespace has no number for it."""
    return np.where(numbers == 0, NOT_KNOWN, numbers)
