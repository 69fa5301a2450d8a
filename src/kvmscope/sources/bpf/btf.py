"""Names of the running kernel's enumerators, from its BTF, through libbpf. Needs no BPF privilege for vmlinux.

A module's types are in a BTF of their own, which refers to that of vmlinux.
Source: include/uapi/linux/btf.h (struct btf_type, struct btf_enum).
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from .libbpf import library

_BTF_FOLDER = Path("/sys/kernel/btf")
_KIND_ENUM = 6


class _Type(ctypes.Structure):
    _fields_ = (("name", ctypes.c_uint32), ("info", ctypes.c_uint32), ("size", ctypes.c_uint32))


class _Enumerator(ctypes.Structure):
    _fields_ = (("name", ctypes.c_uint32), ("value", ctypes.c_int32))


def read_enum(name: str, *, module: str) -> dict[str, int]:
    """Enumerators of ``enum name``: name -> number, from ``module``'s BTF or, if that is built in, vmlinux's.

    Empty if the kernel has no such enum.
    """
    lib = library()
    for function in ("btf__parse", "btf__parse_split", "btf__type_by_id", "btf__name_by_offset"):
        getattr(lib, function).restype = ctypes.c_void_p
    base = lib.btf__parse(str(_BTF_FOLDER / "vmlinux").encode(), None)
    if not base:
        return {}
    split = None
    try:
        own = _BTF_FOLDER / module
        if own.exists():
            split = lib.btf__parse_split(str(own).encode(), ctypes.c_void_p(base))
        return _enumerators(lib, ctypes.c_void_p(split or base), name)
    finally:
        lib.btf__free(ctypes.c_void_p(split))
        lib.btf__free(ctypes.c_void_p(base))


def _enumerators(lib: ctypes.CDLL, btf: ctypes.c_void_p, name: str) -> dict[str, int]:
    number = lib.btf__find_by_name_kind(btf, name.encode(), _KIND_ENUM)
    if number < 0:
        return {}
    address = lib.btf__type_by_id(btf, ctypes.c_uint32(number))
    count = _Type.from_address(address).info & 0xFFFF
    members = (_Enumerator * count).from_address(address + ctypes.sizeof(_Type))

    def text(offset: int) -> str:
        return ctypes.string_at(lib.btf__name_by_offset(btf, ctypes.c_uint32(offset))).decode()

    return {text(member.name): member.value for member in members}
