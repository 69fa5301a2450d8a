"""Contracts held to kernels: what breaks, with what to use instead, and what is to be known though nothing breaks."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest

from kvmscope.analysis.contract import Breach, judge, notes
from kvmscope.catalog.contracts import parse_contract
from kvmscope.catalog.kernels import find_kernel
from kvmscope.catalog.stats import load_stats
from kvmscope.schema import KernelTables, Kind, Scope, Shape, Table, Tier, Unit

EXAMPLE = Path(__file__).parents[2] / "examples" / "contract.toml"
STATS = load_stats()


def stat(name: str, scope: str = "vcpu", kind: str = "cumulative", more: str = "") -> str:
    return f'[[stat]]\nname = "{name}"\nscope = "{scope}"\nkind = "{kind}"\n{more}\n'


def breaches(text: str, kernel: str | KernelTables) -> tuple[Breach, ...]:
    found = find_kernel(kernel) if isinstance(kernel, str) else kernel
    return judge(parse_contract(f'name = "x"\n{text}', "c.toml"), found, STATS).breaches


def test_the_example_holds_wherever_it_says() -> None:
    contract = parse_contract(EXAMPLE.read_text(encoding="utf-8"), "contract.toml")
    kernels = contract.stated()
    assert len(kernels) >= 29
    verdicts = [judge(contract, kernel, STATS) for kernel in kernels]
    assert [verdict.kernel.name for verdict in verdicts if verdict.breaches] == []
    assert all(verdict.is_stated for verdict in verdicts)
    assert not judge(contract, find_kernel("5.14"), STATS).is_stated


def test_a_stat_that_went_is_told_with_what_replaced_it() -> None:
    (breach,) = breaches(stat("lpages", "vm", "instant"), "6.18")
    assert breach.reason == "is not there: it was removed in 5.15"
    assert breach.replaced_by == ("pages_4k", "pages_2m", "pages_1g")
    assert breaches(stat("lpages", "vm", "instant"), "5.14") == ()


def test_a_stat_that_came_later_is_told_with_its_first_kernel() -> None:
    (breach,) = breaches(stat("mmu_shadow_pages", "vm", "instant"), "7.1")
    assert (breach.reason, breach.tier) == ("is not there: x86 has it since 7.2", Tier.VOLATILE)


@pytest.mark.parametrize(
    ("text", "kernel", "reason"),
    [
        (stat("hvc_exit_stat"), "6.1", "is not there: x86 has no such stat, but arm64"),
        (stat("exits", "vm"), "6.1", "is a stat of scope vcpu there"),
        (stat("halt_exit"), "6.1", "is not there; did you mean halt_exits"),
        (stat("zzzzzzzz"), "6.1", "is not there, nor in any known kernel"),
        (stat("reads", more='provider = "disk"'), "6.1", "provider disk has no statistics there"),
        (stat("exits", kind="instant"), "6.1", "is cumulative there, not instant"),
        (stat("halt_wait_ns"), "6.1", "is cumulative, nanoseconds there, not cumulative"),
        (stat("guest_mode", kind="instant", more='unit = "boolean"'), "5.18", "is instant there, not instant, boolean"),
        (
            stat("halt_wait_hist", kind="log-histogram", more='unit = "nanoseconds"\nsize = 64'),
            "6.1",
            "is log histogram, 32 buckets, nanoseconds there, not log histogram, 64 buckets, nanoseconds",
        ),
    ],
)
def test_what_breaks_is_told_with_its_reason(text: str, kernel: str, reason: str) -> None:
    (breach,) = breaches(text, kernel)
    assert breach.reason.startswith(reason)


def test_a_stat_may_be_relied_on_from_some_kernel_on() -> None:
    text = stat("mmu_shadow_pages", "vm", "instant", 'kernels = ">=7.2"')
    assert breaches(text, "6.1") == breaches(text, "7.2") == ()
    without = KernelTables("here", "7.4.0", "x86", True, "", (Table("kvm", Scope.VM, MappingProxyType({})),))
    assert [breach.promise.name for breach in breaches(text, without)] == ["mmu_shadow_pages"]


def test_the_width_of_a_bucket_may_differ() -> None:
    sizes = Shape(Kind.LINEAR_HISTOGRAM, Unit.BYTES, size=4, bucket_size=4096)
    disk = Table("disk", Scope.VM, MappingProxyType({"sizes": sizes}))
    text = stat("sizes", "vm", "linear-histogram", 'provider = "disk"\nunit = "bytes"\nsize = 4')
    assert breaches(text, KernelTables("here", "6.1", "x86", True, "", (disk,))) == ()


def test_what_is_relied_on_though_it_may_not_stay_is_noted() -> None:
    text = stat("mmu_flooded", "vm") + stat("exits") + stat("new_stat") + stat("nmi_injections")
    contract = parse_contract(f'name = "x"\narchitectures = ["x86"]\nkernels = ">=6.1"\n{text}', "c.toml")
    found = [
        (note.promise.name, note.text.split(":")[0], note.tier) for note in notes(contract, contract.stated(), STATS)
    ]
    assert (
        "mmu_flooded",
        "an implementation detail of KVM, which any kernel may change or remove",
        Tier.VOLATILE,
    ) in found
    assert ("exits", "changed meaning in 6.4. Before", Tier.ABI_LIKE) in found
    assert ("new_stat", "not in the catalogue", None) in found
    assert not [note for note in found if note[0] == "nmi_injections"]


def test_a_meaning_that_changed_outside_of_the_kernels_is_not_noted() -> None:
    contract = parse_contract(f'name = "x"\n{stat("exits")}', "c.toml")
    assert list(notes(contract, [find_kernel("6.4"), find_kernel("7.3")], STATS)) == []
    assert len(list(notes(contract, [find_kernel("6.1"), find_kernel("7.3")], STATS))) == 1
