"""Whether KVM can offer guests a clock without exits, by the clock that the host itself keeps time by."""

from __future__ import annotations

from dataclasses import replace

import pytest
from crafted import MACHINE

from kvmscope.host.master_clock import has_master_clock
from kvmscope.linux.facts import Fact


@pytest.mark.parametrize(
    ("clocksource", "has_it"),
    [("tsc", True), ("hyperv_clocksource_tsc_page", True), ("kvm-clock", False), ("hpet", False), ("acpi_pm", False)],
)
def test_kvm_has_a_master_clock_where_the_host_keeps_time_by_the_tsc(clocksource: str, has_it: bool) -> None:
    found = has_master_clock(replace(MACHINE, architecture=Fact("x86_64"), clocksource=Fact(clocksource)))
    assert (found.value, found.evidence) == (has_it, f"the host's clocksource is {clocksource}")


def test_what_is_not_known_or_not_x86_is_not_judged() -> None:
    arm64 = replace(MACHINE, architecture=Fact("aarch64"), clocksource=Fact("arch_sys_counter"))
    older = replace(MACHINE, architecture=Fact("x86_64"))
    assert has_master_clock(arm64).value is None
    assert has_master_clock(older).value is None
    assert "older kvmscope" in has_master_clock(older).evidence
