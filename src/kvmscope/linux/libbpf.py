"""libbpf itself, opened once, with its log captured; shared by ``btf`` and the BPF sources.

Its log is collected, never printed; errors quote it. Needs Debian's ``libbpf1`` (1.0 or later).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from ..errors import Unavailable

_PRINT_FN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_WARN = 0


_POINTER_RESULTS = (
    "bpf_object__open_mem",
    "bpf_object__find_map_by_name",
    "bpf_object__find_program_by_name",
    "bpf_program__attach_iter",
    "bpf_program__attach",
    "bpf_map__initial_value",
    "btf__parse",
    "btf__parse_split",
    "btf__type_by_id",
    "btf__name_by_offset",
)


@cache
def library() -> ctypes.CDLL:
    """libbpf, with its log captured. Raises Unavailable if it is not installed."""
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise Unavailable(f"libbpf 1.x is not installed ({error})", remedy="apt install libbpf1") from error
    for name in _POINTER_RESULTS:
        getattr(lib, name).restype = ctypes.c_void_p
    lib.libbpf_set_print(_COLLECT)
    return lib


log: list[str] = []
"""The warnings of libbpf since a caller cleared the list."""


@contextmanager
def quietly() -> Iterator[None]:
    """Drop the messages of libbpf while the block runs: for each of about 800 messages of a load it would wait until
    another thread releases Python's lock, which takes up to 5 ms.
    """
    lib = library()
    lib.libbpf_set_print(None)
    try:
        yield
    finally:
        lib.libbpf_set_print(_COLLECT)


def _collect(level: int, template: bytes, arguments: int) -> int:
    if level != _WARN:
        return 0  # loading the iterator has about 800 messages below this level
    text = ctypes.create_string_buffer(1 << 20)  # the verifier's log comes as one message
    ctypes.CDLL(None).vsnprintf(text, len(text), template, ctypes.c_void_p(arguments))
    log.extend(text.value.decode(errors="replace").splitlines())
    return 0


_COLLECT = _PRINT_FN(_collect)  # kept here, since libbpf keeps only a pointer
