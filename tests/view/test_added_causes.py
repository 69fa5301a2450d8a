"""Causes that are added to findings: what is said of clocks, of ports and MSRs, and of errors."""

from __future__ import annotations

from kvmscope.analysis.accesses import CountedError, FrequentAccess
from kvmscope.catalog.addresses import AddressSpace, load_addresses
from kvmscope.host.config.clocks import clocks_of
from kvmscope.host.process import VmmProcess
from kvmscope.view.added_causes import access_cause, clock_causes, error_cause


def causes(*options: str) -> dict[str, str]:
    """Name and evidence of what is said of a QEMU with these options."""
    argv = ("qemu-system-x86_64", *options)
    process = VmmProcess(1, "qemu", "win", None, None, argv[0], argv, 1)
    return {cause.name: cause.cause for cause in clock_causes(clocks_of(process))}


def test_a_windows_guest_without_a_clock_of_hyper_v_is_told_with_the_option_that_is_missing() -> None:
    assert causes("-machine", "q35", "-cpu", "host,hv-relaxed,hv-vapic") == {
        "hyperv-clock": "-cpu without hv-time",
        "acpi-pm-timer": "machine type q35: acpi=on by default",
        "hpet": "machine type q35: hpet=on by default",
    }


def test_a_clock_without_timers_is_told() -> None:
    assert causes("-machine", "pc,hpet=off", "-cpu", "host,hv-time") == {
        "hyperv-timers": "-cpu without hv-synic, hv-stimer"
    }


def test_lost_ticks_of_the_rtc_that_are_made_up_for_are_told() -> None:
    clocks = ("-machine", "pc,hpet=off", "-cpu", "host,hv-time,hv-synic,hv-stimer")
    assert causes(*clocks, "-rtc", "base=localtime,driftfix=slew") == {"rtc-catchup": "-rtc driftfix=slew"}
    assert causes(*clocks, "-rtc", "base=localtime,driftfix=none") == {}


def test_nothing_is_said_of_a_guest_that_has_all_it_needs_or_is_not_known() -> None:
    assert causes("-machine", "pc,hpet=off", "-cpu", "host,hv-time,hv-synic,hv-stimer,hv-vpindex") == {}
    assert causes("-machine", "pc,hpet=off", "-cpu", "host,hv-passthrough,hv-time=off") == {}
    assert causes("-readconfig", "vm.conf") == {}


def test_an_msr_is_told_by_its_number_and_what_to_do() -> None:
    icr = next(each for each in load_addresses().spaces[AddressSpace.MSR] if each.name == "x2apic_icr")
    cause = access_cause(FrequentAccess(AddressSpace.MSR, icr, None, 12_345.6))
    assert (cause.name, cause.cause) == ("MSR x2apic_icr", "MSR 0x830")
    assert cause.meaning.startswith("12,346 accesses a second: IPIs")


def test_a_port_without_a_name_is_told_by_its_number() -> None:
    cause = access_cause(FrequentAccess(AddressSpace.PORT, None, 0x10, 500.0))
    assert (cause.name, cause.cause) == ("port other", "port 0x10, the last of its kind")


def test_an_error_is_told_by_its_suberror() -> None:
    cause = error_cause(CountedError("internal_error_delivery_ev", 3))
    assert (cause.name, cause.cause) == ("internal_error_delivery_ev", "3 in this interval")
    assert cause.meaning.startswith("Suberror 3:")
