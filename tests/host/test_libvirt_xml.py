from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.errors import FormatError
from kvmscope.host.libvirt_xml import MAX_BYTES, CpuFeature, Iommu, Timer, parse_domain

DATA = Path(__file__).parents[1] / "data" / "host" / "libvirt"
RUNNING = (DATA / "running.xml").read_bytes()
DEFINED = (DATA / "defined.xml").read_bytes()


def test_a_running_domain_is_read_whole() -> None:
    domain = parse_domain(RUNNING)
    assert domain.is_running
    assert (domain.type, domain.name, domain.uuid) == ("kvm", "win-desk", "5d3c5b9e-1d2f-4a0e-8f5d-2a6a1c1f0e77")
    assert (domain.pid, domain.machine) == (4001, "pc-q35-8.2")
    assert (domain.vcpus, domain.current_vcpus) == (8, 2)
    assert domain.apic
    assert domain.pae
    assert domain.ioapic_driver == "qemu"
    assert domain.hyperv_mode == "custom"
    assert domain.hyperv_flag("synic") is True
    assert domain.hyperv_flag("stimer") is True
    assert domain.hyperv_flag("avic") is False
    assert domain.hyperv_flag("evmcs") is None
    assert domain.os_id is None
    assert domain.timer("pit") == Timer("pit", None, "delay")
    assert domain.timer("hpet") == Timer("hpet", False, None)
    assert domain.timer("kvmclock") is None
    assert domain.launch_security == "sev-snp"
    assert domain.cpu_mode == "host-passthrough"
    assert domain.cpu_features == (CpuFeature("svm", "disable"), CpuFeature("x2apic", "require"))
    assert domain.iommu == Iommu("intel", interrupt_remapping=True, eim=True, xtsup=None)
    assert domain.vcpu_threads == ((0, 4010), (1, 4011))


def test_what_a_definition_does_not_say_is_none() -> None:
    domain = parse_domain(DEFINED)
    assert not domain.is_running
    assert (domain.name, domain.vcpus, domain.current_vcpus, domain.pid) == ("plain", 4, 4, None)
    assert (domain.apic, domain.pae) == (False, False)
    assert (domain.ioapic_driver, domain.hyperv_mode, domain.launch_security, domain.iommu) == (None, None, None, None)
    assert (domain.cpu_mode, domain.cpu_model) == (None, None)
    assert not (domain.hyperv or domain.timers or domain.cpu_features or domain.vcpu_threads)


def test_a_text_too_large_is_refused() -> None:
    with pytest.raises(FormatError, match="at most"):
        parse_domain(b" " * (MAX_BYTES + 1))


def test_entities_are_never_expanded() -> None:
    bomb = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(12)
    )
    began = time.process_time()
    for text in (
        bomb + "]><domain><name>&m;</name></domain>",
        '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><domain><name>&x;</name></domain>',
        '<!DOCTYPE d SYSTEM "http://127.0.0.1/d.dtd"><domain/>',
    ):
        for encoding in ("utf-8", "utf-16"):
            with pytest.raises(FormatError, match="document type"):
                parse_domain(text.encode(encoding))
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<domain>",
        b"<network/>",
        b"<domstatus/>",
        b"<domain></domain><domain/>",
        b"<domain>&nbsp;</domain>",
        b"<a>" * 100,
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="no-such-thing"?><domain/>',
    ],
)
def test_what_is_no_domain_is_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_domain(data)


@pytest.mark.parametrize("length", range(0, len(RUNNING) - 12, 37))
def test_every_truncation_is_a_format_error(length: int) -> None:
    with pytest.raises(FormatError):
        parse_domain(RUNNING[:length])


@given(
    st.binary(max_size=300)
    | st.builds(lambda at, b: RUNNING[:at] + b + RUNNING[at + 1 :], st.integers(0, 2500), st.binary(max_size=3))
)
def test_any_bytes_are_a_domain_or_a_format_error(data: bytes) -> None:
    try:
        parse_domain(data)
    except FormatError as error:
        assert error.offset >= 0


NOVA = b"""<domain type='kvm'><name>instance-0000002a</name><title>the shop's database</title><metadata>
<libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'/>
<n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'><n:name>db-1</n:name>
<n:flavor name='m1.large'><n:memory>8192</n:memory></n:flavor>
<n:owner><n:user uuid='a'>joe</n:user><n:project uuid='b'>acme</n:project></n:owner></n:instance>
</metadata></domain>"""


def test_title_and_what_nova_wrote_down_are_read_whatever_prefix_it_uses() -> None:
    assert parse_domain(NOVA).known_as == (
        ("libvirt.title", "the shop's database"),
        ("openstack.name", "db-1"),
        ("openstack.project", "acme"),
        ("openstack.flavor", "m1.large"),
    )


def test_an_instance_of_another_namespace_is_not_novas() -> None:
    assert parse_domain(NOVA.replace(b"openstack.org/xmlns", b"example.org/xmlns")).known_as[1:] == ()
