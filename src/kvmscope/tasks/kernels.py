"""The kernels whose stats can be compared: this one, a schema file, or one that the catalogue knows by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..catalog.kernels import architecture_of, find_kernel
from ..codec.schema_json import parse
from ..collect import Host
from ..errors import CatalogError, UsageError
from ..host.machine import read_machine
from ..scene import Scene
from ..schema import KernelTables, Table
from ..sources.kvm_schema import read_kvm_schemas
from ..store.replay import readable_moments
from ..store.snapshot import SnapshotFile, is_snapshot

HERE = "here"


def read_kernel(name: str) -> KernelTables:
    """The kernel called ``here``, in the file ``name`` (a schema file or a snapshot), or known as ``name``.

    Raises SourceError if this kernel cannot be read, CatalogError if the file is not a schema file, RecordingError if
    it is a damaged snapshot, UsageError if there is no such kernel.
    """
    if name == HERE:
        return read_here()
    if is_snapshot(name):
        return _of_snapshot(name)
    if "/" in name or name.endswith(".json") or Path(name).is_file():
        return parse(read_text(name), file=name)
    return find_kernel(name, _architecture() or "x86")


def _of_snapshot(name: str) -> KernelTables:
    snapshot = SnapshotFile(Path(name))
    moments = readable_moments(snapshot)
    if not moments:
        raise UsageError(f"the snapshot {name} has no scenes")
    return replace(kernel_of(snapshot.scene(moments[-1])), name=name)


def read_here() -> KernelTables:
    """KVM's own stats on this host, from the stats fds of a temporary VM."""
    schemas = read_kvm_schemas()
    return _describe_here([schemas.vm.table, schemas.vcpu.table], "from its own stats fds")


def read_from(host: Host) -> KernelTables:
    """The stats of this kernel and of all providers visible to an opened host."""
    # A source that opens files one by one knows their schemas only after a read.
    sample = host.read()
    tables = {(schema.provider, schema.scope): schema.table for schema in host.schemas}
    return _describe_here(tables.values(), f"by the source {host.source}" + (", simulated" if sample.simulated else ""))


def kernel_of(scene: Scene) -> KernelTables:
    """The stats of a scene, under the kernel that it names."""
    tables = {(block.schema.provider, block.schema.scope): block.schema.table for block in scene.sample.blocks}
    architecture = scene.machine.architecture.value
    return KernelTables(
        "recorded",
        scene.machine.kernel_release.value,
        None if architecture is None else architecture_of(architecture),
        True,
        f"by the source {scene.sample.source}" + (", simulated" if scene.sample.simulated else ""),
        tuple(tables.values()),
    )


def read_text(file: str) -> str:
    """The text of a user's file. Raises UsageError if it cannot be read, CatalogError if it is not text."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CatalogError("", file=file, line=1, expected="UTF-8", found=f"byte {error.start} of no text") from error


def _describe_here(tables: Iterable[Table], how: str) -> KernelTables:
    release = read_machine().kernel_release.value
    return KernelTables(HERE, release, _architecture(), True, how, tuple(tables))


def _architecture() -> str | None:
    machine = read_machine().architecture.value
    return None if machine is None else architecture_of(machine)
