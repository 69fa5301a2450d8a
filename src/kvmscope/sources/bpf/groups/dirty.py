"""Group ``dirty``: per VM the pages dirtied while KVM logs dirty pages, as it does during a migration.

Without dirty logging KVM does not know which pages are written to, so the stats of a VM are then unknown, never 0. If
no function can be hooked, dirty bitmaps are counted when the VMM fetches them, as a stat of another name.
Programs: dirty.bpf.c.
"""

from __future__ import annotations

import resource
import struct
from collections.abc import Iterator

from ....errors import Unavailable
from ....schema import Descriptor, Kind, Schema, Scope, Unit
from .base import Plan, counted
from .kernel import KernelFacts

NAME = "dirty"
MARK = "mark_page_dirty_in_slot"
_PUSH = "kvm_dirty_ring_push"
_SIZE = 8 * 4
_HAS_REGISTERS = frozenset({"x86_64", "aarch64"})
"""The architectures for which the program knows the registers of system call arguments."""
_FETCHED_INSTEAD = "{why}, so pages of dirty bitmaps are counted when the VMM fetches them (dirty_fetched_pages)"
_REFUSED = "this kernel refuses programs on functions ({why})"
_NO_RINGS = "KVM has no dirty rings in this kernel (no tracepoint kvm_dirty_ring_push)"


def plan(kernel: KernelFacts) -> Plan:
    """The plan to count pages as they become dirty, otherwise as they are fetched. Raises Unavailable."""
    has_rings = bool(kernel.has_tracepoints([_PUSH]))
    if not kernel.has_functions([MARK]):
        return _by_fetching(kernel, has_rings, f"this kernel has no function {MARK} to hook")
    return Plan(
        NAME,
        schema_of(by_marks=True, has_rings=has_rings),
        rows=1,
        programs={"mark": MARK, **_ring_programs(has_rings)},
        constants=_constants(),
        missing=tuple(_without_rings(has_rings)),
        while_logged=True,
        otherwise=lambda why: _by_fetching(kernel, has_rings, _REFUSED.format(why=why.rpartition(": ")[2])),
    )


def _by_fetching(kernel: KernelFacts, has_rings: bool, why: str) -> Plan:
    if kernel.machine not in _HAS_REGISTERS:
        raise Unavailable(why)
    kernel.need_tracepoints("sys_exit")
    reason = _FETCHED_INSTEAD.format(why=why)
    return Plan(
        NAME,
        schema_of(by_marks=False, has_rings=has_rings),
        rows=1,
        programs={"fetch": None, **_ring_programs(has_rings)},
        constants=_constants(),
        missing=(("dirty_pages", reason), ("dirty_bytes", reason), *_without_rings(has_rings)),
        while_logged=True,
    )


def schema_of(*, by_marks: bool, has_rings: bool = True) -> Schema:
    """The stats of a kernel whose function can be hooked (``by_marks``), or on which fetched pages are counted."""
    of_bitmaps = (
        (counted(0, "dirty_pages"), Descriptor("dirty_bytes", Kind.CUMULATIVE, Unit.BYTES, offset=8))
        if by_marks
        else (counted(24, "dirty_fetched_pages"),)
    )
    of_rings = (counted(16, "dirty_ring_pages"),) if has_rings else ()
    return Schema(NAME, Scope.VM, (*of_bitmaps, *of_rings), _SIZE)


def _ring_programs(has_rings: bool) -> dict[str, str | None]:
    return {"push": None} if has_rings else {}


def _without_rings(has_rings: bool) -> Iterator[tuple[str, str]]:
    if not has_rings:
        yield "dirty_ring_pages", _NO_RINGS


def _constants() -> bytes:
    return struct.pack("=Q", resource.getpagesize())
