"""The publishing processes that a source knows: their files, mapped and parsed, for as long as they live.

Not here: where the files come from (``published`` finds them, ``passed`` receives them), mapping them (``memfd``).
Rule: data that another process publishes is hostile until checked; the work that one process can cause is bounded.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ..catalog.groups import kernel_providers
from ..codec import publication, statsfile
from ..codec.publication import DATA_LIMIT, DESCRIPTOR_LIMIT, FILE_LIMIT, LIVE_AT, SIZE_AT, PublicationBlock
from ..errors import FormatError, Unavailable
from ..linux.memfd import Mapping, NotShared, open_shared, own_mount
from ..linux.pidfd import ExitWatch, open_pidfd
from ..linux.procfs import read_status, start_ticks
from ..sample import Gap, Sample, VmId
from ..schema import Schema
from .files import StatsOf, VcpuStats, VmStats, assemble
from .vm_ids import vm_id_in_process

BAD_LIMIT: Final = 32
"""The number of bad files of one process that are reported individually."""

_ROOT: Final = 0

# Limits on the work that one process can cause in a reader.
_SIZE_LIMIT: Final = 2**26
_DESCRIPTION_LIMIT: Final = 32

# For all processes: half of the mappings that Linux allows a process (vm.max_map_count), as malloc needs some too.
_MAPPING_LIMIT: Final = 2**15

_PROVIDER: Final = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_HEADER: Final = struct.Struct("=6I")
_SIZE: Final = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A published file that is mapped and parsed."""

    about: PublicationBlock
    schema: Schema
    data_offset: int
    mapping: Mapping

    @property
    def is_live(self) -> bool:
        return any(self.mapping.read(LIVE_AT, 8))

    @property
    def memory_bytes(self) -> int:
        """The address space that it takes in this process, in whole pages."""
        return -(-self.mapping.size // mmap.PAGESIZE) * mmap.PAGESIZE

    def read(self) -> StatsOf:
        return StatsOf(self.schema, self.mapping.read(self.data_offset, self.schema.data_size))


@dataclass(frozen=True, slots=True)
class _Vm:
    """The files of one VM."""

    id: VmId
    about: PublicationBlock
    files: list[PublishedFile]
    vcpus: dict[int, list[PublishedFile]]


@dataclass(slots=True)
class Publisher:
    """A process that has published files, by inode: those that are read, the bad ones, and the ignored ones.

    ``pidfd`` is None if none could be opened: ``proc`` is of another pid namespace, or this process has no fd left.
    ``descriptions``: the number of distinct descriptions of its files.
    """

    pid: int
    started: int
    pidfd: int | None
    files: dict[int, PublishedFile] = field(default_factory=dict)
    bad: dict[int, Gap] = field(default_factory=dict)
    ignored: set[int] = field(default_factory=set)
    memory_bytes: int = 0
    descriptions: int = 0
    vms: list[_Vm] | None = None

    def keep(self, inode: int, file: PublishedFile) -> None:
        self.files[inode] = file
        self.memory_bytes += file.memory_bytes
        self.vms = None

    def drop(self, inode: int) -> None:
        file = self.files.pop(inode)
        self.memory_bytes -= file.memory_bytes
        self.vms = None
        file.mapping.close()

    def ignore(self, inode: int, file: PublishedFile) -> None:
        file.mapping.close()
        self.ignored.add(inode)

    def drop_ended(self) -> None:
        for inode in [inode for inode, file in self.files.items() if not file.is_live]:
            self.drop(inode)
            self.ignored.add(inode)


class Publishers:
    """Publishing processes by pid. Must be closed.

    Raises Unavailable if there is no /proc, or no way to distinguish memfds (before Linux 5.14).
    """

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        try:
            self.mount = own_mount(proc_root=str(proc))
            self._pids_are_ours = (proc / "self").readlink() == Path(str(os.getpid()))
        except OSError as error:
            raise Unavailable(f"{proc} is not a proc file system: {error.strerror}", errno=error.errno) from error
        self.by_pid: dict[int, Publisher] = {}
        self._watch = ExitWatch()
        self._schemas: dict[tuple[object, ...], Schema] = {}
        self._closed = False

    @property
    def files(self) -> Iterator[PublishedFile]:
        return (file for process in self.by_pid.values() for file in process.files.values())

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas of the files, each once."""
        return tuple({id(file.schema): file.schema for file in self.files}.values())

    def refresh(self) -> None:
        """Forget processes and publications that have ended. Raises ValueError after ``close``."""
        if self._closed:
            raise ValueError("this source is closed")
        gone = set(self._watch.exited())
        for process in list(self.by_pid.values()):
            if process.pidfd in gone or (process.pidfd is None and self._is_another(process)):
                self.forget(process)
            else:
                process.drop_ended()

    def meet(self, pid: int) -> Publisher | None:
        """The process with this pid, added if it is new; None if it is gone."""
        pidfd = None
        if self._pids_are_ours:
            with suppress(OSError):
                pidfd = open_pidfd(pid)
        try:
            process = Publisher(pid, start_ticks(pid, proc_root=str(self._proc)), pidfd)
        except OSError:
            if pidfd is not None:
                os.close(pidfd)
            return None
        if pidfd is not None:
            self._watch.add(pidfd)
        self.by_pid[pid] = process
        return process

    def forget(self, process: Publisher) -> None:
        del self.by_pid[process.pid]
        for inode in list(process.files):
            process.drop(inode)
        if process.pidfd is not None:
            self._watch.remove(process.pidfd)
            os.close(process.pidfd)

    def compare(
        self, process: Publisher, found: dict[int, int], concerns: Callable[[PublishedFile, Publisher], bool]
    ) -> None:
        """Update a process to the memfds that it has, fd number by inode.

        ``concerns``: whether a file is to be read; others are only remembered.
        """
        for inode in process.files.keys() - found.keys():
            process.drop(inode)
        process.ignored &= found.keys()
        process.bad.clear()
        process.descriptions = len({id(file.schema) for file in process.files.values()})
        new = sorted(found.keys() - process.files.keys() - process.ignored, key=found.__getitem__)
        owners = self._owners(process) if new else frozenset()
        for inode in new:
            if len(process.bad) == BAD_LIMIT:
                reason = "its other files were not tried, because too many were invalid"
                process.bad[-1] = Gap(f"process {process.pid}: {reason}")
                break
            self._take(process, inode, found[inode], owners, concerns)
        if not process.files and not process.bad and not process.ignored:
            self.forget(process)

    def _take(
        self,
        process: Publisher,
        inode: int,
        number: int,
        owners: frozenset[int],
        concerns: Callable[[PublishedFile, Publisher], bool],
    ) -> None:
        try:
            mapping = open_shared(process.pid, number, mount=self.mount, limit=FILE_LIMIT, proc_root=str(self._proc))
            _check_owner(mapping, owners)
            file = self.understand(process, mapping)
        except (FileNotFoundError, ProcessLookupError):
            return
        except (FormatError, NotShared, OSError) as error:
            process.bad[inode] = Gap(f"process {process.pid}, fd {number}: {error}")
            return
        if file.about.live and concerns(file, process) and not self._is_of_another(inode):
            process.keep(inode, file)
        else:
            process.ignore(inode, file)

    def _is_of_another(self, inode: int) -> bool:
        """Whether a file was found in another process before, so this one only holds it."""
        return any(inode in other.files for other in self.by_pid.values())

    def _owners(self, process: Publisher) -> frozenset[int]:
        """The uids whose files it may publish: a process may have received files of others, such as over a socket."""
        status = read_status(process.pid, proc_root=str(self._proc))
        return frozenset() if status is None else frozenset({_ROOT, status.effective_uid})

    def understand(self, process: Publisher, mapping: Mapping) -> PublishedFile:
        """The parsed file, not added yet. FormatError if its bytes break the format, NotShared if it is rejected."""
        raw = mapping.read(0, mapping.size)
        about = publication.parse(raw)
        if not _PROVIDER.fullmatch(about.provider):
            raise NotShared(f"{about.provider!r} cannot be the name of a provider")
        if about.provider in kernel_providers() and not about.simulated:
            raise NotShared(f"it claims to be the kernel's provider {about.provider}")
        schema, data_offset = self._schema(process, about, raw)
        about = replace(about, vm=_label(about.vm), notes=())  # the schema has the notes, once
        file = PublishedFile(about, schema, data_offset, mapping)
        if process.memory_bytes + file.memory_bytes > _SIZE_LIMIT:
            raise NotShared(f"more than {_SIZE_LIMIT} bytes in one process")
        if sum(len(one.files) for one in self.by_pid.values()) >= _MAPPING_LIMIT:
            raise NotShared(f"more than {_MAPPING_LIMIT} files on this host")
        return file

    def forget_schemas(self) -> None:
        """Drop the schemas that no file uses any more."""
        used = {id(file.schema) for file in self.files}
        self._schemas = {key: value for key, value in self._schemas.items() if id(value) in used}

    def sample(self, *, source: str, taken_ns: int, monotonic_ns: int, gaps: Iterable[Gap] = ()) -> Sample:
        """A sample of the present data of all files; bad files are gaps, before ``gaps``."""
        bad = [gap for process in self.by_pid.values() for gap in process.bad.values()]
        return assemble(
            [_read_vm(process, vm) for process in self.by_pid.values() for vm in _vms_of(process)],
            source=source,
            taken_ns=taken_ns,
            monotonic_ns=monotonic_ns,
            simulated=any(file.about.simulated for file in self.files),
            gaps=[*bad, *gaps],
        )

    def close(self) -> None:
        """Idempotent."""
        if self._closed:
            return
        self._closed = True
        for process in list(self.by_pid.values()):
            self.forget(process)
        self._watch.close()

    def _is_another(self, process: Publisher) -> bool:
        try:
            return start_ticks(process.pid, proc_root=str(self._proc)) != process.started
        except OSError:
            return True

    def _schema(self, process: Publisher, about: PublicationBlock, raw: bytes) -> tuple[Schema, int]:
        """The schema of a file and the offset of its data; files with the same description share the schema object."""
        _, name_size, count, *offsets = _HEADER.unpack_from(raw)
        if count > DESCRIPTOR_LIMIT:
            raise NotShared(f"{count} stats, more than {DESCRIPTOR_LIMIT}")
        # Offsets follow the publication block, whose size depends only on the VM's name.
        (shift,) = _SIZE.unpack_from(raw, SIZE_AT)
        layout = tuple(offset - shift for offset in (*offsets, len(raw)))
        description = raw[offsets[1] : offsets[1] + count * (16 + name_size)]
        key = (about.provider, about.scope, name_size, layout, description, about.notes)
        if key not in self._schemas:
            if process.descriptions == _DESCRIPTION_LIMIT:
                raise NotShared(f"more than {_DESCRIPTION_LIMIT} different descriptions in one process")
            process.descriptions += 1
            self._schemas[key] = _parse_schema(about, raw)
        return self._schemas[key], offsets[2]


def _label(name: str) -> str:
    """A name as text that any output can encode: bytes that are not UTF-8 as ``\\xff``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _check_owner(mapping: Mapping, owners: frozenset[int]) -> None:
    if mapping.uid not in owners:
        raise NotShared(f"user {mapping.uid} made it, who is not the user of this process")


def _parse_schema(about: PublicationBlock, raw: bytes) -> Schema:
    parsed = statsfile.parse(raw)
    if parsed.description.byteorder != sys.byteorder:
        raise NotShared(f"its byte order is {parsed.description.byteorder} endian, not this host's")
    if len(parsed.data) > DATA_LIMIT:
        raise NotShared(f"{len(parsed.data)} bytes of data, more than {DATA_LIMIT}")
    odd = next((d.name for d in parsed.description.descriptors if not d.name.isprintable()), None)
    if odd is not None:
        raise NotShared(f"a stat is called {odd!r}, which cannot be printed")
    return replace(parsed.schema(about.provider, about.scope), notes=about.notes)


def _vms_of(process: Publisher) -> list[_Vm]:
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


def _read_vm(process: Publisher, vm: _Vm) -> VmStats:
    return VmStats(
        id=vm.id,
        stats=[file.read() for file in vm.files],
        vcpus=[VcpuStats(vcpu, [file.read() for file in files]) for vcpu, files in vm.vcpus.items()],
        pid=process.pid,
        created_ns=vm.about.created_ns,
        label=vm.about.vm,
    )
