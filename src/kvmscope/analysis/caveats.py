"""Which caveats of the catalogue hold here: on this host, and for one of its VMs.

Pure: takes the facts of the host, the schemas of a sample and the sample. Not here: the texts of caveats
(catalog/caveats.toml). Rule: three answers, each with its reason. Unknown is CANNOT_TELL, never "does not hold"; an
unknown part of a condition does not matter if the other parts decide it. Kernel versions are never compared.
Source: Documentation/admin-guide/kernel-parameters.txt and the module_param lines of arch/*/kvm and virt/kvm for the
format of parameters; arch/x86/kvm/mmu/mmu.c (tdp_enabled) for two-dimensional versus shadow paging.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import singledispatch

from ..catalog.caveats import (
    AllOf,
    AlwaysHolds,
    AnyOf,
    ApicvActivity,
    ApicvIs,
    ArchitectureIs,
    Caveat,
    Condition,
    FirstKnown,
    HasCpuFlag,
    HasStat,
    HasVmmOption,
    Inverted,
    ModuleIs,
    Paging,
    PagingIs,
    ParameterIs,
    SettingIs,
    Undecidable,
    ValueIs,
)
from ..catalog.findings import Remedy, Rule
from ..host.apicv import host_apicv
from ..host.config.settings import InterruptConfig
from ..host.facts import Machine
from ..linux.facts import Fact, KernelModule
from ..sample import Sample
from ..schema import Kind, Schema, Scope
from .window import find_column


class TruthValue(Enum):
    """Whether a condition holds."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Truth:
    """A verdict and, in words, its reason."""

    verdict: TruthValue
    reason: str

    @classmethod
    def of(cls, holds: bool, reason: str) -> Truth:
        return cls(TruthValue.HOLDS if holds else TruthValue.DOES_NOT_HOLD, reason)

    @classmethod
    def unknown(cls, reason: str) -> Truth:
        return cls(TruthValue.CANNOT_TELL, reason)


@dataclass(frozen=True, slots=True)
class CaveatSubject:
    """One VM: its row in ``sample.vms``, and what is known of its VMM.

    ``config``: the VM's configuration; ``argv``: the VMM's command line, untrusted. Each is None if it was not read.
    """

    sample: Sample
    row: int
    config: InterruptConfig | None = None
    argv: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """The input of a verdict. ``schemas``: of a sample of this host. ``vm``: None for a verdict on the host."""

    machine: Machine
    schemas: tuple[Schema, ...] = ()
    vm: CaveatSubject | None = None


def facts_of(machine: Machine, sample: Sample, vm: CaveatSubject | None = None) -> Facts:
    """The facts of the host from which ``sample`` was read."""
    return Facts(machine, tuple(block.schema for block in sample.blocks), vm)


def judge_all(caveats: Mapping[str, Caveat], slugs: Iterable[str], facts: Facts) -> dict[str, Truth]:
    """The truth of each of ``slugs``, in their order."""
    return {slug: judge(caveats[slug].holds_if, facts) for slug in slugs}


def rules_here(rules: Iterable[Rule], facts: Facts) -> tuple[Rule, ...]:
    """The rules, each with only the remedies that are known to be possible on this host."""
    return tuple(
        replace(rule, remedies=tuple(remedy for remedy in rule.remedies if is_possible(remedy, facts)))
        for rule in rules
    )


def is_possible(remedy: Remedy, facts: Facts) -> bool:
    """Whether a remedy is known to be possible on a host."""
    return remedy.only_if is None or judge(remedy.only_if, facts).verdict is TruthValue.HOLDS


@singledispatch
def judge(condition: Condition, facts: Facts) -> Truth:
    """Whether a condition holds, and the reason."""
    raise TypeError(f"no condition: {condition!r}")


# --- the host ---------------------------------------------------------------------------------------------------------

_ARCHITECTURES: Mapping[str, str] = {
    "x86_64": "x86",
    "i386": "x86",
    "i486": "x86",
    "i586": "x86",
    "i686": "x86",
    "aarch64": "arm64",
    "armv8l": "arm64",
    "s390x": "s390",
    "ppc": "powerpc",
    "ppcle": "powerpc",
    "ppc64": "powerpc",
    "ppc64le": "powerpc",
    "riscv32": "riscv",
    "riscv64": "riscv",
    "mips": "mips",
    "mips64": "mips",
    "loongarch32": "loongarch",
    "loongarch64": "loongarch",
}
_SPELLINGS: Mapping[str, frozenset[str]] = {"Y": frozenset(("Y", "y", "1")), "N": frozenset(("N", "n", "0"))}


