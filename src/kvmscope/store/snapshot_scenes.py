"""Anonymises scenes: names, uuids, paths, ids, the host, command lines, libvirt's XML.

Rule: statistics, settings, the CPU and the modules stay, so the redacted scene is judged as before, except for names.
Times stay too, since a report refers to a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from ..catalog.groups import kernel_providers
from ..catalog.settings import PARTIES
from ..host.config.others import OTHER_VMMS
from ..host.facts import Machine
from ..host.process import OTHER, VmmProcess
from ..linux.facts import CpuInfo, Fact, KernelModule
from ..sample import NOT_KNOWN, Block, Gap, I64Array, Origin, Sample, VmId, Vms
from ..scene import Scene, VmIdentity
from ..schema import Schema
from .episode_note import EpisodeNote
from .snapshot_commands import CommandRedaction
from .snapshot_names import Pseudonyms

T = TypeVar("T")

_NUMBERED_NAME = re.compile(r"(.+)(#\d+)", re.DOTALL)
_PID_NAME = re.compile(r"(pid-|kvm-)(\d{1,10})")
_ID_NAME = re.compile(r"vm-([0-9a-f]{16})")
_VMMS = OTHER_VMMS | {"qemu", "kvmscope-lab", OTHER}
_MANAGERS = frozenset(PARTIES) | {"jailer", "krunvm"}
_RELEASE_WORDS = frozenset(
    """
    amd64 arm64 x86 64 generic lowlatency cloud rt azure aws gcp oracle kvm pve el fc deb debian ubuntu amzn uek lts
    zen arch default preempt rc bpo edge hwe raspi hardened
    """.split()
)
_TOKENS = re.compile(r"[^\W_]+")
_PARAMETER = re.compile(r"[YN]|-?\d{1,12}|on|off|auto|force|never|always|cond|full")
_SHORT_WORD = re.compile(r"[\w() @.,:/+-]{0,80}")


class SceneRedaction:
    """Redacts the scenes of one host; equal values become equal pseudonyms."""

    def __init__(self, scenes: Iterable[Scene]) -> None:
        """``scenes``: all scenes to redact; the terms of free text are taken from them."""
        scenes = tuple(scenes)
        schemas = {block.schema for scene in scenes for block in scene.sample.blocks if _is_kernels(block.schema)}
        terms = {stat.name for schema in schemas for stat in schema.descriptors} | kernel_providers()
        self.names = Pseudonyms(terms)
        self._commands = CommandRedaction(self.names)
        self._schemas: dict[Schema, Schema] = {}
        self._shown: dict[str, str] = {}
        for scene in scenes:  # a name in any scene is replaced in all texts
            self.machine(scene.machine)
            self._identities(scene)

    def scene(self, scene: Scene) -> Scene:
        """The scene, redacted."""
        return Scene(
            self._sample(scene.sample),
            self._identities(scene),
            self.machine(scene.machine),
            MappingProxyType({source: self.names.text(why) for source, why in scene.why_not.items()}),
        )

    # --- the host -----------------------------------------------------------------------------------------------------

    def machine(self, machine: Machine) -> Machine:
        """The facts of the host, redacted."""
        return Machine(
            hostname=self._fact(machine.hostname, self.names.name(machine.hostname.value or "")),
            kernel_release=self._fact(machine.kernel_release, self.release(machine.kernel_release.value or "")),
            architecture=self._plain(machine.architecture),
            kvm=self._fact(machine.kvm, self._module(machine.kvm.value)),
            kvm_vendor=self._fact(machine.kvm_vendor, self._module(machine.kvm_vendor.value)),
            cpu=self._fact(machine.cpu, self._cpu(machine.cpu.value)),
            lockdown=self._plain(machine.lockdown),
            clocksource=self._clocksource(machine.clocksource),
        )

    def _fact(self, fact: Fact[T], value: T | None) -> Fact[T]:
        reason = None if fact.reason is None else self.names.text(fact.reason)
        return Fact(None if fact.value is None else value, reason)

    def _clocksource(self, fact: Fact[str]) -> Fact[str]:
        value = fact.value or ""
        return self._fact(fact, value if re.fullmatch(r"[a-z0-9_-]{1,32}", value) else self.names.name(value))

    def _plain(self, fact: Fact[str]) -> Fact[str]:
        value = fact.value or ""
        return self._fact(fact, value if re.fullmatch(r"[a-z0-9_]{0,16}", value) else self.names.name(value))

    def _module(self, module: KernelModule | None) -> KernelModule | None:
        if module is None:
            return None
        parameters = {name: self._fact(fact, self._parameter(fact.value)) for name, fact in module.parameters.items()}
        return replace(module, parameters=MappingProxyType(parameters))

    def _parameter(self, value: str | None) -> str | None:
        return value if value is None or _PARAMETER.fullmatch(value) else self.names.name(value)

    def _cpu(self, cpu: CpuInfo | None) -> CpuInfo | None:
        if cpu is None or (cpu.model is None or _SHORT_WORD.fullmatch(cpu.model)):
            return cpu
        return replace(cpu, model=self.names.name(cpu.model))

    def release(self, release: str) -> str:
        """The release of the kernel; numbers and the words of distributions stay."""

        def known(word: str) -> bool:
            letters = word.rstrip("0123456789").lstrip("0123456789").lower()
            return not letters or letters in _RELEASE_WORDS or word.lower() in _RELEASE_WORDS

        return _TOKENS.sub(lambda match: match[0] if known(match[0]) else self.names.name(match[0]), release)

    def note(self, note: EpisodeNote) -> EpisodeNote:
        """The note of an episode, redacted."""
        return replace(
            note,
            findings=tuple(
                replace(found, vm=self._vm_hex(found.vm), name=self._any_name(found.name)) for found in note.findings
            ),
            groups=tuple(replace(group, why_not=self.names.text(group.why_not)) for group in note.groups),
        )

    def _vm_hex(self, vm: str) -> str:
        try:
            return str(VmId(self.names.word64(int(vm, 16))))
        except ValueError:
            return self.names.name(vm)

    def _any_name(self, name: str) -> str:
        """The displayed name of a VM, which may have ended before the redacted scenes."""
        return self._shown.get(name) or self.label(name)

    # --- the VMs ------------------------------------------------------------------------------------------------------

    def _identities(self, scene: Scene) -> tuple[VmIdentity, ...]:
        redacted = tuple(self._identity(identity) for identity in scene.identities)
        self._shown.update((before.name, after.name) for before, after in zip(scene.identities, redacted, strict=True))
        return redacted

    def _identity(self, identity: VmIdentity) -> VmIdentity:
        process = None if identity.process is None else self._process(identity.process)
        return VmIdentity(self._vm_name(identity), process, self._commands.xml(identity.domain_xml), identity.silent_s)

    def _vm_name(self, identity: VmIdentity) -> str:
        """The displayed name: its own, or made from a pid or an id; equal names stay numbered."""
        name, number = identity.name, ""
        if numbered := _NUMBERED_NAME.fullmatch(name):
            name, number = numbered[1], numbered[2]
        process = identity.process
        if process is not None and name == f"{process.command}-{process.pid}":
            return f"{self._commands.program(process.command)}-{self.names.number(process.pid)}{number}"
        return self.label(name) + number

    def label(self, name: str) -> str:
        """A name or its substitute: ``kvm-PID``, ``pid-PID``, ``vm-ID``."""
        if of_pid := _PID_NAME.fullmatch(name):
            return f"{of_pid[1]}{self.names.number(int(of_pid[2]))}"
        if of_id := _ID_NAME.fullmatch(name):
            return f"vm-{VmId(self.names.word64(int(of_id[1], 16)))}"
        return self.names.name(name)

    def _process(self, process: VmmProcess) -> VmmProcess:
        return VmmProcess(
            pid=self.names.number(process.pid),
            vmm=process.vmm if process.vmm in _VMMS else self.names.name(process.vmm),
            name=None if process.name is None else self.names.name(process.name),
            uuid=None if process.uuid is None else self.names.identifier(process.uuid),
            managed_by=self._manager(process.managed_by),
            command=self._commands.program(process.command),
            argv=self._commands.argv(process.argv),
            start_ticks=self.names.number(process.start_ticks),
            known_as=tuple((word, self.names.identifier(value)) for word, value in process.known_as),
            clue=None if process.clue is None else self.names.identifier(process.clue),
        )

    def _manager(self, manager: str | None) -> str | None:
        return manager if manager is None or manager in _MANAGERS else self.names.name(manager)

    # --- the sample ---------------------------------------------------------------------------------------------------

    def _sample(self, sample: Sample) -> Sample:
        vms = sample.vms
        return replace(
            sample,
            vms=Vms(
                np.array([self.names.word64(int(vm)) for vm in vms.id], dtype=np.uint64),
                self._numbers(vms.pid),
                vms.created_ns,
                tuple(map(self.label, vms.label)),
            ),
            vcpus=replace(sample.vcpus, tid=self._numbers(sample.vcpus.tid)),
            blocks=tuple(Block(self._schema(block.schema), block.values, block.rows) for block in sample.blocks),
            gaps=tuple(map(self._gap, sample.gaps)),
            origin=None if sample.origin is None else self._origin(sample.origin),
        )

    def _numbers(self, column: I64Array) -> I64Array:
        found = [NOT_KNOWN if number == NOT_KNOWN else self.names.number(int(number)) for number in column]
        return np.array(found, dtype=np.int64)

    def _origin(self, origin: Origin) -> Origin:
        return Origin(self.names.hex_id(origin.host), self.names.hex_id(origin.boot))

    def _gap(self, gap: Gap) -> Gap:
        vm = None if gap.vm is None else VmId(self.names.word64(gap.vm.value))
        is_kernels = gap.provider is None or gap.provider in kernel_providers()
        provider, stat = (gap.provider, gap.stat) if is_kernels else (self._maybe(gap.provider), self._maybe(gap.stat))
        return replace(gap, reason=self.names.text(gap.reason), vm=vm, provider=provider, stat=stat)

    def _maybe(self, name: str | None) -> str | None:
        return None if name is None else self.names.name(name)

    def _schema(self, schema: Schema) -> Schema:
        """A schema, redacted. Stats of the kernel keep their names; published stats do not, as their authors chose the
        names."""
        if _is_kernels(schema):
            return schema
        if schema not in self._schemas:
            stats = tuple(replace(stat, name=self.names.name(stat.name)) for stat in schema.descriptors)
            self._schemas[schema] = Schema(self.names.name(schema.provider), schema.scope, stats, schema.data_size)
        return self._schemas[schema]


def _is_kernels(schema: Schema) -> bool:
    return schema.provider in kernel_providers()
