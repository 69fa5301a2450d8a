"""Statistics fds that this process holds, each with its subject and its schema.

Not here: where they come from (``vmms``) and when they are read (``statsfd``).
Rule: a held stats fd keeps its VM in the kernel alive, so every ``HeldFile`` has one owner that closes it.
Source: virt/kvm/binary_stats.c, Linux 5.14 to 7.3: pread alone repositions, and everything but the data is constant.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..codec.statsfile import Description, parse
from ..errors import UsageError
from ..linux import procfs
from ..linux.files import PROC
from ..linux.kvmfiles import FdKind, parse_link
from ..linux.pidfd import compare_files
from ..schema import Schema, Scope

PROVIDER = "kvm"

_HEADER_SIZE = 24
_STEP = 1 << 15
"""Twice the size of the largest stats file of any kernel, that of a vCPU on s390."""


@dataclass(eq=False, slots=True)
class HeldFile:
    """One stats fd. ``label``: the id string in the file; ``theirs``: for a duplicate, the fd's number in the VMM."""

    fd: int
    scope: Scope
    vcpu_id: int | None
    label: str
    schema: Schema
    data_offset: int
    theirs: int | None = None

    @property
    def key(self) -> tuple[Scope, int | None]:
        """Its subject within the VM."""
        return self.scope, self.vcpu_id

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class StatsFiles:
    """Opens stats fds and finds their subject and schema; equal schemas are one object."""

    def __init__(self) -> None:
        self._schemas: dict[Schema, Schema] = {}
        self._known: dict[tuple[Scope, bytes], tuple[Description, Schema, bytes]] = {}

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """Every schema that a file has had so far."""
        return tuple(self._schemas)

    def take(self, fd: int, *, theirs: int | None = None) -> HeldFile:
        """Take ownership of ``fd``. UsageError if it is not a stats fd, FormatError if its bytes break the format."""
        try:
            return self._open(fd, theirs)
        except BaseException:
            os.close(fd)
            raise

    def take_all(self, fds: list[int]) -> list[HeldFile]:
        """Take ownership of all of them, or close all of them and raise as ``take``."""
        taken: list[HeldFile] = []
        for index, fd in enumerate(fds):
            try:
                taken.append(self.take(fd))
            except BaseException:
                for rest in fds[index + 1 :]:
                    os.close(rest)
                close_all(taken)
                raise
        return taken

    def _open(self, fd: int, theirs: int | None) -> HeldFile:
        link = str(_own_link(fd))
        what = parse_link(fd, link)
        if what is None or what.kind not in (FdKind.VM_STATS, FdKind.VCPU_STATS):
            raise UsageError(f"fd {fd} is {link!r}, not a statistics fd of KVM")
        scope = Scope.VM if what.kind is FdKind.VM_STATS else Scope.VCPU
        raw = _read_whole(fd)
        description, schema = self._describe(scope, raw)
        return HeldFile(
            fd=fd,
            scope=scope,
            vcpu_id=what.vcpu_id,
            label=_label(description, raw),
            schema=schema,
            data_offset=description.data_offset,
            theirs=theirs,
        )

    def _describe(self, scope: Scope, raw: bytes) -> tuple[Description, Schema]:
        """The description (its id may be another file's) and the schema.

        A file that differs from a known one only in id and data is not parsed again: that would take a hundred times
        as long as the rest of opening it.
        """
        key = scope, raw[:_HEADER_SIZE]
        known = self._known.get(key)
        if known is not None and known[2] == _constant_part(known[0], raw):
            return known[0], known[1]
        stats_file = parse(raw)
        new = stats_file.schema(PROVIDER, scope)
        schema = self._schemas.setdefault(new, new)
        self._known[key] = stats_file.description, schema, _constant_part(stats_file.description, raw)
        return stats_file.description, schema


def close_all(files: list[HeldFile]) -> None:
    for file in files:
        file.close()


def is_still_held(pid: int, file: HeldFile, *, proc_root: str = PROC) -> bool:
    """Whether process ``pid`` itself still holds the file that ``file`` was duplicated from."""
    if file.theirs is None:
        return False
    order = compare_files(pid, file.theirs, os.getpid(), file.fd)
    if order is not None:
        return order == 0
    # Closed; or a kernel without kcmp, where an equal file that took over the fd number goes unnoticed.
    try:
        return Path(f"{proc_root}/{pid}/fd/{file.theirs}").readlink() == _own_link(file.fd)
    except OSError:
        return False


def _read_whole(fd: int) -> bytes:
    whole = os.pread(fd, _STEP, 0)
    # Reads are short only at the end of the file.
    while len(whole) % _STEP == 0 and (more := os.pread(fd, _STEP, len(whole))):
        whole += more
    return whole


def _own_link(fd: int) -> Path:
    return Path(procfs.fd_path(fd)).readlink()


def _constant_part(description: Description, raw: bytes) -> bytes:
    """The file without its id and data; all of it if the data is not at the end, where all known kernels have it."""
    id_end = description.id_offset + description.name_size
    if description.data_offset < max(id_end, description.desc_offset):
        return raw
    return raw[: description.id_offset] + raw[id_end : description.data_offset] + len(raw).to_bytes(8, "little")


def _label(description: Description, raw: bytes) -> str:
    text = raw[description.id_offset : description.id_offset + description.name_size]
    return text.partition(b"\0")[0].decode("utf-8", "backslashreplace")
