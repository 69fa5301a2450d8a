"""Names of the running kernel's enumerators and functions, from its BTF, through libbpf.

A module's types are in a separate BTF, which refers to that of vmlinux.
Source: include/uapi/linux/btf.h (struct btf_type, struct btf_enum).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .btf_merge import merge
from .libbpf import library
from .procfs import fd_path

_BTF_FOLDER = Path("/sys/kernel/btf")
VMLINUX = _BTF_FOLDER / "vmlinux"
_KIND_ENUM, _KIND_TYPEDEF, _KIND_FUNC = 6, 8, 12


class _Type(ctypes.Structure):
    _fields_ = (("name", ctypes.c_uint32), ("info", ctypes.c_uint32), ("size", ctypes.c_uint32))


class _Enumerator(ctypes.Structure):
    _fields_ = (("name", ctypes.c_uint32), ("value", ctypes.c_int32))


def has_btf() -> bool:
    """Whether this kernel describes its own types."""
    return VMLINUX.exists()


@contextmanager
def open_all_types(pattern: str, *, folder: Path = _BTF_FOLDER) -> Iterator[str]:
    """Path of one file with the types of the kernel and of its modules whose names match; deleted after the block.

    For libbpf, which can find the types of modules only with CAP_SYS_ADMIN. Raises OSError, FormatError.
    """
    vmlinux = folder / "vmlinux"
    modules = sorted(folder.glob(pattern))
    if not modules:
        yield str(vmlinux)
        return
    fd = os.memfd_create("kvmscope-btf", os.MFD_CLOEXEC)
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(merge(vmlinux.read_bytes(), [module.read_bytes() for module in modules]))
        yield fd_path(fd)
    finally:
        os.close(fd)


def read_enum(name: str, *, module: str) -> dict[str, int]:
    """Enumerators of ``enum name``: name -> number, from ``module``'s BTF or, if that is built in, vmlinux's.

    Empty if the kernel has no such enum.
    """
    with _open(module) as btf:
        return _enumerators(btf, name) if btf else {}


def find_functions(names: Iterable[str], *, modules: Iterable[str]) -> frozenset[str]:
    """The subset of ``names`` that are functions of one of ``modules`` (or of vmlinux if one is built in)."""
    return _those_with(names, modules, lambda btf, name: _find(btf, name, _KIND_FUNC) > 0)


def find_tracepoints(names: Iterable[str], *, modules: Iterable[str]) -> frozenset[str]:
    """The same for tracepoints, by the type that each has for BPF programs (include/trace/bpf_probe.h)."""
    return _those_with(names, modules, lambda btf, name: _find(btf, f"btf_trace_{name}", _KIND_TYPEDEF) > 0)


def _those_with(
    names: Iterable[str], modules: Iterable[str], has: Callable[[ctypes.c_void_p, str], bool]
) -> frozenset[str]:
    wanted = tuple(names)
    found: set[str] = set()
    for module in modules:
        with _open(module) as btf:
            if btf:
                found.update(name for name in wanted if has(btf, name))
    return frozenset(found)


@contextmanager
def _open(module: str) -> Iterator[ctypes.c_void_p | None]:
    """The types of a module, or of vmlinux if it has none of its own; None if this kernel has no BTF."""
    lib = library()
    base = lib.btf__parse(str(VMLINUX).encode(), None)
    split = None
    try:
        own = _BTF_FOLDER / module
        if base and own.exists():
            split = lib.btf__parse_split(str(own).encode(), ctypes.c_void_p(base))
        pointer = split or base
        yield ctypes.c_void_p(pointer) if pointer else None
    finally:
        lib.btf__free(ctypes.c_void_p(split))
        lib.btf__free(ctypes.c_void_p(base))


def _find(btf: ctypes.c_void_p, name: str, kind: int) -> int:
    return int(library().btf__find_by_name_kind(btf, name.encode(), kind))


def _enumerators(btf: ctypes.c_void_p, name: str) -> dict[str, int]:
    lib, number = library(), _find(btf, name, _KIND_ENUM)
    if number < 0:
        return {}
    address = lib.btf__type_by_id(btf, ctypes.c_uint32(number))
    count = _Type.from_address(address).info & 0xFFFF
    members = (_Enumerator * count).from_address(address + ctypes.sizeof(_Type))

    def text(offset: int) -> str:
        return ctypes.string_at(lib.btf__name_by_offset(btf, ctypes.c_uint32(offset))).decode()

    return {text(member.name): member.value for member in members}
