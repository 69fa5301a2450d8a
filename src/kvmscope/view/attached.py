"""The message of ``attach``: the attached groups, and the users who may read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..host.text import printable
from ..units import format_bytes
from .text import columns


class UserGroup(Protocol):
    """A group of users, as ``grp.struct_group`` is."""

    @property
    def gr_name(self) -> str: ...
    @property
    def gr_gid(self) -> int: ...
    @property
    def gr_mem(self) -> Sequence[str]: ...


def attached_lines(
    directory: str, group: UserGroup, mode: int, *, groups: Sequence[str], memory_bytes: int, is_new: bool
) -> list[str]:
    """``mode``: permissions of the pinned files, which ``group`` owns. ``groups``: the opt-in groups that count."""
    return columns(
        [
            ("state", "attached" if is_new else "already attached; access updated"),
            ("where", directory),
            ("readers", _readers(group, mode)),
            *([("counting", ", ".join(groups))] if groups else []),
            ("memory", f"{format_bytes(memory_bytes)} of the kernel, until `kvmscope detach`"),
        ]
    )


def _readers(group: UserGroup, mode: int) -> str:
    if mode & 0o004:
        return "every user"
    if not mode & 0o040 or group.gr_gid == 0:
        return "root alone"
    members = ", ".join(map(printable, group.gr_mem)) or f"no user so far; usermod -aG {group.gr_name} USER adds one"
    return f"root and group {group.gr_name} ({members})"
