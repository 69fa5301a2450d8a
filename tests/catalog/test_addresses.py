"""Names of ports and MSRs: each number belongs to the first range that has it, and no name is there in vain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from kvmscope.catalog.addresses import AddressSpace, load_addresses, parse_addresses
from kvmscope.errors import CatalogError
from kvmscope.host.apicv import HostFlag
from kvmscope.host.config.clocks import ClockConfig
from kvmscope.host.config.settings import Setting
from kvmscope.view.added_causes import clock_causes, host_clock_causes

ENTRY = """
provider = "somebody"
[[port]]
name = "rtc"
first = 0x70
last = 0x71
means = "the RTC"
"""


def name_of(space: AddressSpace, number: int) -> str | None:
    ranges = load_addresses().spaces[space]
    return next((each.name for each in ranges if any(first <= number <= last for first, last in each.spans)), None)


PORTS: Mapping[int, str | None] = {
    0x20: "pic",
    0xA0: "pic_2",
    0x40: "pit",
    0x43: "pit",
    0x60: "keyboard",
    0x61: "speaker",  # NMI_REASON_PORT, KVM_SPEAKER_BASE_ADDRESS
    0x62: None,
    0x64: "keyboard",
    0x70: "rtc",
    0x71: "rtc",
    0x72: None,
    0x80: "delay",
    0xED: "delay",
    0xB2: "smi",
    0xE9: "debug",
    0x402: "debug",
    0x170: "ide_2",
    0x376: "ide_2",
    0x1F0: "ide",
    0x3F6: "ide",
    0x1CE: "vga_mode",
    0x3C4: "vga",
    0x2E8: "serial_4",
    0x2F8: "serial_2",
    0x3E8: "serial_3",
    0x3F8: "serial",
    0x378: "parallel",
    0x3F5: "floppy",
    0x3F7: "floppy",
    0x511: "firmware",
    0x604: "power",
    0x608: "pm_timer",
    0x60C: None,
    0x620: "power_events",
    0xB008: "pm_timer_old",
    0xCF8: "pci",
    0xCFC: "pci",
    0x5658: "vmware",
    0xC040: None,
}
MSRS: Mapping[str, tuple[int, str | None]] = {
    "IA32_TSC": (0x10, "tsc"),
    "KVM_WALL_CLOCK": (0x11, "kvm_clock"),
    "KVM_SYSTEM_TIME": (0x12, "kvm_clock"),
    "IA32_APICBASE": (0x1B, "apic_base"),
    "IA32_TSC_ADJUST": (0x3B, "tsc_adjust"),
    "IA32_SPEC_CTRL": (0x48, "spec_ctrl"),
    "IA32_PRED_CMD": (0x49, "spec_ctrl"),
    "IA32_FLUSH_CMD": (0x10B, "spec_ctrl"),
    "AMD64_VIRT_SPEC_CTRL": (0xC001_011F, "spec_ctrl"),
    "IA32_PERFCTR0": (0xC1, "perf_counters"),
    "IA32_PMC0": (0x4C1, "perf_counters"),
    "IA32_MPERF": (0xE7, "frequency"),
    "IA32_PERF_CTL": (0x199, "frequency"),
    "P6_EVNTSEL0": (0x186, "perf"),
    "CORE_PERF_FIXED_CTR0": (0x309, "perf_global"),
    "CORE_PERF_GLOBAL_CTRL": (0x38F, "perf_global"),
    "CORE_PERF_GLOBAL_STATUS_SET": (0x391, "perf_global"),
    "no performance counter": (0x310, None),
    "IA32_TSC_DEADLINE": (0x6E0, "tsc_deadline"),
    "x2APIC task priority": (0x808, "x2apic_other"),
    "x2APIC end of interrupt": (0x80B, "x2apic_eoi"),
    "x2APIC interrupt command": (0x830, "x2apic_icr"),
    "x2APIC timer's vector": (0x832, "x2apic_timer"),
    "x2APIC timer's initial count": (0x838, "x2apic_timer"),
    "x2APIC timer's divider": (0x83E, "x2apic_timer"),
    "x2APIC self IPI": (0x83F, "x2apic_self_ipi"),
    "HV_X64_MSR_VP_RUNTIME": (0x4000_0010, "hv_other"),
    "HV_X64_MSR_TIME_REF_COUNT": (0x4000_0020, "hv_clock"),
    "HV_X64_MSR_REFERENCE_TSC": (0x4000_0021, "hv_other"),
    "HV_X64_MSR_EOI": (0x4000_0070, "hv_eoi"),
    "HV_X64_MSR_ICR": (0x4000_0071, "hv_icr"),
    "HV_X64_MSR_TPR": (0x4000_0072, "hv_tpr"),
    "HV_X64_MSR_EOM": (0x4000_0084, "hv_synic"),
    "HV_X64_MSR_SINT15": (0x4000_009F, "hv_synic"),
    "HV_X64_MSR_STIMER0_CONFIG": (0x4000_00B0, "hv_timers"),
    "HV_X64_MSR_STIMER3_COUNT": (0x4000_00B7, "hv_timers"),
    "HV_X64_MSR_TSC_INVARIANT_CONTROL": (0x4000_0118, "hv_other"),
    "KVM_SYSTEM_TIME_NEW": (0x4B56_4D01, "kvm_clock"),
    "KVM_ASYNC_PF_ACK": (0x4B56_4D07, "kvm_async_pf"),
    "KVM_MIGRATION_CONTROL": (0x4B56_4D08, "kvm_async_pf"),
    "EFER": (0xC000_0080, "efer"),
    "KERNEL_GS_BASE": (0xC000_0102, "kernel_gs"),
    "AMD64_PERF_CNTR_GLOBAL_CTL": (0xC000_0301, "perf_amd_core"),
    "K7_PERFCTR3": (0xC001_0007, "perf_amd"),
    "F15H_PERF_CTR5": (0xC001_020B, "perf_amd_core"),
    "nothing": (0x12345, None),
}
"""Linux's names of MSRs without MSR_, and Intel's words for registers of the local APIC."""


@pytest.mark.parametrize(("number", "name"), PORTS.items(), ids=[f"{number:#x}" for number in PORTS])
def test_a_port_has_the_name_of_what_it_belongs_to(number: int, name: str | None) -> None:
    assert name_of(AddressSpace.PORT, number) == name


@pytest.mark.parametrize(("number", "name"), MSRS.values(), ids=MSRS)
def test_an_msr_has_the_name_of_what_it_belongs_to(number: int, name: str | None) -> None:
    assert name_of(AddressSpace.MSR, number) == name


@pytest.mark.parametrize("space", AddressSpace)
def test_every_range_has_a_number_in_this_table(space: AddressSpace) -> None:
    named = {AddressSpace.PORT: set(PORTS.values()), AddressSpace.MSR: {name for _, name in MSRS.values()}}
    assert {each.name for each in load_addresses().spaces[space]} == named[space] - {None}


def test_clocks_that_accesses_bear_out_are_causes_that_there_are() -> None:
    all_off = ClockConfig(*(Setting(value, "said") for value in (True, False, False, True, True, True)))
    no_timers = replace(all_off, hyperv_clock=Setting(True, "said"))
    causes = {cause.name for clocks in (all_off, no_timers) for cause in clock_causes(clocks)}
    borne_out = {name for ranges in load_addresses().spaces.values() for each in ranges for name in each.clocks}
    causes |= {cause.name for cause in host_clock_causes(HostFlag(False, "said"))}
    assert borne_out | {"hpet"} == causes


def test_the_numbers_of_a_range_are_shown_with_those_beside_it() -> None:
    (keyboard,) = (each for each in load_addresses().spaces[AddressSpace.PORT] if each.name == "keyboard")
    assert keyboard.numbers == "0x60, 0x64"


@pytest.mark.parametrize("space", AddressSpace)
def test_no_range_is_hidden_by_those_before_it(space: AddressSpace) -> None:
    for each in load_addresses().spaces[space]:
        for first, last in each.spans:
            assert any(name_of(space, number) == each.name for number in range(first, last + 1)), f"{first:#x}"


@pytest.mark.parametrize(
    ("change", "blamed"),
    [
        (("last = 0x71", "last = 0x6f"), "last"),
        (('name = "rtc"', 'name = "the RTC"'), "name"),
        (("first = 0x70\n", ""), "first"),
        (("[[port]]", "[[ports]]"), "ports"),
        (('provider = "somebody"', ""), "provider"),
        (("last = 0x71", 'last = 0x71\nalso = ["0x64"]'), "also"),
    ],
    ids=[
        "ends before it begins",
        "no name of a stat",
        "incomplete",
        "unknown space",
        "nobody counts",
        "a text beside it",
    ],
)
def test_a_table_that_is_wrong_is_refused_by_its_place(change: tuple[str, str], blamed: str) -> None:
    assert parse_addresses(ENTRY, "x.toml").provider == "somebody"
    with pytest.raises(CatalogError, match=blamed):
        parse_addresses(ENTRY.replace(*change), "x.toml")
