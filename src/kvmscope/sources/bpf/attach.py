"""Loads and pins the iterator, or removes it. Root only; later reads need no root."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...codec.snapshot import MAX_SLOTS
from ...errors import PermissionNeeded, UsageError
from ..kvm_schema import read_kvm_schemas
from . import pins
from .arena import Arena
from .groups import pinned, plans_by_name
from .layout import Layout
from .loading import load_program, object_data, runs_on_svm
from .place import ROOT, directory_in
from .source import read_reasons

DEFAULT_VMS, DEFAULT_VCPUS, DEFAULT_SLOTS, DEFAULT_MODE = 1024, 8192, 2, 0o440
_ROOT_SLOTS = 1
_MOST_SLOTS = MAX_SLOTS - _ROOT_SLOTS


@dataclass(frozen=True, slots=True)
class Attached:
    """The result of ``attach``: ``kept`` if the iterator was attached already, the ``groups`` pinned beside it, and the
    kernel memory of all, ``memory_bytes``."""

    directory: Path
    kept: bool
    memory_bytes: int
    groups: tuple[str, ...] = ()


def attach(
    *,
    gid: int | None = None,
    mode: int | None = None,
    root: Path = ROOT,
    vms: int | None = None,
    vcpus: int | None = None,
    slots: int | None = None,
    groups: Sequence[str] = (),
) -> Attached:
    """Pin the iterator under ``root`` so that group ``gid`` can read with file mode ``mode``.

    Arguments that are not given keep their present values; if nothing is attached, they are group 0, DEFAULT_MODE,
    DEFAULT_VMS and so on. ``slots``: the number of concurrent readers; root has one more for itself. Idempotent: an
    attached iterator is kept if it is the same program, belongs to the loaded kvm module, has enough room, and no user
    loses access; access is set in any case. ``groups``: groups of statistics (see ``groups.plans_by_name``) to attach
    in addition to those already attached. One attach or detach runs at a time; others wait. Raises UsageError,
    PermissionNeeded, Unavailable or SourceError.
    """
    _need_root()
    if slots is not None and not 1 <= slots <= _MOST_SLOTS:
        raise UsageError(f"slots: expected 1 to {_MOST_SLOTS}, found {slots}")
    with pins.locked(root) as place:
        there, before = pins.attached_meta(place), access(place)
        room = there.layout if there else None
        return _attach(
            _Access(*before if before else (0, DEFAULT_MODE)).changed(gid, mode),
            vms or (room.vm_room if room else DEFAULT_VMS),
            vcpus or (room.vcpu_room if room else DEFAULT_VCPUS),
            slots or (room.slots - room.root_slots if room else DEFAULT_SLOTS),
            root=place,
            there=there,
            before=_Access(*before) if before else None,
            groups=groups,
        )


@dataclass(frozen=True, slots=True)
class _Access:
    gid: int
    mode: int

    def changed(self, gid: int | None, mode: int | None) -> _Access:
        return _Access(self.gid if gid is None else gid, self.mode if mode is None else mode)

    def covers(self, other: _Access) -> bool:
        """Whether all users who may read by ``other`` may read by this."""
        if other.mode & 0o004:
            return bool(self.mode & 0o004)
        if other.mode & 0o040 and other.gid:
            return bool(self.mode & 0o004) or (bool(self.mode & 0o040) and self.gid == other.gid)
        return True


def _attach(
    access: _Access,
    vms: int,
    vcpus: int,
    slots: int,
    *,
    root: Path,
    there: pins.Meta | None,
    before: _Access | None,
    groups: Sequence[str],
) -> Attached:
    gid, mode = access.gid, access.mode
    pinned_before = filter(plans_by_name().__contains__, pinned.pinned_names(root))
    plans = pinned.plans_of(tuple(dict.fromkeys((*pinned_before, *groups))))
    schemas = read_kvm_schemas()
    sizes = schemas.vm.data_size, schemas.vcpu.data_size
    layout = Layout(
        *sizes,
        vm_room=vms,
        vcpu_room=vcpus,
        slots=slots + _ROOT_SLOTS,
        root_slots=_ROOT_SLOTS,
        is_svm=runs_on_svm(),
        reads_apic=True,
    )
    wanted = pins.Meta(
        layout,
        schemas,
        read_reasons(),
        pins.kvm_inode(),
        pins.running_kernel(),
        pins.digest(object_data()),
    )
    # Processes that have mapped the arrays keep them, so narrower access needs new arrays.
    is_revoked = before is not None and not access.covers(before)
    kept = there is not None and there.serves(wanted) and not is_revoked
    if is_revoked:
        for plan in plans:
            pinned.unpin(root, plan.name)
    if kept:
        pins.set_access(directory_in(root), gid=gid, mode=mode)
    else:
        _attach_iterator(wanted, root=root, gid=gid, mode=mode)
    if plans:
        count_vms, count_vcpus = _subjects(root)
        for plan in plans:
            pinned.pin_group(root, plan, vms=count_vms, vcpus=count_vcpus, gid=gid, mode=mode)
    memory = (there.layout if there and kept else layout).memory_bytes + pinned.memory_bytes(root)
    return Attached(directory_in(root), kept, memory, pinned.pinned_names(root))


def access(root: Path = ROOT) -> tuple[int, int] | None:
    """The group id and mode of the attached files; None if nothing is attached."""
    try:
        status = (directory_in(root) / pins.ITERATOR).stat()
    except OSError:
        return None
    return status.st_gid, stat.S_IMODE(status.st_mode)


def detach(root: Path = ROOT, *, groups: Sequence[str] = ()) -> bool:
    """Remove everything that any version attached under ``root``, or only these ``groups``; False if there was nothing.

    Raises PermissionNeeded.
    """
    _need_root()
    with pins.locked(root) as place:
        if groups:
            return any(list(map(partial(pinned.unpin, place), groups)))
        return pins.remove(place)


def _attach_iterator(meta: pins.Meta, *, root: Path, gid: int, mode: int) -> None:
    bpf = load_program(meta.layout)
    try:
        link = bpf.attach_map_iterator("read_host", "control")
        pins.pin_program(bpf, link, meta, root=root, gid=gid, mode=mode)
    finally:
        bpf.close()


def _subjects(root: Path) -> tuple[int, int]:
    """The present number of VMs and vCPUs."""
    opened = pins.open_pinned(root)
    try:
        arena = Arena(opened.meta.layout, opened.fds, opened.open_run)
    finally:
        opened.close()
    try:
        header = arena.header()
    finally:
        arena.close()
    return header.vms, header.vcpus


def _need_root() -> None:
    if os.geteuid() != 0:
        raise PermissionNeeded("attaching and detaching need root", remedy="run the same command as root, by sudo")
