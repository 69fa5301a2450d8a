"""Samples from the BPF iterator: loaded for this process (``bpf``) or pinned by ``attach`` (``pinned``).

Both run the same program and make the same samples of its output; they differ in how it was loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ...codec import apicv
from ...codec.apicv import Reasons
from ...codec.snapshot import Feature
from ...errors import SourceError, Unavailable
from ...linux.kvm import running_kvm_name
from ...sample import Sample
from ...schema import Schema
from . import pins
from .arena import Arena
from .loading import FIRST_ROOM, LoadedReader, Program, read_inhibit_numbers, read_traits
from .place import ROOT
from .run_errors import Overflow, Replaced
from .samples import Samples

if TYPE_CHECKING:
    from .group import Hooks
    from .groups.base import Group

_RESERVES = 1.03, 2.0, 4.0, 8.0
"""The room of the next program relative to the host's size, and of each one after if more VMs came while it loaded.
The first is small, since there are two slots: a reader takes at most three times the memory of what it reads."""
GROUP_ROOM = 4096, 16384
"""VMs and vCPUs of a program with group apicv; it is not replaced by a larger one, as its counts would start again at
0. It has one slot, sized for a large host."""
_T = TypeVar("_T")


def read_reasons() -> Reasons:
    """The meaning of the bits of the inhibit word on this kernel; empty if it has none."""
    return apicv.reasons_from_enumerators(read_inhibit_numbers())


class _Running:
    """A program loaded by this process, and the arrays that its runs fill."""

    def __init__(self, program: Program) -> None:
        self.program = program
        try:
            self.arena = Arena(program.layout, program.arrays, program.open_run, is_own=True)
        except BaseException:
            program.close()
            raise

    def close(self) -> None:
        self.arena.close()
        self.program.close()


class BpfSource:
    """Loads the iterator while it is open. Needs CAP_BPF and CAP_PERFMON, and /dev/kvm once; groups that hook a KVM
    built as modules need CAP_SYS_ADMIN too.

    ``groups`` may have "apicv": its hooks are attached only while this is open. With "apicv" or "apic", each read also
    fetches the registers of every vCPU's local APIC. Every other group (see ``groups.plans_by_name``) is a separate
    object, loaded while this is open.
    """

    name = "bpf"

    def __init__(self, groups: Sequence[str] = (), *, reader: LoadedReader | None = None) -> None:
        """``reader``: a program already loaded for a source without groups; this source closes it."""
        self._traits = reader.traits if reader else read_traits()
        self.hooks = _hooks() if "apicv" in groups else None
        self._reads_apic = "apicv" in groups or "apic" in groups
        self._groups: list[Group] = []
        self._running = _Running(reader.program if reader else self._load(*GROUP_ROOM if self.hooks else FIRST_ROOM))
        try:
            features = self._features()
            self._samples = Samples(
                self.name,
                self._traits.schemas,
                apicv.reasons_from_enumerators(self._traits.inhibit_numbers),
                features,
                hooks=self.hooks,
                registers=self._reads_apic,
            )
            self._open_groups(groups)
        except BaseException:
            self.close()
            raise

    @property
    def schemas(self) -> tuple[Schema, ...]:
        return self._samples.schemas + _schemas_of(self._groups)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups that are separate objects."""
        return tuple(self._groups)

    def read(self) -> Sample:
        """Every VM and vCPU of the host. Raises SourceError."""
        return with_groups(self._with_room(self._read), self._groups)

    @property
    def program(self) -> Program:
        """The program that is loaded now."""
        return self._running.program

    @property
    def arena(self) -> Arena:
        """The arrays that its runs fill."""
        return self._running.arena

    def close(self) -> None:
        for group in self._groups:
            group.close()
        self._running.close()

    def _open_groups(self, names: Sequence[str]) -> None:
        if not names:
            return
        from .groups import loaded, plans_by_name  # 8 ms of a start, and most count no groups

        wanted = [name for name in dict.fromkeys(names) if name in plans_by_name()]
        if not wanted:
            return
        here = self._running.arena.header()
        for name in wanted:
            self._groups.append(loaded.open_group(name, vms=here.vms, vcpus=here.vcpus))

    def _features(self) -> Feature:
        """The features found by a first run, which also starts the group's clocks: durations count from then on."""
        return self._with_room(self._read_features)

    def _read_features(self) -> Feature:
        return self._running.arena.features()

    def _with_room(self, run: Callable[[], _T]) -> _T:
        """The result of a run, with larger programs loaded until the host fits, as VMs can be added at the same time.

        Raises Overflow if the host outgrew each of them.
        """
        for factor in _RESERVES:
            try:
                return run()
            except Overflow as overflow:
                self._grow(overflow, factor)
        return run()

    def _read(self) -> Sample:
        taken_ns = time.time_ns()
        return self._samples.make(taken_ns, self._running.arena.read())

    def _load(self, vms: int, vcpus: int) -> Program:
        layout = replace(self._traits.layout(vms, vcpus), reads_apic=self._reads_apic)
        if self.hooks is None:
            return Program(layout)
        layout = replace(layout, slots=1, counts_apicv=True)
        try:
            return Program(layout, self.hooks.programs)
        except Unavailable as error:
            if not any(hook.is_function for hook in self.hooks.chosen):
                raise
            self.hooks = self.hooks.without_functions(f"this kernel refuses programs on functions ({error.reason})")
            return Program(layout, self.hooks.programs)

    def _grow(self, overflow: Overflow, factor: float) -> None:
        """Load a larger program, except with group apicv, whose counts would be lost: it reads again once VMs go."""
        if self.hooks:
            reason = f"group apicv has {overflow.reason}; it goes on counting"
            raise Unavailable(
                reason, remedy="read again once there are fewer VMs, or read without groups"
            ) from overflow
        larger = _Running(self._load(_with_reserve(overflow.vms, factor), _with_reserve(overflow.vcpus, factor)))
        self._running.close()
        self._running = larger


