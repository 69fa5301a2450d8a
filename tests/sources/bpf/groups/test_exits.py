"""What group exits would load on a kernel, and how what it counts is described; it runs in kernels/test_exits.py."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest

from kvmscope.catalog.exit_reasons import ReasonTable, reasons
from kvmscope.errors import Unavailable
from kvmscope.schema import Kind
from kvmscope.sources.bpf.groups import exits
from kvmscope.sources.bpf.groups.kernel import Isa, KernelFacts

TRACEPOINTS = frozenset(("kvm_exit", "kvm_entry"))


@dataclass(frozen=True)
class ExitsKernel(KernelFacts):
    """One with these tracepoints; BTF is the running kernel's alone."""

    tracepoints: frozenset[str] = TRACEPOINTS

    def has_tracepoints(self, names: Iterable[str]) -> frozenset[str]:
        return self.tracepoints & set(names)


def kernel(tmp_path: Path, *modules: str, flags: str = "fpu", machine: str = "x86_64") -> ExitsKernel:
    for module in modules:
        (tmp_path / "module" / module).mkdir(parents=True)
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/arch").write_text(f"{machine}\n", encoding="ascii")
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n", encoding="ascii")
    return ExitsKernel(str(tmp_path), str(tmp_path), machine)


class Known(NamedTuple):
    isa: Isa
    modules: tuple[str, ...]
    flags: str
    machine: str
    table: ReasonTable


KNOWN = [
    Known(Isa.SVM, ("kvm_amd",), "fpu svm", "x86_64", ReasonTable.SVM),
    Known(Isa.VMX, ("kvm_intel",), "vmx fpu", "x86_64", ReasonTable.VMX),
    Known(Isa.ARM64, (), "", "aarch64", ReasonTable.ARM64),
]


@pytest.mark.parametrize("known", KNOWN)
def test_each_reason_has_three_stats_of_its_own(tmp_path: Path, known: Known) -> None:
    plan = exits.plan(kernel(tmp_path, *known.modules, flags=known.flags, machine=known.machine))
    assert plan.silent == ""
    assert len(plan.schema.descriptors) == 3 * plan.rows
    words = [word for d in plan.schema.descriptors for word in range(d.offset // 8, d.offset // 8 + d.size)]
    assert sorted(words) == list(range(plan.schema.words)), "no two share a word, and none is left over"
    named = [name for number, name in reasons(known.table).items() if not 0x8000_0000 <= number < 0xFFFF_FFF0]
    for name in (*named, "other"):
        assert plan.schema[f"exit_{name}"].kind is Kind.CUMULATIVE
        assert plan.schema[f"exit_{name}_ns"].scale == pytest.approx(1e-9)
        assert plan.schema[f"exit_{name}_hist"].kind is Kind.LOG_HISTOGRAM
    assert all(len(name) < 48 for name in plan.schema.names), "as long as a name in a stats file may be"


@pytest.mark.parametrize("known", KNOWN)
def test_the_programs_table_leads_each_number_to_the_row_of_its_name(tmp_path: Path, known: Known) -> None:
    plan = exits.plan(kernel(tmp_path, *known.modules, flags=known.flags, machine=known.machine))
    said_isa, other = struct.unpack_from("=II", plan.constants)
    rows = plan.constants[8:]
    assert (said_isa, other) == (known.isa.value, plan.rows - 1)
    for number, name in reasons(known.table).items():
        row = rows[exits.place_of_reason(number)]
        expected = f"exit_{name}" if f"exit_{name}" in plan.schema else "exit_other"
        assert plan.schema.descriptors[3 * row].name == expected
    unknown = set(range(2031)) - set(reasons(known.table)) - set(range(64, 128))
    assert {rows[exits.place_of_reason(number)] for number in unknown} == {other}


@pytest.mark.parametrize(
    ("number", "place"),
    [(0, 0), (2030, 2030), (2031, 2031), (2032, 2031), (0x8000_0001, 2031), (0xFFFF_FFEF, 2031), (0xFFFF_FFFF, 2047)],
)
def test_negative_reasons_come_last_and_what_is_beyond_the_table_is_other(number: int, place: int) -> None:
    assert exits.place_of_reason(number) == place


def test_an_exception_and_a_trap_of_one_name_are_two_stats(tmp_path: Path) -> None:
    plan = exits.plan(kernel(tmp_path, machine="aarch64", flags=""))
    assert {"exit_serror", "exit_exception_serror", "exit_irq", "exit_dabt_low"} <= set(plan.schema.names)


@pytest.mark.parametrize(
    ("modules", "flags"), [(("kvm_pvm",), "svm"), (("kvm_amd", "kvm_pvm"), "fpu"), (("kvm_intel",), "svm"), ((), "vmx")]
)
def test_where_it_is_not_known_who_runs_the_vms_silence_is_not_zero(
    tmp_path: Path, modules: tuple[str, ...], flags: str
) -> None:
    plan = exits.plan(kernel(tmp_path, *modules, flags=flags))
    assert "no exit was seen" in plan.silent
    assert plan.schema.names == ("exit_other", "exit_other_ns", "exit_other_hist")


def test_a_kernel_without_the_tracepoints_cannot_be_counted(tmp_path: Path) -> None:
    lacking = replace(kernel(tmp_path), tracepoints=frozenset(("kvm_entry",)))
    with pytest.raises(Unavailable, match="no tracepoint kvm_exit"):
        exits.plan(lacking)


def test_what_it_costs_can_be_asked_before_it_is_loaded(tmp_path: Path) -> None:
    plan = exits.plan(kernel(tmp_path, "kvm_amd", flags="svm"))
    small, large = plan.shape(1).cost, plan.shape(1000).cost
    assert (small.room, large.room) == (256, 2000)
    assert small.bytes_per_vm == 0
    assert small.bytes_per_vcpu == 34 * 8 * plan.rows + 64
    assert large.memory_bytes == 2000 * large.bytes_per_vcpu
    assert small.stats == 3 * plan.rows
