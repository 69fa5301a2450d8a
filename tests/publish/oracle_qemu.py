"""A decoder of stats files as QEMU's, written anew from what its documents say, with nothing of kvmscope's in it.

Rules (qapi/stats.json, docs of ``query-stats`` and ``query-stats-schemas``; the layout is that of
Documentation/virt/kvm/api.rst 4.133):
- the header says where things are; a name is as long as the header says, up to its NUL;
- a stat whose type, unit or base is of a number that it does not know is left out, the others are not;
- a value is a boolean if the unit says so, a number if the stat is one word, and a list of numbers else;
- exponent 0 is not told, and a bucket size only of a linear histogram.
(QEMU gives lists last bucket first, which its documents do not say; here they are as in the file.)
"""

from __future__ import annotations

import struct
from typing import Any

TYPES = {0: "cumulative", 1: "instant", 2: "peak", 3: "linear-histogram", 4: "log2-histogram"}
UNITS = {0: None, 1: "bytes", 2: "seconds", 3: "cycles", 4: "boolean"}
BASES = {0: 10, 1: 2}


def query_stats(file: bytes) -> dict[str, dict[str, Any]]:
    """By name: the stat's schema, and under "value" its value."""
    _, name_size, count, _, descriptors_at, data_at = struct.unpack_from("=IIIIII", file, 0)
    found: dict[str, dict[str, Any]] = {}
    for number in range(count):
        at = descriptors_at + number * (16 + name_size)
        flags, exponent, size, offset, bucket_size = struct.unpack_from("=IhHII", file, at)
        name = file[at + 16 : at + 16 + name_size].split(b"\0")[0].decode()
        kind, unit, base = flags & 0xF, flags >> 4 & 0xF, flags >> 8 & 0xF
        if kind not in TYPES or unit not in UNITS or base not in BASES:
            continue
        words = list(struct.unpack_from(f"={size}Q", file, data_at + offset))
        value: Any = words
        if size == 1:
            value = bool(words[0]) if UNITS[unit] == "boolean" else words[0]
        stat: dict[str, Any] = {"type": TYPES[kind], "value": value}
        if UNITS[unit] is not None:
            stat["unit"] = UNITS[unit]
        if exponent:
            stat |= {"base": BASES[base], "exponent": exponent}
        if TYPES[kind] == "linear-histogram":
            stat["bucket-size"] = bucket_size
        found[name] = stat
    return found
