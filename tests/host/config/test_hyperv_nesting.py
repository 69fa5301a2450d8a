"""Whether a guest is Windows, and what its Hyper-V is offered for nesting, by command lines and XML."""

from __future__ import annotations

import pytest

from kvmscope.host.apicv import Hardware
from kvmscope.host.config.hyperv_nesting import hyperv_nesting_of
from kvmscope.host.process import VmmProcess

ALL = "host,hv-vapic,hv-evmcs,hv-emsr-bitmap,hv-tlbflush,hv-tlbflush-direct"


def qemu(*options: str, program: str = "qemu-system-x86_64", vmm: str = "qemu") -> VmmProcess:
    return VmmProcess(1, vmm, "web", None, None, program, (program, *options), 1)


@pytest.mark.parametrize(
    ("cpu", "windows", "evidence"),
    [
        ("host,hv_time,hv-relaxed,hv-spinlocks=0x1fff", True, "-cpu …,hv-time and 2 more hv-*"),
        ("host,hv-evmcs=on", True, "-cpu …,hv-evmcs"),
        ("host,hv-time=off", False, "no hv-* in -cpu"),
        ("Haswell,+vmx", False, "no hv-* in -cpu"),
        ("host,hv_passthrough", None, "-cpu …,hv-passthrough=on may be given to any guest"),
        ("host,hv_passthrough,hv-time", None, "-cpu …,hv-passthrough=on may be given to any guest"),
    ],
)
def test_a_guest_with_single_enlightenments_is_most_likely_windows(
    cpu: str, windows: bool | None, evidence: str
) -> None:
    said = hyperv_nesting_of(qemu("-cpu", cpu)).windows
    assert (said.value, said.evidence, said.is_sure) == (windows, evidence, False)


@pytest.mark.parametrize(
    ("cpu", "intel", "amd"),
    [
        ("host,hv-time", ("no hv-evmcs", "no hv-emsr-bitmap", "no hv-tlbflush-direct"), None),
        ("host,hv-evmcs", ("no hv-emsr-bitmap", "no hv-tlbflush-direct"), None),
        (
            "host,hv-evmcs=off,hv-emsr-bitmap",
            ("-cpu …,hv-evmcs=off", "no hv-tlbflush-direct"),
            ("no hv-tlbflush-direct",),
        ),
        ("host,hv-emsr-bitmap,hv-tlbflush-direct", ("no hv-evmcs",), ()),
        (ALL, (), ()),
        ("host,hv-passthrough,hv-evmcs=off", (), ()),
    ],
)
def test_the_enlightened_vmcs_is_missed_on_intel_alone(
    cpu: str, intel: tuple[str, ...], amd: tuple[str, ...] | None
) -> None:
    offer = hyperv_nesting_of(qemu("-cpu", cpu))
    assert offer.missing(Hardware.INTEL) == intel
    assert offer.missing(Hardware.AMD) == (("no hv-emsr-bitmap", "no hv-tlbflush-direct") if amd is None else amd)
    assert offer.missing(None) == offer.missing(Hardware.OTHER) == ()


def test_cloud_hypervisor_tells_windows_and_has_nothing_for_its_hyper_v() -> None:
    offers = [
        hyperv_nesting_of(qemu("--cpus", cpus, program="cloud-hypervisor", vmm="cloud-hypervisor"))
        for cpus in ("boot=2,kvm_hyperv=on", "boot=2")
    ]
    assert [(offer.windows.value, offer.missing(Hardware.INTEL)) for offer in offers] == [(True, ()), (False, ())]


@pytest.mark.parametrize(
    "process",
    [
        None,
        qemu("-readconfig", "/run/vm.conf"),
        qemu("--api-socket", "/run/a.sock", program="cloud-hypervisor", vmm="cloud-hypervisor"),
        qemu("--id", "a", program="firecracker", vmm="firecracker"),
        qemu("-machine", "virt", program="qemu-system-aarch64"),
    ],
)
def test_what_cannot_be_seen_is_unknown(process: VmmProcess | None) -> None:
    offer = hyperv_nesting_of(process)
    assert (offer.windows.value, offer.missing(Hardware.INTEL)) == (None, ())


XML = """<domain type='kvm'><metadata><libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>
<libosinfo:os id='{}'/></libosinfo:libosinfo></metadata></domain>"""


@pytest.mark.parametrize(
    ("os_id", "windows"), [("http://microsoft.com/win/11", True), ("http://ubuntu.com/ubuntu/24.04", False)]
)
@pytest.mark.parametrize("cpu", ["host", "host,hv-time", "host,hv-passthrough"])
def test_the_system_that_libvirt_was_told_goes_before_what_the_options_suggest(
    os_id: str, windows: bool, cpu: str
) -> None:
    said = hyperv_nesting_of(qemu("-cpu", cpu), XML.format(os_id).encode()).windows
    assert (said.value, said.evidence, said.is_sure) == (windows, f"libosinfo id {os_id}", True)


@pytest.mark.parametrize(
    ("features", "windows", "missing"),
    [
        ("<hyperv><relaxed state='on'/></hyperv>", True, ("evmcs", "emsr_bitmap", "direct")),
        (
            "<hyperv><evmcs state='on'/><tlbflush state='on'><direct state='on'/></tlbflush></hyperv>",
            True,
            ("emsr_bitmap",),
        ),
        ("<hyperv mode='passthrough'/>", None, ()),
        ("", False, ("evmcs", "emsr_bitmap", "direct")),
    ],
)
def test_xml_tells_what_a_file_of_options_hides(features: str, windows: bool | None, missing: tuple[str, ...]) -> None:
    xml = f"<domain type='kvm'><features>{features}</features></domain>".encode()
    offer = hyperv_nesting_of(qemu("-readconfig", "vm.conf"), xml)
    assert offer.windows.value is windows
    assert offer.missing(Hardware.INTEL) == tuple(f"no <{name} state='on'/>" for name in missing)


def test_xml_that_is_broken_leaves_what_the_command_line_says() -> None:
    process = qemu("-cpu", "host,hv-time")
    assert hyperv_nesting_of(process, b"<domain") == hyperv_nesting_of(process)
