"""What each group loads, by the facts of a kernel, and that the catalogue knows what it leaves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from kvmscope.catalog.exit_reasons import ReasonTable, reasons
from kvmscope.catalog.stats import load_stats
from kvmscope.errors import Unavailable
from kvmscope.schema import Schema
from kvmscope.sources.bpf.groups import exits, mmu_lock, userspace, wakeups
from kvmscope.sources.bpf.groups.kernel import Isa, KernelFacts


@dataclass(frozen=True)
class PlannedKernel(KernelFacts):
    """A kernel of which all is said, in place of one that is looked at."""

    lacks: tuple[str, ...] = ()
    says_isa: Isa = Isa.SVM
    machine: str = field(default="x86_64")

    @property
    def isa(self) -> Isa:
        return self.says_isa

    @property
    def vendor(self) -> str:
        return "kvm_of_test"

    def has_tracepoints(self, names: Iterable[str]) -> frozenset[str]:
        return frozenset(names) - set(self.lacks)


ARM64 = PlannedKernel(says_isa=Isa.ARM64, machine="aarch64")


def uncatalogued(schema: Schema) -> list[str]:
    stats = load_stats()
    found = {d.name: stats.find(schema.provider, schema.scope, d.name) for d in schema.descriptors}
    return [d.name for d in schema.descriptors if (entry := found[d.name]) is None or not entry.agrees_with(d)]


@pytest.mark.parametrize(
    "kernel", [PlannedKernel(), PlannedKernel(says_isa=Isa.VMX), PlannedKernel(says_isa=Isa.UNKNOWN), ARM64]
)
@pytest.mark.parametrize("group", [exits, mmu_lock, userspace, wakeups])
def test_every_stat_of_every_group_is_catalogued_as_it_is_described(group: object, kernel: PlannedKernel) -> None:
    plan = group.plan(kernel)  # type: ignore[attr-defined]
    assert uncatalogued(plan.schema) == []
    assert len(set(plan.schema.names)) == len(plan.schema.descriptors) > 0


@pytest.mark.parametrize(
    ("group", "tracepoint"),
    [
        (userspace, "kvm_userspace_exit"),
        (userspace, "kvm_fpu"),
        (wakeups, "sched_waking"),
        (wakeups, "kvm_vcpu_wakeup"),
        (mmu_lock, "contention_begin"),
    ],
)
def test_a_group_is_refused_by_a_kernel_without_its_tracepoint(group: object, tracepoint: str) -> None:
    with pytest.raises(Unavailable, match=f"no tracepoint {tracepoint}"):
        group.plan(PlannedKernel(lacks=(tracepoint,)))  # type: ignore[attr-defined]


def test_on_x86_the_fpu_marks_the_entry_of_kvm_run_and_elsewhere_that_of_the_guest() -> None:
    assert set(userspace.plan(PlannedKernel(lacks=("kvm_entry",))).programs) == {"fpu", "leave"}
    assert set(userspace.plan(PlannedKernel(machine="aarch64", lacks=("kvm_fpu",))).programs) == {"entry", "leave"}


def test_each_architecture_has_the_reasons_that_are_its_own() -> None:
    x86, arm64 = (set(userspace.names_of(machine).values()) for machine in ("x86_64", "aarch64"))
    assert {"ioapic_eoi", "x86_rdmsr", "hyperv"} <= x86 - arm64
    assert {"arm_nisv"} <= arm64 - x86
    assert {"mmio", "intr", "memory_fault"} <= x86 & arm64
    everywhere = set(reasons(ReasonTable.USERSPACE).values())
    assert {name for name in everywhere - x86 - arm64 if not name.startswith(("s390_", "riscv_", "papr_"))} == {
        *("dcr", "epr", "osi", "watchdog", "loongarch_iocsr")
    }


def test_a_reason_without_a_name_and_a_failed_call_have_places_of_their_own() -> None:
    plan = userspace.plan(PlannedKernel())
    place_of = plan.constants[24:]
    names = plan.schema.names
    error, other = (int.from_bytes(plan.constants[at : at + 4], "little") for at in (0, 4))
    first = names.index("userspace_exit_unknown")
    assert names[first + 2 * error] == "userspace_exit_error"
    assert names[first + 2 * other] == "userspace_exit_other"
    assert names[first + 2 * place_of[6]] == "userspace_exit_mmio"
    assert place_of[13] == place_of[63] == other, "s390_sieic, and a number of kernels to come"


def test_without_an_event_at_entry_wakeups_end_where_kvm_goes_on_and_have_other_names() -> None:
    normal, other = wakeups.plan(PlannedKernel()), wakeups.plan(PlannedKernel(says_isa=Isa.UNKNOWN))
    assert normal.schema.names[:3] == ("wakeups", "wakeup_to_entry_ns", "wakeup_to_entry_hist")
    assert normal.missing == ()
    assert other.schema.names[:3] == ("wakeups", "wakeup_to_resume_ns", "wakeup_to_resume_hist")
    assert other.schema.names[3:] == normal.schema.names[3:]
    assert [stat for stat, _ in other.missing] == ["wakeup_to_entry_ns", "wakeup_to_entry_hist"]
    assert all("kvm_of_test" in reason for _, reason in other.missing)
    assert set(normal.programs) - set(other.programs) == {"entry"}


@pytest.mark.parametrize(("group", "machine"), [(mmu_lock, "riscv64"), (userspace, "s390x")])
def test_an_architecture_of_which_too_little_is_known_is_refused(group: object, machine: str) -> None:
    with pytest.raises(Unavailable, match=machine):
        group.plan(PlannedKernel(machine=machine))  # type: ignore[attr-defined]
