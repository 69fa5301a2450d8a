"""The parts that the JSON of all commands has in common. The format is DESIGN's ``kvmscope/1``.

Rule: what is not known is null. NaN and infinity are not JSON and raise ValueError here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ..sample import Gap, Sample
from ..scene import Scene
from ..schema import Descriptor, Kind, Unit

FORMAT = "kvmscope/1"

_NUMBERS = re.compile(r"\[\n\s*((?:\d+,\s+)*\d+)\n\s*\]")


def dump(value: Any, *, one_line: bool = False) -> str:
    """JSON text, with lists of numbers on one line; all of it on one line for a stream of them."""
    if one_line:
        return json.dumps(value, allow_nan=False)
    # Line ends are escaped in strings, so that no string can look like such a list.
    text = json.dumps(value, indent=2, allow_nan=False)
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)


def head(scene: Scene) -> dict[str, Any]:
    """What every answer about a sample begins with."""
    sample = scene.sample
    return {
        "format": FORMAT,
        "time": rfc3339(sample.taken_ns),
        "simulated": sample.simulated,
        "source": {"name": sample.source, "why_not": scene.why_not},
    }


def rfc3339(ns: int) -> str:
    """CLOCK_REALTIME nanoseconds as text, in UTC and milliseconds."""
    moment = datetime.fromtimestamp(ns // 10**9, UTC).replace(microsecond=ns % 10**9 // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def vm(scene: Scene, row: int) -> dict[str, Any]:
    """Who a VM is."""
    identity = scene.identities[row]
    created_ns = int(scene.sample.vms.created_ns[row])
    return {
        "id": str(scene.sample.vms.vm_id(row)),
        "name": identity.name,
        "pid": scene.pid(row),
        "vmm": scene.vmm(row),
        "uuid": identity.process.uuid if identity.process else None,
        "managed_by": identity.process.managed_by if identity.process else None,
        "created": rfc3339(created_ns) if created_ns >= 0 else None,
    }


def vcpu(sample: Sample, row: int) -> dict[str, Any]:
    """Who a vCPU is."""
    tid = int(sample.vcpus.tid[row])
    return {"id": int(sample.vcpus.id[row]), "tid": tid if tid >= 0 else None}


def gaps(gaps: Iterable[Gap]) -> list[dict[str, Any]]:
    """What could not be read; null stands for "all"."""
    return [
        {
            "reason": gap.reason,
            "vm": None if gap.vm is None else str(gap.vm),
            "vcpu": gap.vcpu,
            "provider": gap.provider,
            "stat": gap.stat,
        }
        for gap in gaps
    ]


def descriptor(stat: Descriptor) -> dict[str, Any]:
    """How a stat describes itself; kind, unit or base is null if its number is not known here.

    ``bit`` is there only for a boolean that is one bit of its word.
    """
    return {
        "name": stat.name,
        "kind": stat.kind.name.lower() if isinstance(stat.kind, Kind) else None,
        "unit": stat.unit.name.lower() if isinstance(stat.unit, Unit) else None,
        "base": stat.base.number if hasattr(stat.base, "number") else None,
        "exponent": stat.exponent,
        "size": stat.size,
        "bucket_size": stat.bucket_size if stat.kind is Kind.LINEAR_HISTOGRAM else None,
        **({} if stat.bit is None else {"bit": stat.bit}),
    }
