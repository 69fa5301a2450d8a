"""Who ran while vCPUs waited: added up over vCPUs, from 0 for a process that took over a place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvmscope.analysis.rivals import Rival, rivals
from kvmscope.analysis.window import Window
from kvmscope.sample import Sample, VmId
from kvmscope.schema import Schema
from kvmscope.sources.bpf.groups.wakeups import schema_of
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

SCHEMA = schema_of("entry")
Places = Sequence[tuple[int, bytes, int, int]]
"""Of each place: process id, name, runs and nanoseconds."""


def words_of(schema: Schema, places: Places) -> bytes:
    data = bytearray(schema.data_size)
    for number, (pid, name, count, ns) in enumerate(places, 1):
        padded = name.ljust(16, b"\0")
        values = {"pid": pid, "count": count, "ns": ns}
        at = {stat: schema[f"rival_{number}_{stat}"].offset for stat in ("pid", "name_1", "name_2", "count", "ns")}
        for stat, value in values.items():
            data[at[stat] : at[stat] + 8] = value.to_bytes(8, "little")
        data[at["name_1"] : at["name_1"] + 8] = padded[:8]
        data[at["name_2"] : at["name_2"] + 8] = padded[8:]
    return bytes(data)


def sample_of(second: int, vcpus: Mapping[int, Places], *, others: Mapping[int, Places] | None = None) -> Sample:
    vms = [
        VmStats(
            VmId(number),
            [],
            [VcpuStats(vcpu, [StatsOf(SCHEMA, words_of(SCHEMA, places))]) for vcpu, places in of_vm.items()],
            pid=number,
        )
        for number, of_vm in ((1, vcpus), (2, others or {}))
    ]
    ns = second * 1_000_000_000
    return assemble(vms, source="bpf", taken_ns=ns, monotonic_ns=ns)


def test_processes_are_added_up_over_the_vcpus_of_a_vm_and_the_worst_comes_first() -> None:
    before = sample_of(10, {0: [(7, b"spin", 5, 100)], 1: [(9, b"a-name-of-15-by", 1, 50), (7, b"spin", 1, 1)]})
    after = sample_of(
        12,
        {
            0: [(7, b"spin", 9, 400_000_100), (9, b"a-name-of-15-by", 3, 300_000_000)],
            1: [(9, b"a-name-of-15-by", 2, 700_000_050), (7, b"spin", 2, 200_000_001)],
        },
        others={0: [(5, b"other", 1, 9)]},
    )
    assert rivals(Window(before, after), 0) == [
        Rival(9, "a-name-of-15-by", 4, 0.5),
        Rival(7, "spin", 5, 0.3),
    ]


def test_a_process_that_lost_its_place_meanwhile_begins_at_0() -> None:
    before = sample_of(10, {0: [(7, b"spin", 5, 900_000_000)]})
    after = sample_of(11, {0: [(7, b"spin", 2, 100_000_000)]})
    assert rivals(Window(before, after), 0) == [Rival(7, "spin", 2, 0.1)]


def test_nobody_is_named_of_a_vcpu_that_did_not_wait_or_was_not_there_before() -> None:
    still = {0: [(7, b"spin", 5, 900)]}
    assert rivals(Window(sample_of(10, still), sample_of(11, {**still, 1: [(9, b"new", 1, 5)]})), 0) == []


def test_a_name_that_is_no_text_is_escaped() -> None:
    after = sample_of(11, {0: [(7, b"\xffx", 1, 1_000_000)]})
    (found,) = rivals(Window(sample_of(10, {0: []}), after), 0)
    assert found.name == "\\xffx"
