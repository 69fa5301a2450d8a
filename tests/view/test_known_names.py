from __future__ import annotations

import pytest

from kvmscope.host.process import VmmProcess
from kvmscope.scene import VmIdentity
from kvmscope.view.known_names import known_names, manager_of, selecting_names

XML = b"""<domain type='kvm'><title>shop</title><metadata>
<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'><nova:name>db-1</nova:name>
<nova:flavor name='m1.large'/></nova:instance></metadata></domain>"""
DOMAIN = (("openstack.uuid", "83a66210"), ("libvirt.domain", "instance-2a"))


def identity(*known_as: tuple[str, str], xml: bytes | None = None) -> VmIdentity:
    process = VmmProcess(5, "qemu", "instance-2a", None, "openstack", "qemu-kvm", (), 1, known_as)
    return VmIdentity("instance-2a", process, xml)


def test_words_of_the_command_line_and_of_the_xml_stand_together() -> None:
    assert known_names(identity(*DOMAIN, xml=XML)) == {
        "openstack.uuid": "83a66210",
        "libvirt.domain": "instance-2a",
        "libvirt.title": "shop",
        "openstack.name": "db-1",
        "openstack.flavor": "m1.large",
    }


def test_what_many_vms_have_selects_none() -> None:
    assert selecting_names(identity(*DOMAIN, xml=XML)) == {"83a66210", "instance-2a", "shop", "db-1"}


@pytest.mark.parametrize("xml", [b"", b"<domain", b"<!DOCTYPE x><domain/>", b"<network/>"])
def test_a_damaged_xml_adds_no_words(xml: bytes) -> None:
    assert known_names(identity(*DOMAIN, xml=xml)) == dict(DOMAIN)


def test_a_vm_whose_vmm_is_not_known_has_no_words() -> None:
    assert known_names(VmIdentity("pid-5", None)) == {}


OPENNEBULA = b"""<domain type='kvm'><name>one-7</name><metadata><one:vm xmlns:one='http://opennebula.org/xmlns/libvirt/1.0'>
<one:name>shop</one:name><one:uname>ann</one:uname><one:gname>users</one:gname></one:vm></metadata></domain>"""
KUBEVIRT = b"""<domain type='kvm'><metadata><kubevirt xmlns='http://kubevirt.io'><uid>1f0e9d8c</uid></kubevirt>
</metadata></domain>"""


@pytest.mark.parametrize(
    ("by_process", "xml", "manager"),
    [
        ("libvirt", XML, "openstack"),
        ("libvirt", OPENNEBULA, "opennebula"),
        ("libvirt", KUBEVIRT, "kubevirt"),
        ("libvirt", b"<domain type='kvm'><title>t</title></domain>", "libvirt"),
        ("libvirt", b"<network/>", "libvirt"),
        ("libvirt", None, "libvirt"),
        ("openstack", OPENNEBULA, "openstack"),
        (None, None, None),
    ],
)
def test_a_manager_that_shows_in_the_xml_alone_stands_above_libvirt(
    by_process: str | None, xml: bytes | None, manager: str | None
) -> None:
    process = VmmProcess(5, "qemu", "vm", None, by_process, "qemu-kvm", (), 1)
    assert manager_of(VmIdentity("vm", process, xml)) == manager


def test_names_in_opennebula_and_kubevirt_are_known_and_a_group_selects_none() -> None:
    assert known_names(identity(xml=OPENNEBULA)) == {"opennebula.name": "shop", "opennebula.group": "users"}
    assert selecting_names(identity(xml=OPENNEBULA)) == {"shop"}
    assert known_names(identity(xml=KUBEVIRT)) == {"kubevirt.uid": "1f0e9d8c"}
