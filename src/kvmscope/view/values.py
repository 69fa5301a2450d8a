"""Plain values that several views are made of.

A view is a frozen dataclass whose fields are the keys of its JSON, in their order. ``jsonout`` writes it and
``schemas`` describes it. To add a view:

1. Write a frozen dataclass with ``slots=True`` and ``kw_only=True`` in a module of this package, with a docstring that
   says what it is. Derive it from ``SceneAnswer`` if it describes a scene, else from ``Answer``. Its fields are the
   keys of the JSON, with the same spelling and nesting. A field has a description beside its type, unless the type is
   itself a view: ``interval_s: Annotated[float, "Seconds between the samples."]``.
2. Use only these types: ``None``, ``bool``, ``int``, ``float``, ``str``, ``Literal``, enums of ``str``, ``VmId`` (in
   JSON hexadecimal), ``Moment`` (in JSON RFC 3339), such dataclasses, ``Mapping[str, …]``, ``Sequence[…]``,
   ``tuple[…, ...]``, and unions of them. Unknown values are None, never 0 and never NaN. A key that JSON omits
   if it is None is ``Annotated[…, ABSENT_IF_NONE]``. A mapping whose keys appear beside those of the other fields is
   ``Annotated[…, INLINE]``. A field whose key is a keyword of Python ends in ``_``: ``class_``. Sequences of
   thousands of rows are ``Rows``, which makes a row on access.
3. Put the class under the name of its command into ``schemas.VIEWS`` and run ``python tools/schemas.py``, which writes
   docs/schemas/COMMAND.json. Tests compare that file with the class, and validate what the command writes.
4. Put its text into the same module or a ``…_text`` module beside it, as functions of the view and a width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Generic, Literal, TypedDict, TypeVar, overload

from ..sample import Sample, VmId
from ..scene import Scene
from .known_names import known_names, manager_of

FORMAT: Final = "kvmscope/1"


def key_of(field: str) -> str:
    """The JSON key of a field."""
    return field.removesuffix("_")


T_co = TypeVar("T_co", covariant=True)


class Absence:
    """The type of ``ABSENT_IF_NONE``."""


ABSENT_IF_NONE: Final = Absence()
"""Marker beside a field's type: JSON omits the key if the value is None."""


class Inlining:
    """The type of ``INLINE``."""


INLINE: Final = Inlining()
"""Marker beside the type of a mapping: JSON has the mapping's keys in place of the field."""


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A point in time: CLOCK_REALTIME in nanoseconds."""

    ns: int


class Rows(Sequence[T_co], Generic[T_co]):
    """A sequence whose rows are made on access, and not kept."""

    __slots__ = ("_count", "_make")

    def __init__(self, count: int, make: Callable[[int], T_co]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T_co]:
        return map(self._make, range(self._count))

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T_co]: ...
    def __getitem__(self, index: int | slice) -> T_co | Sequence[T_co]:
        chosen = range(self._count)[index]
        return self._make(chosen) if isinstance(chosen, int) else [self._make(row) for row in chosen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of a command."""

    format: Annotated[Literal["kvmscope/1"], "Name and version of this format."] = FORMAT


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """The source that was read."""

    name: Annotated[str, "Name of the source."]
    why_not: Annotated[Mapping[str, str], "For each better source, why it could not be used."]


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneAnswer(Answer):
    """The answer of a command about a scene; ``scene_head`` makes these fields."""

    time: Annotated[Moment, "When the values were read."]
    simulated: Annotated[bool, "Whether a simulated host stands behind the numbers, and not a kernel."]
    source: SourceChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class VmTitle:
    """The identity of a VM. Name, VMM and manager are untrusted text."""

    id: Annotated[VmId, "Identifies the VM as long as it lives."]
    name: Annotated[str, "Its name, made different from those of all other VMs of this answer."]
    plain_name: Annotated[str, "Its name as it was given, which other VMs may have too."]
    pid: Annotated[int | None, "Process id of its VMM."]
    vmm: Annotated[str | None, "The program that is its VMM."]
    uuid: Annotated[str | None, "Its UUID, where its VMM was given one."]
    managed_by: Annotated[str | None, "What manages it: libvirt, openstack, kubevirt, …"]
    known_as: Annotated[Mapping[str, str], "Its names in its managers, by keys such as libvirt.domain or proxmox.vmid."]
    clue: Annotated[str | None, "For a VM without a name: a disk, socket, kernel or path that distinguishes it."]
    created: Annotated[Moment | None, "When it was created."]
    silent_s: Annotated[
        float | None, "Seconds for which its VMM has not answered a read of its command line; null if it answers."
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class VcpuTitle:
    """The identity of a vCPU."""

    id: Annotated[int, "The id that the VMM gave it."]
    tid: Annotated[int | None, "Thread that last ran it."]


class SceneHead(TypedDict):
    """The first fields of a ``SceneAnswer``."""

    time: Moment
    simulated: bool
    source: SourceChoice


class VmHead(TypedDict):
    """The fields of a ``VmTitle``."""

    id: VmId
    name: str
    plain_name: str
    pid: int | None
    vmm: str | None
    uuid: str | None
    managed_by: str | None
    known_as: Mapping[str, str]
    clue: str | None
    created: Moment | None
    silent_s: float | None


class VcpuHead(TypedDict):
    """The fields of a ``VcpuTitle``."""

    id: int
    tid: int | None


def scene_head(scene: Scene) -> SceneHead:
    """The first fields of a ``SceneAnswer``: ``Overview(**scene_head(scene), vms=…)``."""
    sample = scene.sample
    source = SourceChoice(sample.source, scene.why_not)
    return {"time": Moment(sample.taken_ns), "simulated": sample.simulated, "source": source}


def vm_head(scene: Scene, row: int) -> VmHead:
    """The identity of the VM in a row of the scene's sample, as fields."""
    identity = scene.identities[row]
    created_ns = int(scene.sample.vms.created_ns[row])
    return {
        "id": scene.sample.vms.vm_id(row),
        "name": identity.name,
        "plain_name": plain_name(scene, row),
        "pid": scene.pid(row),
        "vmm": scene.vmm(row),
        "uuid": identity.process.uuid if identity.process else None,
        "managed_by": manager_of(identity),
        "known_as": known_names(identity),
        "clue": identity.process.clue if identity.process else None,
        "created": Moment(created_ns) if created_ns >= 0 else None,
        "silent_s": identity.silent_s,
    }


def plain_name(scene: Scene, row: int) -> str:
    """A VM's name by its source or its VMM, else one that kvmscope makes."""
    process = scene.identities[row].process
    return scene.sample.vms.given_label(row) or (process.name if process else None) or scene.identities[row].name


def vcpu_head(sample: Sample, row: int) -> VcpuHead:
    """The identity of the vCPU in a row of the sample, as fields."""
    tid = int(sample.vcpus.tid[row])
    return {"id": int(sample.vcpus.id[row]), "tid": tid if tid >= 0 else None}
