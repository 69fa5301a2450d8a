"""Loads the iterator and leaves it pinned, or takes it away. Root only; what is read later needs no root."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ...codec.snapshot import MAX_SLOTS
from ...errors import PermissionNeeded, UsageError
from ..kvm_schema import read_kvm_schemas
from . import pins
from .arena import Layout
from .source import load_program, read_reasons, runs_on_svm

DEFAULT_VMS, DEFAULT_VCPUS, DEFAULT_SLOTS = 1024, 8192, 2


@dataclass(frozen=True, slots=True)
class Attached:
    """What stands after ``attach``: ``kept`` if it was there already, ``memory_bytes`` held in the kernel for it."""

    directory: Path
    kept: bool
    memory_bytes: int


def attach(
    *,
    gid: int,
    mode: int = 0o440,
    root: Path = pins.ROOT,
    vms: int = DEFAULT_VMS,
    vcpus: int = DEFAULT_VCPUS,
    slots: int = DEFAULT_SLOTS,
) -> Attached:
    """Pin the iterator under ``root`` so that group ``gid`` can read with file mode ``mode``.

    Idempotent: what is already attached is kept if it is of this version, belongs to the kvm that is loaded and has
    room enough; access is set in any case. Raises UsageError, PermissionNeeded or Unavailable.
    """
    _need_root()
    if not 1 <= slots <= MAX_SLOTS:
        raise UsageError(f"there can be 1 to {MAX_SLOTS} slots, not {slots}")
    schemas = read_kvm_schemas()
    sizes = schemas.vm.data_size, schemas.vcpu.data_size
    layout = Layout(*sizes, vm_room=vms, vcpu_room=vcpus, slots=slots, is_svm=runs_on_svm(), reads_apic=True)
    directory = pins.directory_in(root)
    there = pins.attached_layout(root)
    if there is not None and there.serves(layout):
        pins.set_access(directory, gid=gid, mode=mode)
        return Attached(directory, kept=True, memory_bytes=there.memory_bytes)
    bpf = load_program(layout)
    try:
        link = bpf.attach_map_iterator("read_host", "control")
        meta = pins.Meta(layout, schemas, read_reasons(), pins.kvm_inode(), pins.running_kernel())
        pins.pin_program(bpf, link, meta, root=root, gid=gid, mode=mode)
    finally:
        bpf.close()
    return Attached(directory, kept=False, memory_bytes=layout.memory_bytes)


def detach(root: Path = pins.ROOT) -> bool:
    """Take away whatever any version attached under ``root``; False if there was nothing. Raises PermissionNeeded."""
    _need_root()
    return pins.remove(root)


def _need_root() -> None:
    if os.geteuid() != 0:
        raise PermissionNeeded("attaching and detaching need root", remedy="sudo kvmscope attach")
