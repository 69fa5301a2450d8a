"""Causes that are added to findings: what is said of the clocks on offer."""

from __future__ import annotations

from kvmscope.host.config.clocks import clocks_of
from kvmscope.host.process import VmmProcess
from kvmscope.view.added_causes import clock_causes


def causes(*options: str) -> dict[str, str]:
    """Name and evidence of what is said of a QEMU with these options."""
    argv = ("qemu-system-x86_64", *options)
    process = VmmProcess(1, "qemu", "win", None, None, argv[0], argv, 1)
    return {cause.name: cause.cause for cause in clock_causes(clocks_of(process))}


def test_a_windows_guest_without_a_clock_of_hyper_v_is_told_with_the_option_that_is_missing() -> None:
    assert causes("-machine", "q35", "-cpu", "host,hv-relaxed,hv-vapic") == {
        "hyperv-clock": "-cpu without hv-time",
        "hpet": "machine type q35: hpet=on by default",
    }


def test_a_clock_without_timers_is_told() -> None:
    assert causes("-machine", "pc,hpet=off", "-cpu", "host,hv-time") == {
        "hyperv-timers": "-cpu without hv-synic, hv-stimer"
    }


def test_nothing_is_said_of_a_guest_that_has_all_it_needs_or_is_not_known() -> None:
    assert causes("-machine", "pc,hpet=off", "-cpu", "host,hv-time,hv-synic,hv-stimer,hv-vpindex") == {}
    assert causes("-machine", "pc,hpet=off", "-cpu", "host,hv-passthrough,hv-time=off") == {}
    assert causes("-readconfig", "vm.conf") == {}
