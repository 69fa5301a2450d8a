"""The source that reads what processes publish by ``kvmscope.publish``, or by any program that follows docs/publish.md.

It finds sealed memfds by their names in /proc/PID/fd of those processes that it may look into, maps them, and at each
read copies their data. Not here: the stats of the kernel (other sources), writing (``publish``).
Rule: what another process publishes is hostile until checked; a file that breaks a rule is a gap and nothing else.

Cost: a walk of /proc reads the link of every open file of every process, so walks are rationed to a share of the time;
between walks a read is one system call and a copy of each known file. A new file is seen at the next walk, the end of
a publication or of its process at once.
"""

from __future__ import annotations

import math
import os
import re
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..codec import publication, statsfile
from ..codec.publication import (
    DATA_LIMIT,
    DESCRIPTOR_LIMIT,
    FILE_LIMIT,
    KERNEL_PROVIDERS,
    LINK_PREFIXES,
    LIVE_AT,
    SIZE_AT,
    Publication,
)
from ..errors import FormatError, Unavailable
from ..sample import Gap, Sample, VmId
from ..schema import Schema
from .files import StatsOf, VcpuStats, VmStats, assemble
from .memfd import PROC, Mapping, NotShared, find, open_shared, own_mount
from .pidfd import ExitWatch, open_pidfd, start_ticks, vm_id_in_process

WALK_SHARE: Final = 0.05

# One process can make a reader do this much and no more.
_SIZE_LIMIT: Final = 2**26
_DESCRIPTION_LIMIT: Final = 32
_BAD_LIMIT: Final = 32

_PREFIXES: Final = tuple(LINK_PREFIXES.values())
_PROVIDER: Final = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_HEADER: Final = struct.Struct("=6I")
_SIZE: Final = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class _File:
    """A published file that is mapped and understood."""

    about: Publication
    schema: Schema
    data_offset: int
    mapping: Mapping

    @property
    def is_live(self) -> bool:
        return any(self.mapping.read(LIVE_AT, 8))

    def read(self) -> StatsOf:
        return StatsOf(self.schema, self.mapping.read(self.data_offset, self.schema.data_size))


@dataclass(frozen=True, slots=True)
class _Vm:
    """The files of one VM."""

    id: VmId
    about: Publication
    files: list[_File]
    vcpus: dict[int, list[_File]]


@dataclass(slots=True)
class _Process:
    """A process that has published files open, by inode: those that are read, the bad ones, and those of no concern.

    ``pidfd`` is None if there could be none: pids here are not those of ``proc``, or this process has no fd to spare.
    ``descriptions`` counts the different ones of its files.
    """

    pid: int
    started: int
    pidfd: int | None
    files: dict[int, _File] = field(default_factory=dict)
    bad: dict[int, Gap] = field(default_factory=dict)
    ignored: set[int] = field(default_factory=set)
    size_bytes: int = 0
    descriptions: int = 0
    vms: list[_Vm] | None = None

    def keep(self, inode: int, file: _File) -> None:
        self.files[inode] = file
        self.size_bytes += file.mapping.size
        self.vms = None

    def drop(self, inode: int) -> None:
        file = self.files.pop(inode)
        self.size_bytes -= file.mapping.size
        self.vms = None
        file.mapping.close()


