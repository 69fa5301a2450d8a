"""Groups that stay attached for unprivileged readers, pinned beside the iterator (see ``pins``).

    /run/kvmscope/groups/NAME/
        who data state      the arrays, frozen
        meta                JSON: the shape of the group, and which kvm it belongs to
        link-PROGRAM        root's alone: while they exist, events are counted

Readers map the arrays and join them to the iterator's sample by the ids of VMs, which are the same in all programs.
"""

from __future__ import annotations

import base64
import errno
import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ....codec import statsfile
from ....errors import FormatError, SourceError, Unavailable, UsageError
from ....linux import procfs
from ....sample import Gap, Sample
from ....schema import Schema, Scope
from .. import libbpf, pins
from ..place import explain
from ..run_errors import Replaced
from . import loaded, plans_by_name
from .base import Cost, GroupShape, Part, Plan
from .kernel import KernelFacts
from .slots import ARRAYS, Slots

_FORMAT = "kvmscope-group/3"
_META, _LINK = "meta", "link-"
_LARGEST = 1 << 32


@dataclass(frozen=True)
class GroupMeta:
    """The data that a reader needs about a pinned group, and that shows whether the group is still up to date."""

    shape: GroupShape
    object: str
    kvm_inode: int

    def encode(self) -> bytes:
        shape = self.shape
        file = statsfile.build(shape.name, shape.schema.descriptors)
        described = statsfile.encode(file)[: file.description.data_offset]
        text = {
            "format": _FORMAT,
            "name": shape.name,
            "scope": shape.schema.scope.value,
            "slots": shape.slots,
            "data_size": shape.schema.data_size,
            "silent": shape.silent,
            "missing": [list(pair) for pair in shape.missing],
            "while_logged": shape.while_logged,
            "object": self.object,
            "kvm_inode": self.kvm_inode,
            "schema": base64.b64encode(described).decode(),
        }
        return json.dumps(text).encode()

    @classmethod
    def parse(cls, data: bytes) -> GroupMeta:
        """Raises FormatError on anything that ``encode`` of this version does not produce."""
        try:
            text: dict[str, Any] = json.loads(data.rstrip(b"\0"))
            if text["format"] != _FORMAT:
                raise FormatError("pinned group", offset=0, expected=_FORMAT, got=str(text["format"]))
            description = statsfile.parse_description(base64.b64decode(text["schema"]))
            return cls(
                GroupShape(
                    name=str(text["name"]),
                    schema=description.schema(
                        str(text["name"]), Scope(text["scope"]), data_size=_size(text["data_size"])
                    ),
                    slots=_size(text["slots"]),
                    silent=str(text["silent"]),
                    missing=tuple((str(stat), str(reason)) for stat, reason in text["missing"]),
                    while_logged=_truth(text["while_logged"]),
                ),
                object=str(text["object"]),
                kvm_inode=int(text["kvm_inode"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise FormatError("pinned group", offset=0, expected=_FORMAT, got=repr(error)) from error


def _size(number: object) -> int:
    if not isinstance(number, int) or not 0 <= number < _LARGEST:
        raise ValueError("a size must be an integer from 0 to 2^32 - 1")
    return number


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("expected true or false")
    return value


def directory_in(root: Path) -> Path:
    """The directory in which groups are pinned."""
    return root / "groups"


def pinned_names(root: Path) -> tuple[str, ...]:
    """The pinned groups, sorted by name; empty if this user may not list them."""
    try:
        return tuple(sorted(path.name for path in directory_in(root).iterdir() if not path.name.startswith(pins.NEW)))
    except OSError:
        return ()


class PinnedGroup:
    """A pinned group, opened for reading."""

    def __init__(self, root: Path, name: str) -> None:
        """Raises Unavailable if it is not pinned or belongs to another kvm, PermissionNeeded, FormatError."""
        self.name = name
        self._place = directory_in(root) / name
        meta, self._inode, fds = _open(self._place, name)
        try:
            if meta.kvm_inode != pins.kvm_inode():
                raise Unavailable("the kvm module was reloaded since `kvmscope attach`", remedy=_remedy(name))
            self._slots = Slots(meta.shape, fds)
        finally:
            for fd in fds.values():
                os.close(fd)

    @property
    def schemas(self) -> tuple[Schema, ...]:
        return (self._slots.shape.schema,)

    @property
    def cost(self) -> Cost:
        return self._slots.shape.cost

    def read(self, sample: Sample) -> Part:
        """Raises Replaced if another program was attached in its place; if it was detached, there is a gap."""
        try:
            inode = (self._place / _META).stat().st_ino
        except OSError:
            return Part((), (Gap(f"group {self.name} was detached", provider=self.name),))
        if inode != self._inode:
            raise Replaced(f"group {self.name} was attached again")
        return self._slots.read(sample)

    def close(self) -> None:
        self._slots.close()


def _open(place: Path, name: str) -> tuple[GroupMeta, int, Mapping[str, int]]:
    """The metadata of the group pinned at ``place``, the inode that identifies it, and the fds of its arrays."""
    fds: dict[str, int] = {}
    try:
        held = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            here = Path(procfs.fd_path(held))  # so that all are of one program
            for array in ARRAYS:
                fds[array] = libbpf.open_pinned_map(here / array)
            inode = (here / _META).stat().st_ino
            meta = _read_meta(here / _META)
        finally:
            os.close(held)
    except BaseException as error:
        for fd in fds.values():
            os.close(fd)
        if not isinstance(error, OSError):
            raise
        if error.errno == errno.ENOENT:
            raise Unavailable(
                f"group {name} is not pinned", remedy=_remedy(name), path=str(place), errno=error.errno
            ) from error
        raise explain(error, place) from error
    return meta, inode, fds


def _read_meta(path: Path) -> GroupMeta:
    fd = libbpf.open_pinned_map(path)
    try:
        with mmap.mmap(fd, pins.META_SIZE, prot=mmap.PROT_READ) as mapped:
            return GroupMeta.parse(bytes(mapped))
    finally:
        os.close(fd)


def _remedy(name: str) -> str:
    return f"as root: kvmscope attach --count {name}"


# -- root only -------------------------------------------------------------------------------------------------------


def plans_of(names: tuple[str, ...]) -> tuple[Plan, ...]:
    """The plans of groups. Raises UsageError if there is no such group, Unavailable if this kernel cannot count it."""
    for name in names:
        if name not in plans_by_name():
            raise UsageError(f"there is no group {name!r} to pin; there are {', '.join(plans_by_name())}")
    kernel = KernelFacts()
    return tuple(plans_by_name()[name](kernel) for name in names)


def pin_group(root: Path, plan: Plan, *, vms: int, vcpus: int, gid: int, mode: int) -> None:
    """Attach and pin a group, with room for twice as many subjects as there are.

    A group already pinned is kept, with its counts, if it is the same and has room for the present subjects.
    """
    place = directory_in(root) / plan.name
    subjects = vms if plan.schema.scope is Scope.VM else vcpus
    loaded.first_that_loads(plan, lambda each: _keep_or_pin(place, each, subjects))
    set_access(place, gid=gid, mode=mode)


def _keep_or_pin(place: Path, plan: Plan, subjects: int) -> None:
    wanted = GroupMeta(
        plan.shape(subjects),
        pins.digest(loaded.object_data(plan.name)),
        pins.kvm_inode(),
    )
    if not _serves(_pinned_meta(place, plan.name), wanted, subjects):
        _pin(place, plan, wanted)


def _serves(there: GroupMeta | None, wanted: GroupMeta, subjects: int) -> bool:
    if there is None or there.shape.slots < subjects:
        return False
    shape = replace(wanted.shape, slots=there.shape.slots)
    return there == GroupMeta(shape, wanted.object, there.kvm_inode)


def _pinned_meta(place: Path, name: str) -> GroupMeta | None:
    try:
        meta, _, fds = _open(place, name)
    except (SourceError, FormatError):
        return None
    for fd in fds.values():
        os.close(fd)
    return meta


def _pin(place: Path, plan: Plan, meta: GroupMeta) -> None:
    new = place.with_name(pins.NEW + place.name)
    pins.remove_directory(new)
    place.parent.mkdir(mode=0o755, exist_ok=True)
    bpf = loaded.load(plan, meta.shape)
    try:
        new.mkdir(mode=0o700)
        with mmap.mmap(bpf.map_fd(_META), pins.META_SIZE) as mapped:
            encoded = meta.encode()
            mapped[: len(encoded)] = encoded
        for name in (*ARRAYS, _META):
            libbpf.freeze(bpf.map_fd(name))
            libbpf.pin(bpf.map_fd(name), new / name)
        for program in plan.programs:
            libbpf.pin(bpf.attach(program), new / f"{_LINK}{program}")
        pins.remove_directory(place)
        new.rename(place)
    finally:
        bpf.close()


def set_access(place: Path, *, gid: int, mode: int) -> None:
    """Let ``gid`` read the arrays of one group; the links stay root's."""
    pins.set_access(place, gid=gid, mode=mode, private=_LINK)


def unpin(root: Path, name: str) -> bool:
    """Detach one group and free what it holds; False if it was not pinned."""
    place = directory_in(root) / name
    if not place.is_dir():
        return False
    pins.remove_directory(place)
    return True


def memory_bytes(root: Path) -> int:
    """The kernel memory that the pinned groups hold."""
    metas = (_pinned_meta(directory_in(root) / name, name) for name in pinned_names(root))
    return sum(meta.shape.cost.memory_bytes for meta in metas if meta)
