"""What a filter finds: the same of many VMs at once as of one, in whatever case, and what changes from view to view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from crafted import MACHINE, VcpuSpec, VmSpec, identities, make_sample

from kvmscope.scene import Scene
from kvmscope.view.trouble import troubles_of
from kvmscope.view.vm_search import VmSearch, has_text
from kvmscope.view.watch import HostView, Watch


def guests(second: int, *, count: int = 3) -> list[VmSpec]:
    """The first one polls a device."""
    storm = {"exits": 9_000 * second, "mmio_exits": 9_000 * second, "fpu_reload": 9_000 * second}
    stats: Sequence[dict[str, int]] = [storm, *[{"exits": 100 * second}] * (count - 1)]
    names, vmms = ("Web-1", "db-2", "cache-3", "late"), ("qemu", "qemu", "other", "crosvm")
    return [
        VmSpec(name, [VcpuSpec(0, counts)], pid=4_000 + place, vmm=vmm)
        for place, (name, counts, vmm) in enumerate(zip(names, stats, vmms, strict=False))
    ]


def views(*counts: int) -> list[HostView]:
    """One a second, after the first; of so many VMs."""
    watch, found = Watch(), list[HostView | None]()
    for second, count in enumerate(counts):
        vms = guests(second, count=count)
        found.append(watch.add(Scene(make_sample(vms, at_s=second), identities(vms), MACHINE, {})))
    return [view for view in found if view is not None]


def names(view: HostView, search: VmSearch, text: str) -> list[str]:
    found = search.matching(view.overview.vms, troubles_of(view.judgement.findings), text)
    return [vm.name for vm in view.overview.vms if vm.id in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web", ["Web-1"]),
        ("WEB-1", ["Web-1"]),
        ("-", ["Web-1", "db-2", "cache-3"]),
        ("4001", ["db-2"]),
        ("qemu", ["Web-1", "db-2", "cache-3"]),
        ("qemu-system", ["cache-3"]),
        ("mmio-st", ["Web-1"]),
        ("nothing", []),
        ("1234-1234-1234", ["Web-1", "db-2", "cache-3"]),
    ],
)
def test_it_finds_vms_by_what_they_are_called_and_by_their_finding(text: str, expected: list[str]) -> None:
    view = views(3, 3, 3, 3)[-1]
    assert names(view, VmSearch(), text) == expected
    troubles = troubles_of(view.judgement.findings).of_vm
    assert [vm.name for vm in view.overview.vms if has_text(vm, troubles.get(vm.id), text)] == expected


def test_it_finds_every_vm_by_its_id() -> None:
    view = views(3, 3)[-1]
    assert [names(view, VmSearch(), str(vm.id)) for vm in view.overview.vms] == [["Web-1"], ["db-2"], ["cache-3"]]


def test_vms_that_come_go_or_are_named_again_are_found_as_they_are_now() -> None:
    search = VmSearch()
    three, four, two = views(3, 3, 4, 2)
    assert names(three, search, "late") == []
    assert names(four, search, "late") == ["late"]
    assert names(two, search, "cache") == []
    scene = two.scene
    called = (replace(scene.identities[0], name="other-name"), *scene.identities[1:])
    watch = Watch()
    watch.add(three.scene)
    named = watch.add(replace(scene, identities=called))
    assert named is not None
    assert names(named, search, "web") == []
    assert names(named, search, "other-name") == ["other-name"]
