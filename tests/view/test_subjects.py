"""Which VM a word means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvmscope.errors import UsageError
from kvmscope.host.process import VmmProcess
from kvmscope.scene import Scene, VmIdentity
from kvmscope.view.subjects import Selection, find_subject

UUID = "12345678-1234-1234-1234-123456789abc"


@pytest.fixture
def scene(crafted: Any) -> Scene:
    names = ("web", "a/b", "twin#1", "twin#2", "4242", "bad\x1b")
    vms = [
        crafted.vm(f"{i}-{name}", [crafted.vcpu(0), crafted.vcpu(5)], pid=[4242, 50, 60, 60, 70, 80][i])
        for i, name in enumerate(names)
    ]
    return Scene(
        crafted.make_sample(vms),
        tuple(VmIdentity(name, crafted.process(name, UUID) if name == "bad\x1b" else None) for name in names),
        crafted.machine,
        {},
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web", Selection(0, None)),
        ("web/5", Selection(0, 1)),
        ("a/b", Selection(1, None)),
        ("a/b/0", Selection(1, 2)),
        ("twin#2", Selection(3, None)),
        ("50", Selection(1, None)),
        ("50/5", Selection(1, 3)),
        ("70", Selection(4, None)),
        ("12345678-1234-1234-1234-123456789ABC", Selection(5, None)),
        ("12345678/5", Selection(5, 11)),
        ("bad\x1b", Selection(5, None)),
        (r"bad\x1b", Selection(5, None)),
        ("302d776562", Selection(0, None)),  # the beginning of the id, which is made of "0-web"
        ("302D776562/0", Selection(0, 0)),
    ],
)
def test_a_word_means_one_subject(scene: Scene, text: str, expected: Selection) -> None:
    assert find_subject(scene, text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("twin", "'twin' matches 2 VMs: twin#1, twin#2"),
        ("60", "'60' matches 2 VMs: twin#1, twin#2"),
        ("4242", "'4242' matches 2 VMs: web, 4242; choose by id: 302d776562111111, 342d343234321111"),
        ("wep", "there is no VM 'wep'; did you mean web?"),
        ("302", "there is no VM '302'"),
        ("", "there is no VM ''"),
        ("/", "there is no VM '/'"),
        ("web/", "web has no vCPU ''; it has 0, 5"),
        ("web/1", "web has no vCPU '1'; it has 0, 5"),
    ],
)
def test_a_word_that_fits_none_or_several_is_refused(scene: Scene, text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        find_subject(scene, text)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("web/5", "web/5", "'web/5' may be a VM, or a vCPU of web; choose by id: 312d7765622f3511, 302d776562111111/5"),
        ("web/6", "web/6", None),
        ("302d776562111111", "302d776562111111", None),
        ("٤٢٤٢", "٤٢٤٢", None),
        ("x", "٤٢٤٢", "there is no VM '٤٢٤٢'"),
        ("x", "4" * 5000, "there is no VM '444"),
        ("x", "web/" + "5" * 5000, "web has no vCPU '555"),
    ],
)
def test_a_name_takes_no_word_from_another_vm(crafted: Any, name: str, text: str, message: str | None) -> None:
    vms = [
        crafted.vm(f"{i}-{each}", [crafted.vcpu(0), crafted.vcpu(5)], pid=4242) for i, each in enumerate(("web", name))
    ]
    identities = tuple(VmIdentity(each, None) for each in ("web", name))
    scene = Scene(crafted.make_sample(vms), identities, crafted.machine, {})
    if message is None:
        expected = 0 if text == str(scene.sample.vms.vm_id(0)) else 1
        assert find_subject(scene, text) == Selection(expected, None)
        return
    with pytest.raises(UsageError) as raised:
        find_subject(scene, text)
    assert str(raised.value).startswith(message)


def managed(scene: Scene, row: int, *known_as: tuple[str, str]) -> Scene:
    """The scene, in which managers know one of its VMs."""
    identities = list(scene.identities)
    process = VmmProcess(7, "qemu", identities[row].name, None, None, "qemu-kvm", (), 1, known_as)
    identities[row] = replace(identities[row], process=process)
    return replace(scene, identities=tuple(identities))


def named(crafted: Any, *names: str) -> Scene:
    """A host with VMs called so by their VMMs, numbered where several have one name."""
    from kvmscope.collect.live import _distinct

    vms = [crafted.vm(f"{place}", [crafted.vcpu(0)], pid=100 + place) for place in range(len(names))]
    sample = crafted.make_sample(vms)
    sample = replace(sample, vms=replace(sample.vms, label=("",) * len(names)))
    processes = [crafted.process(name, None) for name in names]
    shown = _distinct(list(names))
    identities = tuple(map(VmIdentity, shown, processes))
    return Scene(sample, identities, crafted.machine, {})


@pytest.mark.parametrize("text", ["twin#1", "twin#2", "twin#3"])
def test_a_number_that_moved_since_a_vm_is_really_called_so_is_refused(crafted: Any, text: str) -> None:
    assert find_subject(named(crafted, "twin", "twin"), "twin#1") == Selection(0, None)
    with pytest.raises(UsageError, match=f"'{text}' matches 3 VMs: .*; choose by id: "):
        find_subject(named(crafted, "twin", "twin", "twin#1"), text)
    assert find_subject(named(crafted, "twin", "twin#1"), "twin#1") == Selection(1, None)


def test_a_name_as_a_screen_cuts_it_selects_the_one_vm_that_begins_so(crafted: Any) -> None:
    scene = named(crafted, "web-production-a-1", "web-production-b-1", "db")
    assert find_subject(scene, "web-production-a…") == Selection(0, None)
    assert find_subject(scene, "web-production-b…/0") == Selection(1, 1)
    with pytest.raises(UsageError, match="matches 2 VMs: web-production-a-1, web-production-b-1"):
        find_subject(scene, "web-prod…")
    with pytest.raises(UsageError, match="there is no VM"):
        find_subject(scene, "…")


def test_a_name_with_bytes_that_are_not_text_is_found_as_it_is_and_as_it_is_shown(crafted: Any) -> None:
    scene = named(crafted, "web-\udcff", "db")
    assert find_subject(scene, "web-\udcff") == find_subject(scene, r"web-\xff") == Selection(0, None)


def test_a_vm_goes_by_what_its_manager_calls_it(scene: Scene) -> None:
    found = find_subject(managed(scene, 1, ("openstack.name", "db"), ("openstack.flavor", "m1.large")), "db/5")
    assert found == Selection(1, 3)


def test_a_managers_id_that_is_another_vms_process_id_is_refused(scene: Scene) -> None:
    with pytest.raises(UsageError, match="matches 2 VMs: web, a/b"):
        find_subject(managed(scene, 0, ("proxmox.vmid", "50")), "50")


def test_what_many_vms_have_in_common_names_none_of_them(scene: Scene) -> None:
    with pytest.raises(UsageError, match=r"there is no VM 'm1\.large'"):
        find_subject(managed(scene, 1, ("openstack.flavor", "m1.large")), "m1.large")
