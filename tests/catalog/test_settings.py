"""Settings of a VM: who writes them how, and what is said where somebody cannot."""

from __future__ import annotations

import pytest

from kvmscope.catalog.findings import load_findings
from kvmscope.catalog.inhibits import load_inhibits
from kvmscope.catalog.settings import ANY, PARTIES, SettingWay, load_settings, parse_settings, parties_of, ways_of
from kvmscope.errors import CatalogError

ENTRY = """
[[setting]]
name = "warp"
does = "Faster than light."
[setting.by]
qemu = "-machine warp=on"
kubevirt = "spec.warp: true"
any = "KVM_CAP_WARP"
[setting.cannot]
openstack = "Nova writes warp='off'"
firecracker = "Firecracker has no engine"
"""
MANAGED = (
    "kubevirt",
    "openstack",
    "proxmox",
    "incus",
    "ovirt",
    "cloudstack",
    "kata",
    "lima",
    "docker",
    "libvirt",
    "qemu",
    "cloud-hypervisor",
    "firecracker",
    "crosvm",
)


def ways(*parties: str) -> list[str]:
    return [str(way) for way in parse_settings(ENTRY, "settings.toml")["warp"].ways(parties)]


def test_the_outermost_manager_that_has_a_setting_writes_it() -> None:
    assert ways("kubevirt", "libvirt", "qemu") == ["KubeVirt: spec.warp: true"]
    assert ways("libvirt", "qemu") == ["QEMU: -machine warp=on"]


def test_a_manager_that_has_not_is_named_before_the_one_below_it() -> None:
    assert ways("openstack", "libvirt", "qemu") == ["Nova writes warp='off'", "QEMU: -machine warp=on"]


def test_a_manager_that_names_no_setting_says_what_it_does_with_options_and_those_below_come_after() -> None:
    text = ENTRY + '[[manager]]\nparty = "kata"\ntext = "Kata writes them"\n'
    warp = parse_settings(text, "settings.toml")["warp"]
    assert [str(way) for way in warp.ways(("kata", "qemu"))] == ["Kata writes them", "QEMU: -machine warp=on"]
    assert [way.is_possible for way in warp.ways(("kata", "firecracker"))] == [False, False]


def test_who_runs_qemu_through_libvirt_has_libvirts_words_after_its_own() -> None:
    said = [str(way) for way in ways_of(["pit-discard"], parties_of("qemu", "cloudstack"))]
    assert said[0].startswith("CloudStack adds libvirt's XML")
    assert said[1].startswith("libvirt: <timer name='pit' tickpolicy='discard'/>")


def test_a_vmm_that_has_not_is_the_end_and_an_unknown_one_is_told_what_to_call() -> None:
    assert ways("jailer", "firecracker") == ["Firecracker has no engine"]
    assert ways("other") == ways() == ["In the VMM: KVM_CAP_WARP"]


def test_nova_kubevirt_and_opennebula_run_qemu_through_libvirt() -> None:
    assert parties_of("qemu", "openstack") == ("openstack", "libvirt", "qemu")
    assert parties_of("qemu", "proxmox") == ("proxmox", "qemu")
    assert parties_of("crosvm", None) == ("crosvm",)
    assert parties_of(None, None) == ()


@pytest.mark.parametrize("party", MANAGED)
def test_every_setting_says_something_to_everybody(party: str) -> None:
    managed_by, vmm = (
        (None, party) if party in ("qemu", "cloud-hypervisor", "firecracker", "crosvm") else (party, "qemu")
    )
    for setting in load_settings().values():
        assert setting.ways(parties_of(vmm, managed_by)), f"{setting.name} says nothing for {party}"
        assert [way.party for way in setting.ways(())] == [ANY], f"{setting.name} says nothing to authors of VMMs: any"


@pytest.mark.parametrize(
    "party",
    "qemu libvirt kubevirt openstack proxmox incus cloud-hypervisor firecracker crosvm".split(),
)
def test_who_runs_most_vms_has_each_setting_or_the_reason_why_not(party: str) -> None:
    said = {name for name, each in load_settings().items() if {party} & {*each.by, *each.cannot, *each.unless_said}}
    assert said == load_settings().keys()


def test_remedies_leave_words_of_single_vmms_to_the_settings() -> None:
    """A remedy that names a setting needs no option of one VMM beside it."""
    for rule in load_findings():
        for remedy in rule.remedies:
            if remedy.settings:
                assert not any(sign in remedy.do for sign in ("-cpu", "-machine", "-overcommit", "<timer")), rule.slug


def test_every_setting_is_named_by_a_remedy() -> None:
    named = {name for rule in load_findings() for remedy in rule.remedies for name in remedy.settings}
    named |= {name for inhibit in load_inhibits().values() for name in inhibit.settings}
    assert named == set(load_settings())


@pytest.mark.parametrize(
    ("parties", "words"),
    [
        (parties_of("qemu", "kubevirt"), "spec.template.spec.domain.clock.timer.pit.tickPolicy: discard"),
        (parties_of("qemu", "libvirt"), "<timer name='pit' tickpolicy='discard'/>"),
        (parties_of("qemu", "openstack"), "hw:viommu_model=intel"),
        (parties_of("qemu", "proxmox"), "qm set VMID --args"),
        (parties_of("firecracker", "jailer"), "Firecracker does not call KVM_REINJECT_CONTROL"),
    ],
)
def test_the_pit_is_told_to_discard_ticks_in_the_words_of_who_runs_the_vm(parties: tuple[str, ...], words: str) -> None:
    assert any(words in str(way) for way in ways_of(["pit-discard"], parties))
    assert words in load_inhibits()["pit_reinj"].remedy(parties)


def test_a_way_names_its_party() -> None:
    assert str(SettingWay("openstack", "hw:x=y")) == f"{PARTIES['openstack']}: hw:x=y"


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        (ENTRY.replace("qemu =", "qemoo ="), "expected one of kubevirt, openstack"),
        (ENTRY.replace('does = "Faster than light."\n', ""), "expected a key 'does', found none"),
        (ENTRY.replace("firecracker =", "qemu ="), "expected a party that is not in 'by', found 'qemu'"),
        (ENTRY.replace('"-machine warp=on"', "7"), "expected text"),
        (ENTRY + ENTRY, "which line 2 has"),
        (ENTRY + '[[manager]]\nparty = "katta"\ntext = "x"\n', "expected one of kubevirt"),
        (ENTRY + 2 * '[[manager]]\nparty = "kata"\ntext = "x"\n', "which line 12 has"),
    ],
)
def test_what_the_file_may_not_say_is_refused_with_its_place(spoiled: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        parse_settings(spoiled, "settings.toml")
