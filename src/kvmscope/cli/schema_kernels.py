"""The kernels that the commands of ``kvmscope schema`` work on: this one, a file, or one that is known by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..schema import KernelTables, Table

HERE = "here"


def read_kernel(name: str) -> KernelTables:
    """The kernel called ``here``, in the file ``name``, or known as ``name``.

    Raises SourceError if this kernel cannot be asked, CatalogError if the file is no schema file, UsageError if there
    is no such kernel.
    """
    if name == HERE:
        return read_here()
    if "/" in name or name.endswith(".json") or Path(name).is_file():
        from ..codec.schema_json import parse

        return parse(read_text(name), file=name)
    from ..catalog.kernels import find_kernel

    return find_kernel(name, _architecture() or "x86")


def read_here() -> KernelTables:
    """What KVM itself says here, by the stats fds of a VM made for the purpose."""
    from ..sources.kvm_schema import read_kvm_schemas

    schemas = read_kvm_schemas()
    return describe_here([schemas.vm.table, schemas.vcpu.table], "from its own stats fds")


def describe_here(tables: Iterable[Table], how: str) -> KernelTables:
    """Tables that were read on this host."""
    from ..host.machine import read_machine
    from ..schema import KernelTables

    release = read_machine().kernel_release.value
    return KernelTables(HERE, release, _architecture(), True, how, tuple(tables))


def read_text(file: str) -> str:
    """A file that a user named. UsageError if it cannot be read, CatalogError if it is not text."""
    from ..errors import CatalogError

    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CatalogError("", file=file, line=1, expected="UTF-8", found=f"byte {error.start} of no text") from error


def _architecture() -> str | None:
    from ..catalog.kernels import architecture_of
    from ..host.machine import read_machine

    machine = read_machine().architecture.value
    return None if machine is None else architecture_of(machine)
