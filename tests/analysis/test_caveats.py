"""Which caveats hold: each condition known to hold, known not to, and not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from kvmscope.analysis.caveats import CaveatSubject, Facts, Truth, TruthValue, facts_of, judge, judge_all
from kvmscope.catalog.caveats import load_caveats, parse_caveats
from kvmscope.catalog.stats import load_stats
from kvmscope.codec.settings import vm_schema
from kvmscope.codec.snapshot import Feature
from kvmscope.host.config.settings import Confidential, InterruptConfig, Setting
from kvmscope.host.facts import Machine
from kvmscope.host.machine import read_machine
from kvmscope.linux.facts import CpuInfo, Fact, KernelModule
from kvmscope.sample import Sample, VmId
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Unit
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

HOLDS, NOT, UNKNOWN = TruthValue.HOLDS, TruthValue.DOES_NOT_HOLD, TruthValue.CANNOT_TELL
DARK: Fact[str] = Fact.unknown("nobody looked")

VCPU = Schema(
    "kvm",
    Scope.VCPU,
    tuple(
        Descriptor(name, kind, offset=8 * place)
        for place, (name, kind) in enumerate(
            {
                "exits": Kind.CUMULATIVE,
                "halt_exits": Kind.CUMULATIVE,
                "halt_attempted_poll": Kind.CUMULATIVE,
                "halt_wakeup": Kind.CUMULATIVE,
                "nested_run": Kind.CUMULATIVE,
                "guest_mode": Kind.INSTANT,
            }.items()
        )
    ),
    48,
)
ACTIVE = Schema("apicv", Scope.VCPU, (Descriptor("apicv_active", Kind.INSTANT, Unit.BOOLEAN),), 8)
IRQCHIP = Schema(
    "apicv",
    Scope.VM,
    (
        Descriptor("irqchip_kernel", Kind.INSTANT, Unit.BOOLEAN),
        Descriptor("irqchip_split", Kind.INSTANT, Unit.BOOLEAN, offset=8),
    ),
    16,
)


def machine(
    module: str | None = "kvm_intel",
    parameters: Mapping[str, str] | None = None,
    kvm: Mapping[str, str] | None = None,
    architecture: Fact[str] | None = None,
    flags: Sequence[str] | None = ("vmx",),
) -> Machine:
    """A host as it could be read; None is what could not."""

    def made(name: str, values: Mapping[str, str] | None) -> Fact[KernelModule]:
        return Fact(KernelModule(name, False, {key: Fact(value) for key, value in (values or {}).items()}))

    return Machine(
        hostname=Fact("host"),
        kernel_release=Fact("6.12.0"),
        architecture=architecture or Fact("x86_64"),
        kvm=made("kvm", kvm),
        kvm_vendor=made(module, parameters) if module else Fact.unknown("no module"),
        cpu=Fact(CpuInfo("GenuineIntel", "some", frozenset(flags)))
        if flags is not None
        else Fact.unknown("no cpuinfo"),
        lockdown=DARK,
    )


def vm(
    *vcpus: Mapping[str, int],
    active: Sequence[int] = (),
    irqchip: tuple[int, int] | None = None,
    settings: tuple[int, int, int] | None = None,
) -> Sample:
    """One VM with these vCPUs, after another one of which nothing must be taken."""

    def vcpu(place: int, values: Mapping[str, int]) -> VcpuStats:
        stats = [StatsOf(VCPU, np.array([values.get(d.name, 0) for d in VCPU.descriptors], dtype=np.uint64))]
        if place < len(active):
            stats.append(StatsOf(ACTIVE, np.array([active[place]], dtype=np.uint64)))
        return VcpuStats(place, stats)

    other = VmStats(VmId(1), [], [VcpuStats(0, [StatsOf(VCPU, np.full(6, 77, dtype=np.uint64))])])
    own = [] if irqchip is None else [StatsOf(IRQCHIP, np.array(irqchip, dtype=np.uint64))]
    if settings is not None:
        words = [*settings, *[0] * (SETTINGS.words - len(settings))]
        own.append(StatsOf(SETTINGS, np.array(words, dtype=np.uint64)))
    made = VmStats(VmId(2), own, [vcpu(place, values) for place, values in enumerate(vcpus)])
    return assemble([other, made], source="test", taken_ns=0, monotonic_ns=0)


_EVERY_SETTING = vm_schema(Feature.HLT_EXITS | Feature.HALT_POLL_CAP | Feature.HALT_POLL_CAP_SET)
assert _EVERY_SETTING is not None
SETTINGS = _EVERY_SETTING


def told(condition: str, facts: Facts) -> Truth:
    text = f'[[caveat]]\nslug = "some"\ntext = "Some."\nholds_if = {condition}\n'
    return judge(parse_caveats(text)["some"].holds_if, facts)


def told_of(slug: str, host: Machine, sample: Sample | None = None, argv: tuple[str, ...] | None = None) -> TruthValue:
    facts = Facts(host) if sample is None else facts_of(host, sample, CaveatSubject(sample, 1, argv=argv))
    return judge(load_caveats()[slug].holds_if, facts).verdict


@pytest.mark.parametrize(
    ("value", "verdict"), [("Y", HOLDS), ("1", HOLDS), ("N", NOT), ("0", NOT), ("auto", NOT), (None, UNKNOWN)]
)
def test_a_parameter_is_as_sysfs_writes_it(value: str | None, verdict: TruthValue) -> None:
    host = machine(parameters={} if value is None else {"pml": value})
    assert told('{parameter = "kvm_intel.pml", is = "Y"}', Facts(host)).verdict is verdict


def test_a_parameter_that_a_module_lacks_has_the_value_that_the_condition_gives_it() -> None:
    condition = '{parameter = "kvm_intel.tdx", is = "Y", absent = "N"}'
    assert told(condition, Facts(machine())) == Truth(NOT, "kvm_intel has no parameter tdx here")
    assert told(condition, Facts(machine(parameters={"tdx": "Y"}))).verdict is HOLDS
    assert told(condition, Facts(machine("kvm_amd"))).verdict is UNKNOWN
    assert told_of("tdx-injections", machine()) is NOT, "whatever is known of the VM"
    assert told_of("amd-vnmi", machine("kvm_amd")) is NOT


def test_a_number_is_no_switch() -> None:
    facts = Facts(machine(kvm={"halt_poll_ns": "0"}))
    assert told('{parameter = "kvm.halt_poll_ns", is = "0"}', facts) == Truth(HOLDS, "kvm.halt_poll_ns is 0")
    assert told('{parameter = "kvm.halt_poll_ns", is = "1"}', facts).verdict is NOT


def test_what_is_not_known_of_a_parameter_is_never_a_no() -> None:
    condition = '{parameter = "kvm_intel.pml", is = "Y"}'
    assert told(condition, Facts(machine("kvm_amd"))) == Truth(UNKNOWN, "kvm_intel is not in use here")
    assert told(condition, Facts(machine())) == Truth(UNKNOWN, "kvm_intel has no parameter pml here")
    assert told(condition, Facts(machine(None))).verdict is UNKNOWN
    unreadable = KernelModule("kvm_intel", False, {"pml": Fact[str].unknown("permission denied")})
    host = replace(machine(), kvm_vendor=Fact(unreadable))
    assert told(condition, Facts(host)) == Truth(UNKNOWN, "permission denied")


@pytest.mark.parametrize(("module", "verdict"), [("kvm_amd", HOLDS), ("kvm_intel", NOT), (None, UNKNOWN)])
def test_the_module_is_the_one_that_runs_the_guests(module: str | None, verdict: TruthValue) -> None:
    assert told('{module = "kvm_amd"}', Facts(machine(module))).verdict is verdict


@pytest.mark.parametrize(
    ("architecture", "verdict"),
    [(Fact("s390x"), HOLDS), (Fact("x86_64"), NOT), (Fact("vax"), UNKNOWN), (DARK, UNKNOWN)],
)
def test_an_architecture_is_named_as_its_directory(architecture: Fact[str], verdict: TruthValue) -> None:
    assert told('{architecture = "s390"}', Facts(machine(architecture=architecture))).verdict is verdict


def test_a_cpu_has_a_flag_or_not_or_nobody_knows() -> None:
    condition = '{cpu_flag = "x2avic"}'
    assert told(condition, Facts(machine(flags=["x2avic"]))).verdict is HOLDS
    assert told(condition, Facts(machine(flags=[]))).verdict is NOT
    assert told(condition, Facts(machine(flags=None))) == Truth(UNKNOWN, "no cpuinfo")


@pytest.mark.parametrize(
    ("host", "tdp", "shadow"),
    [
        (machine("kvm_intel", {"ept": "Y"}), HOLDS, NOT),
        (machine("kvm_intel", {"ept": "N"}), NOT, HOLDS),
        (machine("kvm_amd", {"npt": "1"}), HOLDS, NOT),
        (machine("kvm_amd", {"npt": "0"}), NOT, HOLDS),
        (machine("kvm_pvm"), NOT, HOLDS),
        (machine("kvm_intel"), UNKNOWN, UNKNOWN),
        (machine("kvm_hv"), UNKNOWN, UNKNOWN),
        (machine(None), UNKNOWN, UNKNOWN),
    ],
)
def test_who_translates_addresses_follows_from_the_module(host: Machine, tdp: TruthValue, shadow: TruthValue) -> None:
    assert told('{paging = "tdp"}', Facts(host)).verdict is tdp
    assert told('{paging = "shadow"}', Facts(host)).verdict is shadow


def test_a_stat_is_had_only_where_its_kernel_was_read() -> None:
    facts = Facts(machine(), (VCPU,))
    assert told('{stat = "exits"}', facts) == Truth(HOLDS, "this kernel has exits")
    assert told('{stat = "pf_taken"}', facts) == Truth(NOT, "this kernel has no pf_taken")
    assert told('{stat = "exits", scope = "vm"}', facts).verdict is UNKNOWN
    assert told('{stat = "exits"}', Facts(machine())).verdict is UNKNOWN


@pytest.mark.parametrize(
    ("active", "is_active", "is_inactive"),
    [
        ((1, 1), HOLDS, NOT),
        ((0, 0), NOT, HOLDS),
        ((1, 0), HOLDS, HOLDS),
        ((1,), HOLDS, UNKNOWN),
        ((), UNKNOWN, UNKNOWN),
    ],
)
def test_interrupt_acceleration_is_that_of_the_vcpus(
    active: tuple[int, ...], is_active: TruthValue, is_inactive: TruthValue
) -> None:
    sample = vm({}, {}, active=active)
    facts = facts_of(machine(parameters={"enable_apicv": "Y"}), sample, CaveatSubject(sample, 1))
    assert told('{apicv = "active"}', facts).verdict is is_active
    assert told('{apicv = "inactive"}', facts).verdict is is_inactive


def test_a_host_without_interrupt_acceleration_has_it_active_nowhere() -> None:
    facts = Facts(machine(parameters={"enable_apicv": "N"}))
    assert told('{apicv = "active"}', facts).verdict is NOT
    assert told('{apicv = "inactive"}', facts).verdict is HOLDS


def test_a_value_is_that_of_some_vcpu_of_the_vm() -> None:
    sample = vm({"guest_mode": 0}, {"guest_mode": 1})
    facts = facts_of(machine(), sample, CaveatSubject(sample, 1))
    assert told('{value = "guest_mode", is_not = 0}', facts) == Truth(HOLDS, "guest_mode is not 0 on 1 of 2 vCPUs")
    assert told('{value = "guest_mode", is = 5}', facts).verdict is NOT
    assert told('{value = "nested_run", is_not = 0}', facts) == Truth(NOT, "nested_run is not 0 on none of 2 vCPUs")


def test_an_instant_that_fell_below_0_is_no_huge_number() -> None:
    sample = vm({"guest_mode": 2**64 - 1})
    assert (
        told('{value = "guest_mode", is = -1}', facts_of(machine(), sample, CaveatSubject(sample, 1))).verdict is HOLDS
    )


def test_a_value_that_was_not_read_is_not_known() -> None:
    sample = vm({})
    facts = facts_of(machine(), sample, CaveatSubject(sample, 1))
    assert told('{value = "invented", is = 0}', facts).verdict is UNKNOWN
    assert told('{value = "irqchip_kernel", provider = "apicv", scope = "vm", is = 0}', facts).verdict is UNKNOWN
    assert told('{value = "exits", is = 0}', Facts(machine())).verdict is UNKNOWN


def test_a_value_of_a_vm_is_its_own() -> None:
    sample = vm({}, irqchip=(0, 1))
    facts = facts_of(machine(), sample, CaveatSubject(sample, 1))
    assert told('{value = "irqchip_split", provider = "apicv", scope = "vm", is = 1}', facts).verdict is HOLDS
    assert told('{value = "irqchip_kernel", provider = "apicv", scope = "vm", is_not = 0}', facts).verdict is NOT


def test_a_setting_is_that_of_the_vms_configuration() -> None:
    sample = vm({})
    condition = '{setting = "confidential", is = "tdx"}'
    unknown = InterruptConfig.unknown("qemu", "no command line")
    for value, verdict in ((Confidential.TDX, HOLDS), (Confidential.SEV, NOT)):
        config = replace(unknown, confidential=Setting(value, "-object"))
        assert told(condition, facts_of(machine(), sample, CaveatSubject(sample, 1, config))) == Truth(
            verdict, "-object"
        )
    assert told(condition, facts_of(machine(), sample, CaveatSubject(sample, 1, unknown))) == Truth(
        UNKNOWN, "no command line"
    )
    assert told(condition, facts_of(machine(), sample, CaveatSubject(sample, 1))).verdict is UNKNOWN


def test_an_option_stands_on_the_vmms_command_line() -> None:
    sample = vm({})
    condition = '{vmm_option = ["cpu-pm=on", "cpu-pm"]}'
    for argv, verdict in (
        (("qemu", "-overcommit", "mem-lock=off,cpu-pm=on"), HOLDS),
        (("qemu", "-overcommit", "cpu-pm"), HOLDS),
        (("qemu", "-overcommit", "cpu-pm=off"), NOT),
        (("qemu", "-name", "not-cpu-pm=on"), NOT),
        (None, UNKNOWN),
    ):
        facts = facts_of(machine(), sample, CaveatSubject(sample, 1, argv=argv))
        assert told(condition, facts).verdict is verdict, argv


YES, NO, DUNNO = '{module = "kvm_intel"}', '{module = "kvm_amd"}', '{cannot_tell = "dark"}'


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        (f"{{all = [{YES}, {YES}]}}", HOLDS),
        (f"{{all = [{DUNNO}, {NO}]}}", NOT),
        (f"{{all = [{DUNNO}, {YES}]}}", UNKNOWN),
        (f"{{any = [{NO}, {NO}]}}", NOT),
        (f"{{any = [{DUNNO}, {YES}]}}", HOLDS),
        (f"{{any = [{DUNNO}, {NO}]}}", UNKNOWN),
        (f"{{not = {YES}}}", NOT),
        (f"{{not = {NO}}}", HOLDS),
        (f"{{not = {DUNNO}}}", UNKNOWN),
        (f"{{first_known = [{DUNNO}, {NO}, {YES}]}}", NOT),
        (f"{{first_known = [{YES}, {NO}]}}", HOLDS),
        (f"{{first_known = [{DUNNO}]}}", UNKNOWN),
        ('{always = "so it is"}', HOLDS),
    ],
)
def test_what_is_not_known_decides_only_where_nothing_else_does(condition: str, verdict: TruthValue) -> None:
    assert told(condition, Facts(machine())).verdict is verdict


def test_the_reason_is_that_of_the_part_that_decides() -> None:
    assert told(f"{{all = [{YES}, {DUNNO}]}}", Facts(machine())).reason == "dark"
    assert told(f"{{any = [{DUNNO}, {YES}]}}", Facts(machine())).reason == "kvm_intel runs the guests"
    assert told('{all = [{always = "a"}, {always = "b"}, {always = "a"}]}', Facts(machine())).reason == "a; b"


# --- the catalogue's own, on hosts and VMs as they are ----------------------------------------------------------------

INTEL = machine("kvm_intel", {"ept": "Y", "eptad": "Y", "pml": "Y", "tdx": "N"}, {"tdp_mmu": "Y", "mmio_caching": "Y"})
OLD_INTEL = machine("kvm_intel", {"ept": "Y", "eptad": "N", "pml": "N"}, {"tdp_mmu": "Y"})
AMD = machine("kvm_amd", {"npt": "1", "vnmi": "1"}, {"tdp_mmu": "Y", "halt_poll_ns": "0"})
PVM = machine("kvm_pvm", {}, {"tdp_mmu": "N", "mmio_caching": "N", "nx_huge_pages": "N"})


@pytest.mark.parametrize(
    ("host", "dirty_logging", "pml", "access_tracking", "direct_only"),
    [
        (INTEL, NOT, HOLDS, NOT, NOT),
        (OLD_INTEL, HOLDS, NOT, HOLDS, NOT),
        (AMD, HOLDS, NOT, NOT, NOT),
        (PVM, NOT, NOT, NOT, HOLDS),
        (machine("kvm_intel", {"ept": "Y"}), UNKNOWN, UNKNOWN, UNKNOWN, NOT),
    ],
)
def test_what_pf_fast_says_of_dirty_pages_depends_on_the_cpu(
    host: Machine, dirty_logging: TruthValue, pml: TruthValue, access_tracking: TruthValue, direct_only: TruthValue
) -> None:
    assert told_of("pf-fast-dirty-logging", host) is dirty_logging
    assert told_of("pf-fast-pml", host) is pml
    assert told_of("pf-fast-access-tracking", host) is access_tracking
    assert told_of("pf-fast-direct-only", host) is direct_only


def test_caveats_of_the_host_hold_by_its_parameters() -> None:
    assert told_of("tdp-mmu", INTEL) is HOLDS
    assert told_of("tdp-mmu", PVM) is NOT
    assert told_of("polling-off", AMD) is HOLDS
    assert told_of("polling-off", INTEL) is UNKNOWN
    assert told_of("mmio-caching-off", PVM) is HOLDS
    assert told_of("mmio-caching-off", INTEL) is NOT
    assert told_of("nx-huge-pages-off", PVM) is HOLDS
    assert told_of("pvm-io-exits", PVM) is HOLDS
    assert told_of("amd-vnmi", AMD) is HOLDS
    assert told_of("host-state-amd", INTEL) is NOT


def test_exits_off_for_halts_are_told_by_the_option_and_ruled_out_by_a_halt() -> None:
    option = ("qemu", "-overcommit", "cpu-pm=on")
    assert told_of("halts-in-guest", INTEL, vm({"exits": 5}), argv=option) is HOLDS
    assert told_of("halts-in-guest", INTEL, vm({"exits": 5, "halt_exits": 2}), argv=option) is NOT
    assert told_of("halts-in-guest", INTEL, vm({"exits": 5}), argv=("qemu",)) is UNKNOWN
    assert told_of("halts-in-guest", INTEL, vm({"exits": 5})) is UNKNOWN
    assert told_of("halts-in-guest", INTEL) is UNKNOWN


def test_halts_return_to_a_vmm_that_emulates_the_apics() -> None:
    assert told_of("halts-in-vmm", INTEL, vm({}, irqchip=(0, 0))) is HOLDS
    assert told_of("halts-in-vmm", INTEL, vm({}, irqchip=(0, 1))) is NOT
    assert told_of("halts-in-vmm", INTEL, vm({})) is UNKNOWN


def test_a_vm_that_never_polls_may_be_kept_from_it() -> None:
    assert told_of("polling-per-vm", INTEL, vm({"halt_wakeup": 9})) is UNKNOWN
    assert told_of("polling-per-vm", INTEL, vm({"halt_wakeup": 9, "halt_attempted_poll": 1})) is NOT
    assert told_of("polling-per-vm", INTEL, vm({})) is NOT


def test_a_kernel_without_pf_taken_counts_pf_fixed_in_the_old_way() -> None:
    assert told_of("pf-fixed-of-old", INTEL, vm({})) is HOLDS
    assert told_of("pf-fixed-of-old", machine(architecture=Fact("aarch64")), vm({})) is NOT


def test_every_caveat_of_every_stat_can_be_judged_on_this_machine() -> None:
    caveats = load_caveats()
    host = read_machine()
    for facts in (Facts(host), facts_of(host, vm({"exits": 1}), CaveatSubject(vm({"exits": 1}), 1))):
        for entry in load_stats():
            truths = judge_all(caveats, entry.caveats, facts)
            assert list(truths) == list(entry.caveats)
            assert all(truth.reason for truth in truths.values())


def test_what_kvm_was_told_about_halts_goes_before_the_command_line() -> None:
    option = ("qemu", "-overcommit", "cpu-pm=on")
    assert told_of("halts-in-guest", INTEL, vm({"exits": 5}, settings=(1, 0, 0)), argv=("qemu",)) is HOLDS
    assert told_of("halts-in-guest", INTEL, vm({"exits": 5}, settings=(0, 0, 0)), argv=option) is NOT


def test_a_limit_of_polling_is_the_vms_own_only_once_it_is_set() -> None:
    asleep = {"halt_wakeup": 9}
    assert told_of("polling-per-vm", INTEL, vm(asleep, settings=(0, 1, 0))) is HOLDS
    assert told_of("polling-per-vm", INTEL, vm(asleep, settings=(0, 1, 50_000))) is UNKNOWN
    assert told_of("cap-not-set", INTEL, vm(asleep, settings=(0, 0, 0))) is HOLDS
    assert told_of("cap-not-set", INTEL, vm(asleep, settings=(0, 1, 0))) is NOT
