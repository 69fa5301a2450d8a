"""Loads the iterator for one process: what takes the kernel and libbpf some 90 ms.

Rule: nothing here needs numpy, so a command that loads numpy on one thread can have the iterator loaded on another.
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
"""VMs and vCPUs; a larger host is read by a program that is made to its measure once it has said how large it is."""
SLOTS = 2
"""One is filled while the last sample has the other."""

Programs = Mapping[str, str | None]
"""Optional programs of the object that are to be loaded too, as ``BpfObject.choose_program`` takes them."""


def object_data() -> bytes:
    """The object file of the iterator and of group apicv."""
    return Path(__file__).with_name("kvmscope.bpf.o").read_bytes()


def load_program(layout: Layout, programs: Programs | None = None) -> libbpf.BpfObject:
    """The program, fitted to this kernel and loaded with room for ``layout``. Close what you get."""
    return libbpf.load_object(object_data(), maps=layout.maps, constants=layout.constants(), programs=programs)


def read_inhibit_numbers() -> dict[str, int]:
    """Enumerators of the inhibit reasons of this kernel; empty if it has none."""
    return btf.read_enum("kvm_apicv_inhibit", module="kvm")


def runs_on_svm() -> bool:
    """Whether kvm_amd is what runs the VMs."""
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
        """The fds of what a run fills, by name."""
        return {name: self._bpf.map_fd(name) for name in ("control", "vms", "vcpus")}

    def open_run(self) -> int:
        """A file whose first read is one run."""
        return libbpf.open_iterator(self._link)

    def fd(self, program: str) -> int:
        """Of one of the programs, for those who ask the kernel what it costs."""
        return self._bpf.program_fd(program)

    def close(self) -> None:
        self._bpf.close()


@dataclass(frozen=True, slots=True)
class KvmTraits:
    """What stays as it is while KVM is loaded. ``is_svm``: kvm_amd is what runs the VMs."""

    schemas: KvmSchemas
    inhibit_numbers: Mapping[str, int]
    is_svm: bool

    def layout(self, vms: int, vcpus: int) -> Layout:
        """Room for so many, in a program without a group."""
        return Layout(
            self.schemas.vm.data_size, self.schemas.vcpu.data_size, vms, vcpus, slots=SLOTS, is_svm=self.is_svm
        )


def read_traits() -> KvmTraits:
    """Raises PermissionNeeded, Unavailable."""
    return KvmTraits(read_kvm_schemas(), read_inhibit_numbers(), runs_on_svm())


@dataclass(frozen=True, slots=True)
class LoadedReader:
    """What a ``BpfSource`` without groups begins with; it closes the program."""

    traits: KvmTraits
    program: Program


def load_reader() -> LoadedReader:
    """Raises PermissionNeeded, Unavailable."""
    traits = read_traits()
    return LoadedReader(traits, Program(traits.layout(*FIRST_ROOM)))
