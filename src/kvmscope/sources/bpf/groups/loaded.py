"""Loads a group for this process: relocated for the kernel, its arrays mapped, its programs attached."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ....errors import PermissionNeeded, SourceError
from ....linux.boot import boot_key
from ....sample import Sample
from ....schema import Schema, Scope
from .. import libbpf
from . import plans_by_name
from .base import AbsentGroup, Cost, Group, GroupShape, Part, Plan
from .kernel import KernelFacts
from .slots import ARRAYS, Slots

_Loaded = TypeVar("_Loaded")
_CONSTANTS = struct.Struct("=16sII")


def object_data(name: str) -> bytes:
    """The object file of a group."""
    return Path(__file__).with_name(f"{name}.bpf.o").read_bytes()


def load(plan: Plan, shape: GroupShape) -> libbpf.BpfObject:
    """The programs of a group, loaded but not attached. The caller must close the object."""
    constants = _CONSTANTS.pack(boot_key(), shape.slots, plan.rows) + plan.constants
    return libbpf.load_object(
        object_data(plan.name),
        maps={"who": (None, shape.slots), "data": (None, shape.slots * plan.rows), **plan.maps},
        constants=constants + bytes(-len(constants) % 8),
        programs=plan.programs,
    )


def first_that_loads(plan: Plan, load_plan: Callable[[Plan], _Loaded]) -> _Loaded:
    """The result of ``load_plan`` for a plan or, if the kernel refuses it, for its alternative."""
    while True:
        try:
            return load_plan(plan)
        except PermissionNeeded:
            raise
        except SourceError as error:
            if plan.otherwise is None:
                raise
            plan = plan.otherwise(error.reason)


class LoadedGroup:
    """A group for this process alone."""

    def __init__(self, plan: Plan, shape: GroupShape) -> None:
        self.name = plan.name
        self.plan = plan
        self._bpf = load(plan, shape)
        try:
            self._slots = Slots(shape, {name: self._bpf.map_fd(name) for name in ARRAYS})
            for program in plan.programs:
                self._bpf.attach(program)
        except BaseException:
            self._bpf.close()
            raise

    @property
    def schemas(self) -> tuple[Schema, ...]:
        return (self._slots.shape.schema,)

    @property
    def cost(self) -> Cost:
        return self._slots.shape.cost

    def fd(self, program: str) -> int:
        """The fd of one of the programs, to query its run time from the kernel."""
        return self._bpf.program_fd(program)

    def ran(self) -> tuple[int, int]:
        """The number of measured runs of its programs (``libbpf.run_statistics``), and the nanoseconds they took."""
        measured = [libbpf.ran(self.fd(program)) for program in self.plan.programs]
        return sum(runs for runs, _ in measured), sum(time_ns for _, time_ns in measured)

    def read(self, sample: Sample) -> Part:
        return self._slots.read(sample)

    def close(self) -> None:
        self._bpf.close()
        self._slots.close()


def open_group(name: str, *, vms: int, vcpus: int, kernel: KernelFacts | None = None) -> Group:
    """A group for this process, with room for twice as many subjects as there are.

    If this kernel cannot count it, the result is an ``AbsentGroup``. Raises PermissionNeeded, KeyError if there is no
    such group.
    """
    try:
        plan = plans_by_name()[name](kernel or KernelFacts())
        subjects = vms if plan.schema.scope is Scope.VM else vcpus
        return first_that_loads(plan, lambda each: LoadedGroup(each, each.shape(subjects)))
    except PermissionNeeded:
        raise
    except SourceError as error:
        return AbsentGroup(name, error.reason)
