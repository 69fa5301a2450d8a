"""Samples of group ``wakeups`` that are made by hand: who ran while vCPUs waited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvmscope.sample import Sample, VmId
from kvmscope.schema import Schema
from kvmscope.sources.bpf.groups.wakeups import schema_of
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

SCHEMA = schema_of("entry")
Places = Sequence[tuple[int, bytes, int, int]]
"""Of each place: process id, name, runs and nanoseconds."""


def words_of(schema: Schema, places: Places, wait_ns: int) -> bytes:
    data = bytearray(schema.data_size)
    at_wait = schema["wait_ns"].offset
    data[at_wait : at_wait + 8] = wait_ns.to_bytes(8, "little")
    for number, (pid, name, count, ns) in enumerate(places, 1):
        padded = name.ljust(16, b"\0")
        values = {"pid": pid, "count": count, "ns": ns}
        at = {stat: schema[f"rival_{number}_{stat}"].offset for stat in ("pid", "name_1", "name_2", "count", "ns")}
        for stat, value in values.items():
            data[at[stat] : at[stat] + 8] = value.to_bytes(8, "little")
        data[at["name_1"] : at["name_1"] + 8] = padded[:8]
        data[at["name_2"] : at["name_2"] + 8] = padded[8:]
    return bytes(data)


def sample_of(
    second: int, vcpus: Mapping[int, Places], *, others: Mapping[int, Places] | None = None, wait_ns: int = 0
) -> Sample:
    vms = [
        VmStats(
            VmId(number),
            [],
            [VcpuStats(vcpu, [StatsOf(SCHEMA, words_of(SCHEMA, places, wait_ns))]) for vcpu, places in of_vm.items()],
            pid=number,
        )
        for number, of_vm in ((1, vcpus), (2, others or {}))
    ]
    ns = second * 1_000_000_000
    return assemble(vms, source="bpf", taken_ns=ns, monotonic_ns=ns)
