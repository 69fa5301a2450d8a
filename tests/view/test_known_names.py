from __future__ import annotations

import pytest

from kvmscope.host.process import VmmProcess
from kvmscope.scene import VmIdentity
from kvmscope.view.known_names import known_names, selecting_names

XML = b"""<domain type='kvm'><title>shop</title><metadata>
<nova:instance xmlns:nova='http://openstack.org/nova/instance/1.1'><nova:name>db-1</nova:name>
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
