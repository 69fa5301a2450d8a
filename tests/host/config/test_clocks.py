"""The clocks that a guest is offered, by command lines and XML."""

from __future__ import annotations

import pytest

from kvmscope.host.config.clocks import ClockConfig, clocks_of
from kvmscope.host.process import VmmProcess

Offer = tuple[bool | None, bool | None, bool | None, bool | None]


def qemu(*options: str, program: str = "qemu-system-x86_64", vmm: str = "qemu") -> VmmProcess:
    return VmmProcess(1, vmm, "web", None, None, program, (program, *options), 1)


def offer(clocks: ClockConfig) -> Offer:
    return (
        clocks.enlightened.value,
        clocks.hyperv_clock.value,
        clocks.hyperv_timers.value,
        clocks.hpet.value,
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), (False, False, False, True)),
        (("-machine", "q35"), (False, False, False, True)),
        (("-machine", "pc-q35-8.2,hpet=off"), (False, False, False, False)),
        (("-no-hpet",), (False, False, False, False)),
        (("-M", "microvm"), (False, False, False, False)),
        (("-cpu", "host,hv-relaxed=on"), (True, False, False, True)),
        (("-cpu", "host,hv_relaxed,hv_time"), (True, True, False, True)),
        (("-cpu", "host,hv-time,hv-vpindex,hv-synic,hv-stimer"), (True, True, True, True)),
        (("-cpu", "host,hv-time,hv-vpindex,hv-stimer,hv-synic=off"), (True, True, False, True)),
        (("-cpu", "host,hv_passthrough,hv-time=off"), (True, True, True, True)),
        (("-cpu", "host,hv-time=off"), (False, False, False, True)),
        (("-readconfig", "vm.conf"), (None, None, None, None)),
        (("-cpu", "host,hv_passthrough", "-readconfig", "/run/incus/win/qemu.conf"), (True, True, True, None)),
    ],
)
def test_what_the_command_line_of_qemu_offers(options: tuple[str, ...], expected: Offer) -> None:
    assert offer(clocks_of(qemu(*options))) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--cpus", "boot=2", "--kernel", "k"), (False, False, False, False)),
        (("--cpus=boot=2,kvm_hyperv=on",), (True, True, True, False)),
        (("--disk", "path=a", "--cpus", "boot=2,kvm_hyperv=off"), (False, False, False, False)),
        (("--api-socket", "/run/a.sock"), (None, None, None, None)),
    ],
)
def test_what_the_command_line_of_cloud_hypervisor_offers(options: tuple[str, ...], expected: Offer) -> None:
    clocks = clocks_of(qemu(*options, program="cloud-hypervisor", vmm="cloud-hypervisor"))
    assert offer(clocks) == expected
    assert clocks.pm_timer.value is (None if expected[0] is None else True)


def test_the_evidence_is_the_option_or_the_default() -> None:
    clocks = clocks_of(qemu("-machine", "q35", "-cpu", "host,hv-time,hv-synic"))
    assert clocks.hpet.evidence == "machine type q35: hpet=on by default"
    assert clocks.hyperv_clock.evidence == "-cpu …,hv-time=on"
    assert clocks.hyperv_timers.evidence == "-cpu without hv-stimer"


XML = b"""<domain type='kvm'><features><hyperv><synic state='on'/><stimer state='on'/></hyperv></features>
<clock><timer name='hypervclock' present='yes'/>%b</clock></domain>"""


@pytest.mark.parametrize(
    ("timer", "hpet"),
    [(b"<timer name='hpet' present='no'/>", False), (b"<timer name='hpet' present='yes'/>", True), (b"", True)],
)
def test_xml_tells_what_a_file_of_options_hides(timer: bytes, hpet: bool) -> None:
    assert offer(clocks_of(qemu("-readconfig", "vm.conf"), XML % timer)) == (True, True, True, hpet)


def test_xml_without_hyperv_offers_none_of_its_clocks() -> None:
    assert offer(clocks_of(qemu("-readconfig", "vm.conf"), b"<domain type='kvm'/>")) == (False, False, False, True)


def test_damaged_xml_and_other_vmms_tell_nothing() -> None:
    nothing = (None, None, None, None)
    assert offer(clocks_of(qemu("-readconfig", "vm.conf"), b"<domain")) == nothing
    assert offer(clocks_of(qemu(program="qemu-system-aarch64"))) == nothing
    assert offer(clocks_of(qemu(vmm="firecracker"))) == nothing
    assert offer(clocks_of(None)) == nothing


@pytest.mark.parametrize(
    ("options", "pm_timer", "rtc_catchup"),
    [
        ((), True, False),
        (("-no-acpi",), False, False),
        (("-M", "microvm"), False, False),
        (("-machine", "q35,acpi=off", "-rtc", "driftfix=slew"), False, True),
        (("-rtc", "base=utc", "-rtc", "driftfix=slew"), True, True),
        (("-readconfig", "vm.conf"), None, None),
    ],
)
def test_timers_that_qemu_emulates(options: tuple[str, ...], pm_timer: bool | None, rtc_catchup: bool | None) -> None:
    clocks = clocks_of(qemu(*options))
    assert (clocks.pm_timer.value, clocks.rtc_catchup.value) == (pm_timer, rtc_catchup)


@pytest.mark.parametrize(
    ("xml", "pm_timer", "rtc_catchup"),
    [
        (b"<features><acpi/></features><clock><timer name='rtc' tickpolicy='catchup'/></clock>", True, True),
        (b"<features><apic/></features><clock><timer name='rtc' tickpolicy='delay'/></clock>", False, False),
        (b"<clock><timer name='pit' tickpolicy='catchup'/></clock>", False, False),
    ],
)
def test_timers_of_libvirt_s_xml(xml: bytes, pm_timer: bool, rtc_catchup: bool) -> None:
    clocks = clocks_of(qemu("-readconfig", "vm.conf"), b"<domain type='kvm'>%b</domain>" % xml)
    assert (clocks.pm_timer.value, clocks.rtc_catchup.value) == (pm_timer, rtc_catchup)
