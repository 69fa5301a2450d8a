"""What a host has of APICv or AVIC, from its parameters and flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from kvmscope.host.apicv import Hardware, HostApicv, host_apicv
from kvmscope.host.facts import Machine
from kvmscope.host.machine import read_machine
from kvmscope.linux.facts import CpuInfo, Fact, KernelModule


def machine(
    module: str | None, flags: Sequence[str] = (), *, architecture: str = "x86_64", kvm: str = "", **parameters: str
) -> Machine:
    vendor = KernelModule(module or "", False, {name: Fact(value) for name, value in parameters.items()})
    common = KernelModule("kvm", False, {name: Fact("N") for name in kvm.split()})
    return Machine(
        hostname=Fact("h"),
        kernel_release=Fact("6.12.1"),
        architecture=Fact(architecture),
        kvm=Fact(common),
        kvm_vendor=Fact(vendor) if module else Fact.unknown("no kvm_* in /sys/module"),
        cpu=Fact(CpuInfo("v", "m", frozenset(flags))),
        lockdown=Fact("none"),
    )


def amd(*flags: str, **parameters: str) -> HostApicv:
    return host_apicv(machine("kvm_amd", flags, **parameters))


def intel(*flags: str, **parameters: str) -> HostApicv:
    return host_apicv(machine("kvm_intel", flags, **parameters))


def test_avic_off_by_parameter_is_not_the_same_as_no_avic() -> None:
    off = amd("svm", "avic", "x2avic", avic="N", nested="1")
    assert (off.supported.value, off.switched_on.value, off.x2avic.value) == (True, False, True)
    assert off.switched_on.evidence == "kvm_amd.avic=N"
    without = amd("svm", avic="N")
    assert (without.supported.value, without.switched_on.value) == (False, False)
    assert "without avic" in without.supported.evidence


def test_avic_off_where_snp_is_on_may_be_for_want_of_hardware() -> None:
    off = amd("svm", "avic", "x2avic", avic="N", sev_snp="Y")
    assert (off.supported.value, off.switched_on.value) == (None, False)
    assert "kvm_amd.sev_snp=Y" in off.supported.evidence
    assert "HvInUseWrAllowed" in off.supported.evidence
    assert amd("svm", "avic", avic="N", sev_snp="N").supported.value is True
    assert amd("svm", "avic", avic="Y", sev_snp="Y").supported.value is True


def test_forced_avic_counts_as_had() -> None:
    forced = amd("svm", avic="N", force_avic="Y")
    assert forced.supported.value is True
    assert "force_avic=Y" in forced.supported.evidence


def test_a_parameter_that_stayed_on_proves_the_hardware() -> None:
    assert amd("svm", avic="Y").supported.value is True
    assert intel("vmx", enable_apicv="Y").supported.value is True


def test_a_value_that_is_neither_yes_nor_no_is_unknown() -> None:
    host = amd("svm", "avic", avic="auto")
    assert host.switched_on.value is None
    assert host.switched_on.evidence == "kvm_amd.avic=auto"


def test_ipi_virtualization_is_part_of_avic_where_amd_has_no_parameter() -> None:
    assert amd("avic", avic="Y").ipi.value is True
    assert amd("avic", avic="Y", enable_ipiv="N").ipi.value is False


@pytest.mark.parametrize(
    ("flags", "parameters", "has_it"),
    [
        (("apicv", "vtpr", "ipi_virt"), {"enable_ipiv": "N"}, True),
        (("apicv", "vtpr"), {"enable_ipiv": "N"}, False),
        (("apicv", "vtpr"), {"enable_ipiv": "Y"}, True),
        (("apicv",), {"enable_ipiv": "N"}, None),
    ],
)
def test_whether_an_intel_cpu_has_ipi_virtualization_is_told_from_whether_it_is_on(
    flags: tuple[str, ...], parameters: dict[str, str], has_it: bool | None
) -> None:
    host = intel(*flags, enable_apicv="Y", **parameters)
    assert host.cpu_ipi.value is has_it
    assert host.ipi.value is (parameters.get("enable_ipiv") == "Y")


@pytest.mark.parametrize(("family", "has_it"), [(0x17, False), (0x18, False), (0x19, True), (0x1A, True), (None, None)])
def test_a_cpu_with_erratum_1235_is_told_from_one_where_ipi_virtualization_is_switched_off(
    family: int | None, has_it: bool | None
) -> None:
    cpu = Fact(CpuInfo("AuthenticAMD", "m", frozenset({"svm", "avic"}), family))
    host = host_apicv(replace(machine("kvm_amd", avic="Y", enable_ipiv="N"), cpu=cpu))
    assert host.ipi.value is False
    assert host.cpu_ipi.value is has_it
    assert ("erratum 1235" in host.cpu_ipi.evidence) is (family is not None)


def test_intel_without_the_parameter_has_no_ipi_virtualization() -> None:
    assert intel("apicv", enable_apicv="Y").ipi.value is False
    assert intel("apicv", enable_apicv="Y", enable_ipiv="Y").ipi.value is True


def test_device_posting_is_unknown_where_there_is_no_parameter() -> None:
    assert intel(enable_apicv="Y").device_posting.value is None
    assert intel(enable_apicv="Y", enable_device_posted_irqs="N").device_posting.value is False
    of_kvm = host_apicv(machine("kvm_amd", ["avic"], kvm="enable_device_posted_irqs", avic="Y"))
    assert of_kvm.device_posting.value is False


@pytest.mark.parametrize(
    ("flags", "supported"),
    [
        (["vmx", "vtpr", "apicv"], True),
        (["vmx", "vtpr", "vapic_reg", "vid", "posted_intr"], True),
        (["vmx", "vtpr", "vnmi"], False),
        (["vmx"], None),
    ],
)
def test_intel_cpus_are_told_by_their_vmx_flags(flags: list[str], supported: bool | None) -> None:
    assert intel(*flags, enable_apicv="N").supported.value is supported


def test_another_kvm_module_knows_none_of_it() -> None:
    host = host_apicv(machine("kvm_pvm", ["svm", "avic"]))
    assert host.hardware is Hardware.OTHER
    assert host.supported.value is False
    assert "kvm_pvm" in host.supported.evidence


def test_another_architecture_knows_none_of_it() -> None:
    host = host_apicv(machine("kvm", architecture="aarch64"))
    assert (host.is_x86, host.supported.value) == (False, False)
    assert "aarch64" in host.supported.evidence


def test_an_unknown_module_leaves_everything_unknown_with_the_reason() -> None:
    host = host_apicv(machine(None))
    assert host.hardware is None
    assert host.supported.value is None
    assert host.supported.evidence == "no kvm_* in /sys/module"


def test_this_machine_can_be_asked() -> None:
    host = host_apicv(read_machine())
    assert host.supported.evidence