class PublishedSource:
    """Reads published stats. ``proc``: where the proc file system is mounted.

    ``simulated``: None for everything that is published, else only what is (True) or is not (False) simulated.
    ``walk_share``: the largest share of the time that may go into looking for new files; ``inf``: look at each read.
    Raises Unavailable if there is no /proc, or no memfds that can be told apart (before Linux 5.14).
    """

    def __init__(self, *, proc: Path = PROC, simulated: bool | None = None, walk_share: float = WALK_SHARE) -> None:
        self._proc = proc
        self._simulated = simulated
        self._walk_share = walk_share
        try:
            self._mount = own_mount(proc)
            self._pids_are_ours = (proc / "self").readlink() == Path(str(os.getpid()))
        except OSError as error:
            raise Unavailable(f"{proc} is not a proc file system: {error.strerror}", errno=error.errno) from error
        self._watch = ExitWatch()
        self._processes: dict[int, _Process] = {}
        self._schemas: dict[tuple[object, ...], Schema] = {}
        self._hidden = 0
        self._next_walk = -math.inf
        self._closed = False

    @property
    def name(self) -> str:
        return "published"

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas of what is published at the moment."""
        self._refresh()
        return tuple({id(file.schema): file.schema for file in self._files()}.values())

    def read(self) -> Sample:
        """One sample of everything that is published; empty if nothing is. ValueError after ``close``."""
        self._refresh()
        taken_ns, monotonic_ns = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return assemble(
            [_read_vm(process, vm) for process in self._processes.values() for vm in _vms_of(process)],
            source=self.name,
            taken_ns=taken_ns,
            monotonic_ns=monotonic_ns,
            simulated=any(file.about.simulated for file in self._files()),
            gaps=self._gaps(),
        )

    def walk(self) -> None:
        """Looks for publications in every process, now."""
        began = time.monotonic()
        with os.scandir(self._proc) as entries:
            pids = sorted(int(entry.name) for entry in entries if entry.name.isdecimal())
        for pid in set(self._processes).difference(pids):
            self._forget(self._processes[pid])
        self._hidden = 0
        for pid in pids:
            self._walk_process(pid)
        self._forget_schemas()
        ended = time.monotonic()
        self._next_walk = ended + (ended - began) / self._walk_share

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for process in list(self._processes.values()):
            self._forget(process)
        self._watch.close()

    def __enter__(self) -> PublishedSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _files(self) -> Iterator[_File]:
        return (file for process in self._processes.values() for file in process.files.values())

    def _gaps(self) -> list[Gap]:
        gaps = [gap for process in self._processes.values() for gap in process.bad.values()]
        if self._hidden:
            processes = "process" if self._hidden == 1 else "processes"
            gaps.append(Gap(f"{self._hidden} {processes} may not be looked into by this user"))
        return gaps

    def _refresh(self) -> None:
        if self._closed:
            raise ValueError("this source is closed")
        gone = set(self._watch.exited())
        for process in list(self._processes.values()):
            if process.pidfd in gone or (process.pidfd is None and self._is_another(process)):
                self._forget(process)
            else:
                _drop_ended(process)
        if time.monotonic() >= self._next_walk:
            self.walk()

    def _is_another(self, process: _Process) -> bool:
        try:
            return start_ticks(process.pid, self._proc) != process.started
        except OSError:
            return True

    def _walk_process(self, pid: int) -> None:
        try:
            found = find(pid, _PREFIXES, mount=self._mount, proc=self._proc)
        except PermissionError:
            self._hidden += 1
            return
        except OSError:
            found = {}
        process = self._processes.get(pid)
        if process is None and found:
            process = self._meet(pid)
        if process is not None:
            self._compare(process, found)

    def _meet(self, pid: int) -> _Process | None:
        pidfd = None
        if self._pids_are_ours:
            with suppress(OSError):
                pidfd = open_pidfd(pid)
        try:
            process = _Process(pid, start_ticks(pid, self._proc), pidfd)
        except OSError:
            if pidfd is not None:
                os.close(pidfd)
            return None
        if pidfd is not None:
            self._watch.add(pidfd)
        self._processes[pid] = process
        return process

    def _forget(self, process: _Process) -> None:
        del self._processes[process.pid]
        for inode in list(process.files):
            process.drop(inode)
        if process.pidfd is not None:
            self._watch.remove(process.pidfd)
            os.close(process.pidfd)

    def _compare(self, process: _Process, found: dict[int, int]) -> None:
        """Brings what is known of a process in line with the memfds that it has: fd number by inode."""
        for inode in process.files.keys() - found.keys():
            process.drop(inode)
        process.ignored &= found.keys()
        process.bad.clear()
        process.descriptions = len({id(file.schema) for file in process.files.values()})
        for inode in sorted(found.keys() - process.files.keys() - process.ignored, key=found.__getitem__):
            if len(process.bad) == _BAD_LIMIT:
                process.bad[-1] = Gap(f"process {process.pid}: no more of its files were tried, so many are bad")
                break
            self._take(process, inode, found[inode])
        if not process.files and not process.bad and not process.ignored:
            self._forget(process)

    def _take(self, process: _Process, inode: int, number: int) -> None:
        try:
            mapping = open_shared(process.pid, number, mount=self._mount, limit=FILE_LIMIT, proc=self._proc)
            file = self._understand(process, mapping)
        except (FileNotFoundError, ProcessLookupError):
            return
        except (FormatError, NotShared, OSError) as error:
            process.bad[inode] = Gap(f"process {process.pid}, fd {number}: {error}")
            return
        if self._concerns_us(file, process, inode):
            process.keep(inode, file)
        else:
            file.mapping.close()
            process.ignored.add(inode)

    def _understand(self, process: _Process, mapping: Mapping) -> _File:
        raw = mapping.read(0, mapping.size)
        about = publication.parse(raw)
        if not _PROVIDER.fullmatch(about.provider):
            raise NotShared(f"{about.provider!r} cannot be the name of a provider")
        if about.provider in KERNEL_PROVIDERS and not about.simulated:
            raise NotShared(f"it claims to be the kernel's provider {about.provider}")
        if process.size_bytes + mapping.size > _SIZE_LIMIT:
            raise NotShared(f"more than {_SIZE_LIMIT} bytes in one process")
        schema, data_offset = self._schema(process, about, raw)
        return _File(about, schema, data_offset, mapping)

    def _schema(self, process: _Process, about: Publication, raw: bytes) -> tuple[Schema, int]:
        """The schema of a file and where its data begins; one object for all files that have the same description."""
        _, name_size, count, *offsets = _HEADER.unpack_from(raw)
        if count > DESCRIPTOR_LIMIT:
            raise NotShared(f"{count} stats, more than {DESCRIPTOR_LIMIT}")
        # All lies behind the publication block, whose size goes with the VM's name and makes no other difference.
        (shift,) = _SIZE.unpack_from(raw, SIZE_AT)
        layout = tuple(offset - shift for offset in (*offsets, len(raw)))
        description = raw[offsets[1] : offsets[1] + count * (16 + name_size)]
        key = (about.provider, about.scope, name_size, layout, description)
        if key not in self._schemas:
            if process.descriptions == _DESCRIPTION_LIMIT:
                raise NotShared(f"more than {_DESCRIPTION_LIMIT} different descriptions in one process")
            process.descriptions += 1
            self._schemas[key] = _parse_schema(about, raw)
        return self._schemas[key], offsets[2]

    def _forget_schemas(self) -> None:
        used = {id(file.schema) for file in self._files()}
        self._schemas = {key: value for key, value in self._schemas.items() if id(value) in used}

    def _concerns_us(self, file: _File, process: _Process, inode: int) -> bool:
        """False for what is over, what is not asked for, and what another process publishes and this one only holds."""
        about = file.about
        return (
            about.live
            and self._simulated in (None, about.simulated)
            and about.owner_start in (0, process.started)
            and not any(inode in other.files for other in self._processes.values())
        )


def _parse_schema(about: Publication, raw: bytes) -> Schema:
    parsed = statsfile.parse(raw)
    if parsed.description.byteorder != sys.byteorder:
        raise NotShared(f"its byte order is {parsed.description.byteorder} endian, not this host's")
    if len(parsed.data) > DATA_LIMIT:
        raise NotShared(f"{len(parsed.data)} bytes of data, more than {DATA_LIMIT}")
    odd = next((d.name for d in parsed.description.descriptors if not d.name.isprintable()), None)
    if odd is not None:
        raise NotShared(f"a stat is called {odd!r}, which cannot be printed")
    return parsed.schema(about.provider, about.scope)


def _drop_ended(process: _Process) -> None:
    for inode in [inode for inode, file in process.files.items() if not file.is_live]:
        process.drop(inode)
        process.ignored.add(inode)


def _vms_of(process: _Process) -> list[_Vm]:
    """The files of a process by VM and vCPU, kept until the files change."""
    if process.vms is None:
        vms: dict[int, _Vm] = {}
        for file in sorted(process.files.values(), key=lambda file: (file.about.vcpu or 0, file.about.provider)):
            about = file.about
            if about.key not in vms:
                vms[about.key] = _Vm(vm_id_in_process(process.pid, process.started, about.key), about, [], {})
            vm = vms[about.key]
            (vm.files if about.vcpu is None else vm.vcpus.setdefault(about.vcpu, [])).append(file)
        process.vms = sorted(vms.values(), key=lambda vm: vm.about.created_ns)
    return process.vms


def _read_vm(process: _Process, vm: _Vm) -> VmStats:
    return VmStats(
        id=vm.id,
        stats=[file.read() for file in vm.files],
        vcpus=[VcpuStats(vcpu, [file.read() for file in files]) for vcpu, files in vm.vcpus.items()],
        pid=process.pid,
        created_ns=vm.about.created_ns,
        label=vm.about.vm,
    )
