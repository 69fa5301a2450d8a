"""Pins the iterator and groups of statistics for readers without root."""

from __future__ import annotations

from ..linux.usergroups import find_group, group_of
from ..sources.bpf import attach
from ..view.attached import attached_lines


def attach_for(
    readers: str | None,
    mode: int | None,
    *,
    groups: tuple[str, ...],
    vms: int | None = None,
    vcpus: int | None = None,
    slots: int | None = None,
) -> list[str]:
    """Attach for a group of users, or change what is attached. Returns notes for the user."""
    before = attach.access()
    entry = group_of(before[0]) if readers is None and before else find_group(readers)
    done = attach.attach(gid=entry.gr_gid, mode=mode, groups=groups, vms=vms, vcpus=vcpus, slots=slots)
    mode = mode or (before[1] if before else attach.DEFAULT_MODE)
    return attached_lines(
        str(done.directory), entry, mode, groups=done.groups, memory_bytes=done.memory_bytes, is_new=not done.kept
    )