@judge.register
def _(condition: ParameterIs, facts: Facts) -> Truth:
    name = f"{condition.module}.{condition.name}"
    module = _module(condition.module, facts.machine)
    if condition.absent and module is not None and condition.name not in module.parameters:
        return Truth.of(
            condition.absent in condition.values, f"{condition.module} has no parameter {condition.name} here"
        )
    found = _parameter(condition.module, condition.name, facts.machine)
    if found.value is None:
        return Truth.unknown(found.reason or f"{name} is not known")
    wanted = frozenset[str]().union(*(_SPELLINGS.get(value, {value}) for value in condition.values))
    return Truth.of(found.value in wanted, f"{name} is {found.value}")


@judge.register
def _(condition: ModuleIs, facts: Facts) -> Truth:
    module = facts.machine.kvm_vendor
    if module.value is None:
        return Truth.unknown(module.reason or "which module runs the guests is not known")
    return Truth.of(module.value.name == condition.name, f"{module.value.name} runs the guests")


@judge.register
def _(condition: ArchitectureIs, facts: Facts) -> Truth:
    told = facts.machine.architecture
    if told.value is None:
        return Truth.unknown(told.reason or "the architecture is not known")
    known = _ARCHITECTURES.get(told.value)
    if known is None:
        return Truth.unknown(f"kvmscope does not know the architecture {told.value}")
    return Truth.of(known == condition.name, f"the host is {told.value}")


@judge.register
def _(condition: HasCpuFlag, facts: Facts) -> Truth:
    cpu = facts.machine.cpu
    if cpu.value is None:
        return Truth.unknown(cpu.reason or "the CPU's flags are not known")
    has = condition.name in cpu.value.flags
    return Truth.of(has, f"the CPU has {'' if has else 'no '}{condition.name}")


@judge.register
def _(condition: PagingIs, facts: Facts) -> Truth:
    paging, reason = _paging(facts.machine)
    return Truth.unknown(reason) if paging is None else Truth.of(paging is condition.paging, reason)


@judge.register
def _(condition: HasStat, facts: Facts) -> Truth:
    schemas = [s for s in facts.schemas if (s.provider, s.scope) == (condition.provider, condition.scope)]
    if not schemas:
        return Truth.unknown(f"no stats of provider {condition.provider} of any {condition.scope.value} were read")
    has = any(condition.name in schema for schema in schemas)
    return Truth.of(has, f"this kernel has {'' if has else 'no '}{condition.name}")


def _parameter(module_name: str, name: str, machine: Machine) -> Fact[str]:
    module = _module(module_name, machine)
    if module is None:
        return Fact.unknown(f"{module_name} is not in use here")
    return module.parameters.get(name) or Fact.unknown(f"{module_name} has no parameter {name} here")


def _module(name: str, machine: Machine) -> KernelModule | None:
    found = (fact.value for fact in (machine.kvm, machine.kvm_vendor) if fact.value is not None)
    return next((module for module in found if module.name == name), None)


_PAGING_PARAMETER: Mapping[str, str] = {"kvm_intel": "ept", "kvm_amd": "npt"}


def _paging(machine: Machine) -> tuple[Paging | None, str]:
    module: KernelModule | None = machine.kvm_vendor.value
    if module is None:
        return None, machine.kvm_vendor.reason or "which module runs the guests is not known"
    if module.name == "kvm_pvm":
        return Paging.SHADOW, "kvm_pvm runs the guests, which shadows their page tables"
    name = _PAGING_PARAMETER.get(module.name)
    if name is None:
        return None, f"how {module.name} translates guest addresses is not known"
    value = _parameter(module.name, name, machine)
    if value.value is None:
        return None, value.reason or f"{module.name}.{name} is not known"
    is_on = value.value in _SPELLINGS["Y"]
    return Paging.TDP if is_on else Paging.SHADOW, f"{module.name}.{name} is {value.value}"


# --- one VM -----------------------------------------------------------------------------------------------------------


@judge.register
def _(condition: ApicvIs, facts: Facts) -> Truth:
    wanted = condition.state is ApicvActivity.ACTIVE
    if facts.vm is not None:
        seen = _numbers("apicv", Scope.VCPU, "apicv_active", facts.vm)
        if seen:
            return _some_vcpu(seen, lambda number: bool(number) is wanted, f"apicv_active is {int(wanted)}")
    return _apicv_of_host(facts.machine, wanted)


