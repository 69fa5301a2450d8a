"""The capabilities of this process, from /proc/self/status.

Source: include/uapi/linux/capability.h, capabilities(7).
"""

from __future__ import annotations

from enum import IntEnum

from .files import PROC, read_text


class Capability(IntEnum):
    """The capabilities that matter for reading, by the kernel's numbers."""

    DAC_READ_SEARCH = 2
    SYS_PTRACE = 19
    SYS_ADMIN = 21
    SYSLOG = 34
    PERFMON = 38
    BPF = 39


def effective_capabilities(*, proc_root: str = PROC) -> frozenset[Capability]:
    """The effective capabilities of this process that are in ``Capability``; empty if the kernel does not show them."""
    for line in (read_text(f"{proc_root}/self/status").value or "").splitlines():
        if line.startswith("CapEff:"):
            mask = int(line.split()[1], 16)
            return frozenset(capability for capability in Capability if mask >> capability & 1)
    return frozenset()
