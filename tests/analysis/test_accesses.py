"""Which ports and MSRs are accessed most, and which errors ended a KVM_RUN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kvmscope.analysis.accesses import CountedError, counted_errors, frequent_accesses
from kvmscope.analysis.window import Window
from kvmscope.catalog.addresses import AddressSpace


def window_of(make_host: Callable[..., Any], rates: Mapping[str, float]) -> tuple[Window, int, int]:
    """A window of 2 s of two VMs; ``vm`` has these rates on each of two vCPUs. The rows of ``vm`` and of the other."""
    host = make_host()
    host.count(*rates)
    for name in ("quiet", "vm"):
        host.add(name)
    first = host.sample()
    host.run(2.0, rates)
    window = Window(first, host.sample())
    row = window.current.vms.ids.index(next(vm for vm in window.current.vms.ids if str(vm).startswith("766d")))
    return window, row, 1 - row


def test_the_most_frequent_accesses_come_first_and_rare_ones_not_at_all(make_host: Callable[..., Any]) -> None:
    counted = {"port_pm_timer": 4000.0, "port_rtc": 10.0, "msr_hv_clock": 9000.0, "msr_x2apic_icr": 300.0}
    window, row, other = window_of(make_host, {f"accesses.{stat}": rate for stat, rate in counted.items()})
    found = [(each.space, each.range and each.range.name, each.per_s) for each in frequent_accesses(window, row)]
    assert found == [
        (AddressSpace.MSR, "hv_clock", 18_000.0),
        (AddressSpace.PORT, "pm_timer", 8000.0),
        (AddressSpace.MSR, "x2apic_icr", 600.0),
    ]
    assert frequent_accesses(window, other) == []


def test_what_has_no_name_is_told_by_its_last_number(make_host: Callable[..., Any]) -> None:
    window, row, _ = window_of(make_host, {"accesses.msr_other": 500.0, "accesses.msr_other_number": 291.5})
    (found,) = frequent_accesses(window, row)
    assert (found.range, found.number, found.per_s) == (None, 583, 1000.0)


def test_errors_are_counted_by_their_cause(make_host: Callable[..., Any]) -> None:
    stats = {"internal_error_emulation": 0.5, "internal_error_delivery_ev": 1.5, "entry_failure_msr_load": 0.0}
    window, row, other = window_of(make_host, {f"userspace.{stat}": rate for stat, rate in stats.items()})
    assert counted_errors(window, row) == [
        CountedError("internal_error_delivery_ev", 6),
        CountedError("internal_error_emulation", 2),
    ]
    assert counted_errors(window, other) == []


def test_nothing_is_said_where_nothing_is_counted(make_host: Callable[..., Any]) -> None:
    window, row, _ = window_of(make_host, {})
    assert frequent_accesses(window, row) == []
    assert counted_errors(window, row) == []
