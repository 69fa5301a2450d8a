"""Loads the iterator for one process, which takes the kernel and libbpf about 90 ms.

Rule: nothing here needs numpy, so a command can load numpy in one thread and the iterator in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...linux import btf
from ...linux.kvm import running_kvm_name
from ..kvm_schema import KvmSchemas, read_kvm_schemas
from . import libbpf
from .layout import Layout

FIRST_ROOM = 64, 256
"""VMs and vCPUs of the first program; for a larger host, it reports the numbers and a second one is loaded to fit."""
SLOTS = 2
"""A run fills one while the last sample uses the other."""

Programs = Mapping[str, str | None]
"""Optional programs of the object to load too, as arguments of ``BpfObject.choose_program``."""


def object_data() -> bytes:
    """The object file of the iterator and of group apicv."""
    return Path(__file__).with_name("kvmscope.bpf.o").read_bytes()


def load_program(layout: Layout, programs: Programs | None = None) -> libbpf.BpfObject:
    """The program, loaded for this kernel with the sizes of ``layout``. The caller must close it."""
    return libbpf.load_object(object_data(), maps=layout.maps, constants=layout.constants(), programs=programs)


def read_inhibit_numbers() -> dict[str, int]:
    """Enumerators of the inhibit reasons of this kernel; empty if it has none."""
    return btf.read_enum("kvm_apicv_inhibit", module="kvm")


def runs_on_svm() -> bool:
    """Whether kvm_amd runs the VMs."""
    return running_kvm_name() == "kvm_amd"


class Program:
    """The iterator, and programs of a group, loaded for this process alone; gone when closed."""

    def __init__(self, layout: Layout, programs: Programs | None = None) -> None:
        self.layout = layout
        self._bpf = load_program(layout, programs)
        try:
            self._link = self._bpf.attach_map_iterator("read_host", "control")
            for program in programs or ():
                self._bpf.attach(program)
        except BaseException:
            self._bpf.close()
            raise

    @property
    def arrays(self) -> dict[str, int]:
        """The fds of the maps that a run fills, by name."""
        return {name: self._bpf.map_fd(name) for name in ("control", "vms", "vcpus")}

    def open_run(self) -> int:
        """A file whose first read is one run."""
        return libbpf.open_iterator(self._link)

    def fd(self, program: str) -> int:
        """The fd of one of the programs, to query its run time from the kernel."""
        return self._bpf.program_fd(program)

    def close(self) -> None:
        self._bpf.close()


@dataclass(frozen=True, slots=True)
class KvmTraits:
    """Properties that do not change while KVM is loaded. ``is_svm``: kvm_amd runs the VMs."""

    schemas: KvmSchemas
    inhibit_numbers: Mapping[str, int]
    is_svm: bool

    def layout(self, vms: int, vcpus: int) -> Layout:
        """The layout for this many VMs and vCPUs, in a program without a group."""
        return Layout(
            self.schemas.vm.data_size, self.schemas.vcpu.data_size, vms, vcpus, slots=SLOTS, is_svm=self.is_svm
        )


def read_traits() -> KvmTraits:
    """Raises PermissionNeeded, Unavailable."""
    return KvmTraits(read_kvm_schemas(), read_inhibit_numbers(), runs_on_svm())


@dataclass(frozen=True, slots=True)
class LoadedReader:
    """The loaded program with which a ``BpfSource`` without groups starts; the source closes the program."""

    traits: KvmTraits
    program: Program


def load_reader() -> LoadedReader:
    """Raises PermissionNeeded, Unavailable."""
    traits = read_traits()
    return LoadedReader(traits, Program(traits.layout(*FIRST_ROOM)))
