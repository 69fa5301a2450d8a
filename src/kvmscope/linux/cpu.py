"""The CPU, from /proc/cpuinfo.

Source: arch/x86/kernel/cpu/proc.c, arch/arm64/kernel/cpuinfo.c.
"""

from __future__ import annotations

from .facts import CpuInfo, Fact
from .files import PROC, read_text

_FAMILY_DIGITS = 4


def read_cpu(*, proc_root: str = PROC) -> Fact[CpuInfo]:
    """Vendor, model and flags of the first CPU."""
    text = read_text(f"{proc_root}/cpuinfo")
    return Fact.unknown(text.reason or "") if text.value is None else Fact(parse_cpu(text.value))


def parse_cpu(text: str) -> CpuInfo:
    """The first CPU in the text of /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = " ".join(fields.get(key, "") for key in ("flags", "vmx flags", "Features"))
    family = fields.get("cpu family", "")
    return CpuInfo(
        vendor=fields.get("vendor_id") or fields.get("CPU implementer"),
        model=fields.get("model name") or fields.get("CPU part"),
        flags=frozenset(flags.split()),
        family=int(family) if family.isascii() and family.isdecimal() and len(family) <= _FAMILY_DIGITS else None,
    )