class PinnedSource:
    """Reads the iterator pinned by ``kvmscope attach``. Needs only membership of the Unix group given to ``attach``.

    ``groups``: the groups to read; None: all that are pinned. Raises Unavailable if one of them is not pinned.
    """

    name = "pinned"

    def __init__(self, root: Path = ROOT, groups: Sequence[str] | None = None) -> None:
        self._root = root
        self._wanted = groups
        self._open()

    @property
    def schemas(self) -> tuple[Schema, ...]:
        return self._samples.schemas + _schemas_of(self._groups)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups that are read."""
        return tuple(self._groups)

    def read(self) -> Sample:
        """Every VM and vCPU of the host. Raises SourceError; Unavailable if it was detached or has no room for all."""
        try:
            return with_groups(self._read(), self._groups)
        except Replaced:
            self.close()
            self._open()
            return with_groups(self._read(), self._groups)

    def close(self) -> None:
        for group in self._groups:
            group.close()
        self._arena.close()

    def _open(self) -> None:
        self._groups: list[Group] = []
        pinned = pins.open_pinned(self._root)
        try:
            self._arena = Arena(pinned.meta.layout, pinned.fds, pinned.open_run)
        finally:
            pinned.close()
        try:
            meta = pinned.meta
            self._samples = Samples(
                self.name, meta.schemas, meta.reasons, self._arena.features(), registers=meta.layout.reads_apic
            )
            self._open_groups(meta)
        except BaseException as error:
            self.close()
            if isinstance(error, Overflow):
                raise _attach_larger(error) from error
            raise

    def _open_groups(self, meta: pins.Meta) -> None:
        from .groups import pinned as pinned_groups  # 8 ms of a start, for those who read what is pinned
        from .groups.base import AbsentGroup

        names = pinned_groups.pinned_names(self._root) if self._wanted is None else self._wanted
        for name in names:
            if name == "apic" and meta.layout.reads_apic:
                continue
            try:
                self._groups.append(pinned_groups.PinnedGroup(self._root, name))
            except SourceError as error:
                if self._wanted is not None:
                    raise
                self._groups.append(AbsentGroup(name, error.reason))

    def _read(self) -> Sample:
        taken_ns = time.time_ns()
        try:
            run = self._arena.read()
        except Overflow as overflow:
            raise _attach_larger(overflow) from overflow
        return self._samples.make(taken_ns, run)


def _hooks() -> Hooks:
    from .group import choose_hooks  # 2 ms of a start, and most count no groups

    return choose_hooks(running_kvm_name())


def with_groups(sample: Sample, groups: Sequence[Group]) -> Sample:
    """The sample with the counts of these groups added."""
    if not groups:
        return sample
    parts = [group.read(sample) for group in groups]
    return replace(
        sample,
        blocks=(*sample.blocks, *(block for part in parts for block in part.blocks)),
        gaps=(*sample.gaps, *(gap for part in parts for gap in part.gaps)),
    )


def _schemas_of(groups: Iterable[Group]) -> tuple[Schema, ...]:
    return tuple(schema for group in groups for schema in group.schemas)


def _attach_larger(overflow: Overflow) -> Unavailable:
    vcpus, vms = max(2 * overflow.vcpus, overflow.vcpu_room), max(2 * overflow.vms, overflow.vm_room)
    remedy = f"as root: kvmscope attach --vcpus {vcpus} --vms {vms}"
    return Unavailable(f"the attached iterator has {overflow.reason}", remedy=remedy)


def _with_reserve(count: int, factor: float) -> int:
    return int(count * factor) + 16
