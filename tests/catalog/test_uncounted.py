"""Which stats kernels describe and do not count: the file is whole, strict, and agrees with the stats' caveats."""

from __future__ import annotations

import itertools
import re

import pytest

from kvmscope.analysis.caveats import Facts, TruthValue, judge
from kvmscope.analysis.uncounted import UncountedStats
from kvmscope.catalog.caveats import Caveat, load_caveats
from kvmscope.catalog.stats import StatEntry, load_stats
from kvmscope.catalog.uncounted import UncountedRule, load_uncounted, parse_uncounted
from kvmscope.errors import CatalogError
from kvmscope.host.facts import Machine
from kvmscope.linux.facts import Fact, KernelModule
from kvmscope.schema import Descriptor, Kind, Schema, Scope

DARK: Fact[str] = Fact.unknown("nobody looked")
MODULES = {
    "x86": ("kvm_intel", "kvm_amd", "kvm_pvm", None),
    "powerpc": ("kvm_hv", "kvm_pr", "kvm", None),
    "s390": ("kvm", None),
    "mips": ("kvm",),
}
UNAME = {"x86": "x86_64", "powerpc": "ppc64le", "s390": "s390x", "mips": "mips64"}
NUMBERS = {
    "irqchip-in-kernel",  # the VMM waits for no interrupt window
    "l1d-flush-not-needed",  # KVM flushes nothing
    "mips-guest-takes-it",  # the guest does not exit for it
    "mmio-caching-off",  # KVM makes no such entry
    "notify-window",  # the CPU never exits so
    "nx-huge-pages-off",  # KVM splits nothing
    "pf-fast-direct-only",  # no fault takes the fast path
    "quota-not-set",  # another provider, whose quota_set says it
    "s390-forwarding",  # KVM forwards nothing
    "halts-in-guest",  # no halt exits
    "halts-in-vmm",  # KVM does not wait
    "polling-off",  # KVM does not poll
    "polling-per-vm",  # KVM does not poll
    "tdx-injections",  # KVM injects nothing
    "tdp-mmu",  # the legacy MMU has nothing to count
}
"""Caveats of stats that stay at 0 because nothing happens that they are to count."""
UNDECIDED = {
    "arm64-remote-flush": "nothing shows on which side of the change a kernel stands",
    "pvm-emulation": "it counts, though otherwise",
    "counted-since-attach": "it counts from then on",
    "exits-fastpath": "it counts, though less",
    "preemption-unreported": "it counts",
    "range-flushes": "it counts, though less",
    "vhost-kthreads": "it counts, though less",
    "yield-by-hypercall": "it counts, though less",
    "s390-gisa": "it counts, though less",
    "nested-resumes": "it counts, though less",
    "vmm-kicks": "it counts, though less",
}
ZERO = re.compile(r"stay(s)? (near )?at 0|never (counts|increases)|does not count|not counted|do not increase")


def machine(architecture: str, module: str | None) -> Machine:
    vendor = Fact[KernelModule].unknown("nobody looked") if module is None else Fact(KernelModule(module, False, {}))
    return Machine(DARK, DARK, Fact(UNAME[architecture]), vendor, vendor, Fact.unknown("nobody looked"), DARK)


def stats_of(architecture: str) -> Schema:
    """As if one kernel had all that the catalogue has for an architecture."""
    names = dict.fromkeys(e.name for e in load_stats() if e.provider == "kvm" and architecture in e.architectures)
    stats = tuple(Descriptor(name, Kind.CUMULATIVE, offset=8 * place) for place, name in enumerate(names))
    return Schema("kvm", Scope.VCPU, stats, 8 * len(stats))


def test_every_rule_is_of_stats_that_list_its_caveat() -> None:
    for rule in load_uncounted():
        for stat in rule.stats:
            listed = [rule.caveat in entry.caveats for entry in entries_of(stat)]
            assert listed, stat
            assert all(listed), stat


def test_every_caveat_of_a_count_that_stays_at_0_is_decided() -> None:
    decided = {rule.caveat for rule in load_uncounted()} | NUMBERS | set(UNDECIDED)
    open_ones = [slug for slug, caveat in load_caveats().items() if ZERO.search(caveat.text) and slug not in decided]
    assert open_ones == []
    assert decided <= set(load_caveats())


@pytest.mark.parametrize(
    ("architecture", "module"), [(arch, module) for arch, modules in MODULES.items() for module in modules]
)
def test_a_stat_is_uncounted_where_its_caveat_holds(architecture: str, module: str | None) -> None:
    host, schema = machine(architecture, module), stats_of(architecture)
    found = set(UncountedStats(host).reasons((schema,)))
    facts = Facts(host, (schema, Schema("kvm", Scope.VM, schema.descriptors, schema.data_size)))
    expected = {
        stat
        for rule in load_uncounted()
        for stat in rule.stats
        if stat in schema and judge(caveat_of(rule).holds_if, facts).verdict is TruthValue.HOLDS
    }
    assert found == expected


def caveat_of(rule: UncountedRule) -> Caveat:
    return load_caveats()[rule.caveat]


def test_no_stat_has_two_rules_for_one_host() -> None:
    every = [stat for rule in load_uncounted() for stat in rule.stats]
    assert len(every) == len(set(every))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('stats = ["a"]', "expected a key 'caveat'"),
        ('caveat = "a"', "expected a key 'stats'"),
        ('caveat = "a"\nstats = "b"', "expected a list"),
        ('caveat = "a"\nstats = ["b"]\nmodule = "c"', "found 'module'"),
        ('caveat = "a"\nstats = ["b"]\nmodules = [{}]', "expected a list"),
    ],
)
def test_a_wrong_rule_is_an_error(text: str, message: str) -> None:
    with pytest.raises(CatalogError, match=re.escape(message)):
        parse_uncounted(f"[[uncounted]]\n{text}\n")


def test_every_architecture_of_such_a_stat_is_tried() -> None:
    named = itertools.chain.from_iterable(rule.stats for rule in load_uncounted())
    architectures = {arch for stat in named for entry in entries_of(stat) for arch in entry.architectures}
    # mmio_exits of arm64, riscv and loongarch has no rule: their modules are not named in one.
    assert architectures - set(MODULES) <= {"arm64", "loongarch", "riscv"}


def entries_of(stat: str) -> list[StatEntry]:
    return [entry for scope in Scope if (entry := load_stats().find("kvm", scope, stat)) is not None]