@judge.register
def _(condition: ValueIs, facts: Facts) -> Truth:
    what = f"{condition.name} is {'' if condition.equal else 'not '}{condition.number}"
    if facts.vm is None:
        return Truth.unknown(f"it depends on the VM whether {what}")
    seen = _numbers(condition.provider, condition.scope, condition.name, facts.vm)
    if not seen:
        return Truth.unknown(f"{condition.name} of this VM was not read")

    def meets(number: int) -> bool:
        return (number == condition.number) is condition.equal

    if condition.scope is Scope.VM:
        return (
            Truth.unknown(f"{condition.name} was not read")
            if seen[0] is None
            else Truth.of(meets(seen[0]), f"{condition.name} is {seen[0]}")
        )
    return _some_vcpu(seen, meets, what)


@judge.register
def _(condition: SettingIs, facts: Facts) -> Truth:
    config = facts.vm.config if facts.vm else None
    if config is None:
        return Truth.unknown(f"how the VM was set up ({condition.name}) was not looked at")
    setting = config.settings.get(condition.name)
    if setting is None or setting.value is None:
        return Truth.unknown(setting.evidence if setting else f"there is no setting {condition.name}")
    value = setting.value.value if isinstance(setting.value, Enum) else setting.value
    return Truth.of(str(value) == condition.value, setting.evidence)


@judge.register
def _(condition: HasVmmOption, facts: Facts) -> Truth:
    argv = facts.vm.argv if facts.vm else None
    if argv is None:
        return Truth.unknown("the command line of the VMM was not read")
    given = {part for argument in argv for part in argument.split(",")}
    for option in condition.options:
        if option in given:
            return Truth.of(True, f"the VMM was started with {option}")
    return Truth.of(False, f"the VMM's command line has no {condition.options[0]}")


def _numbers(provider: str, scope: Scope, name: str, vm: CaveatSubject) -> tuple[int | None, ...]:
    """The value of the VM, or one for each of its vCPUs; None where it was not read, () if no block has the stat."""
    column = find_column(vm.sample, provider, scope, name)
    if column is None or column.descriptor.size != 1:
        return ()
    rows = slice(vm.row, vm.row + 1) if scope is Scope.VM else vm.sample.vcpus_of_vm[vm.row]
    words = column.words.view("int64") if column.descriptor.kind is Kind.INSTANT else column.words
    pairs = zip(words[rows].tolist(), column.known[rows].tolist(), strict=True)
    return tuple(int(word) if known else None for word, known in pairs)


def _some_vcpu(seen: tuple[int | None, ...], meets: Callable[[int], bool], what: str) -> Truth:
    found = sum(number is not None and meets(number) for number in seen)
    missing = sum(number is None for number in seen)
    if found:
        return Truth.of(True, f"{what} on {found} of {len(seen)} vCPUs")
    if missing:
        return Truth.unknown(f"{missing} of {len(seen)} vCPUs were not read")
    return Truth.of(False, f"{what} on none of {len(seen)} vCPUs")


def _apicv_of_host(machine: Machine, wanted: bool) -> Truth:
    """APICv is inactive if the host does not allow it; if the host does, it depends on the VM."""
    host = host_apicv(machine)
    for told in (host.supported, host.switched_on):
        if told.value is False:
            return Truth.of(not wanted, told.evidence)
    return Truth.unknown("it depends on the VM, whose state was not read")


# --- compound conditions ----------------------------------------------------------------------------------------------


@judge.register
def _(condition: AlwaysHolds, facts: Facts) -> Truth:
    return Truth.of(True, condition.why)


@judge.register
def _(condition: Undecidable, facts: Facts) -> Truth:
    return Truth.unknown(condition.why)


@judge.register
def _(condition: AllOf, facts: Facts) -> Truth:
    return _decide([judge(part, facts) for part in condition.parts], decisive=TruthValue.DOES_NOT_HOLD)


@judge.register
def _(condition: AnyOf, facts: Facts) -> Truth:
    return _decide([judge(part, facts) for part in condition.parts], decisive=TruthValue.HOLDS)


@judge.register
def _(condition: FirstKnown, facts: Facts) -> Truth:
    truths = [judge(part, facts) for part in condition.parts]
    return next((truth for truth in truths if truth.verdict is not TruthValue.CANNOT_TELL), truths[-1])


@judge.register
def _(condition: Inverted, facts: Facts) -> Truth:
    truth = judge(condition.part, facts)
    if truth.verdict is TruthValue.CANNOT_TELL:
        return truth
    return Truth.of(truth.verdict is TruthValue.DOES_NOT_HOLD, truth.reason)


def _decide(parts: list[Truth], *, decisive: TruthValue) -> Truth:
    """A part with the ``decisive`` verdict decides; otherwise an unknown part does; otherwise all parts agree."""
    for verdict in (decisive, TruthValue.CANNOT_TELL):
        for part in parts:
            if part.verdict is verdict:
                return part
    reasons = dict.fromkeys(part.reason for part in parts)
    return Truth(parts[0].verdict, "; ".join(reasons))
