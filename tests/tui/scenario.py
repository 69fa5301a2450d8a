"""VMs of one minute, as several tests show them: with findings, partly unknown, cleared, silent, that come and end."""

from __future__ import annotations

from collections.abc import Iterator

from crafted import NOON_NS, VcpuSpec, VmSpec


def storm(second: int, *, per_s: int) -> dict[str, int]:
    """The counts of a vCPU whose guest polls a device."""
    return {"exits": 1_500 * second + per_s * second, "mmio_exits": per_s * second, "fpu_reload": per_s * second}


def guests(second: int) -> Iterator[VmSpec]:
    """The VMs of a second. ``batch-7`` ends at second 5, ``late`` starts at second 4."""
    born_ns = NOON_NS - 90_000_000_000
    halts = {
        "exits": 900 * second,
        "halt_exits": 400 * second,
        "halt_poll_success_ns": 60_000_000 * second,
        "halt_poll_fail_ns": 40_000_000 * second,
        "irq_injections": 410 * second,
    }
    yield VmSpec(
        "web-1",
        [
            VcpuSpec(0, halts, {20: 300 * second, 21: 80 * second, 24: 20 * second}, tid=4243),
            VcpuSpec(1, {"exits": 120 * second}, {20: second}, tid=4244),
        ],
        flushes=3 * second,
        pid=4242,
        vmm="qemu",
        created_ns=born_ns,
        disk=(3 * second, 0, 0, second, 1234, 42 * second),
    )
    yield VmSpec(
        "old-nic",
        [VcpuSpec(0, storm(second, per_s=9_000)), VcpuSpec(1, storm(second, per_s=2_000))],
        pid=77,
        vmm="qemu",
        created_ns=born_ns + 1,
    )
    yield VmSpec(
        "half-known",
        [VcpuSpec(0, {"exits": 500 * second}), VcpuSpec(1, readable=False)],
        pid=78,
        vmm="other",
        created_ns=born_ns + 2,
    )
    yield VmSpec("db\x1b[31m-2", [VcpuSpec(0, {"exits": 10**6 // (second + 1)})], vmm="firecracker", pid=79)
    yield VmSpec("数据库-with-a-name-that-goes-on", [VcpuSpec(0, {"exits": 70 * second})], created_ns=born_ns + 3)
    if second < 5:
        yield VmSpec("batch-7", [VcpuSpec(0, {"exits": 10 * second})], created_ns=born_ns + 4)
    if second >= 4:
        yield VmSpec("late", [VcpuSpec(0, {"exits": 10 * second})], created_ns=NOON_NS + 4 * 10**9)
