"""A VM that was chosen is followed by its id: whatever is called so later, and until it ends."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kvmscope.sample import VmId
from kvmscope.scene import Scene
from kvmscope.view.subjects import FollowedVm, Selection, follow


@pytest.fixture
def scene(crafted: Any) -> Scene:
    return Scene(crafted.after, crafted.identities, crafted.machine, {})


def test_a_vm_is_the_same_one_under_another_name(scene: Scene) -> None:
    followed = follow(scene, "half")
    renamed = replace(scene, identities=tuple(replace(each, name="half") for each in scene.identities))
    assert followed.locate(renamed) == Selection(2, None)


def test_a_vcpu_is_found_by_its_id(scene: Scene) -> None:
    assert follow(scene, "half/1").locate(scene) == Selection(2, 4)
    assert replace(follow(scene, "half/1"), vcpu=7).locate(scene) is None


def test_a_vm_that_ended_is_not_found(scene: Scene) -> None:
    assert FollowedVm(VmId(1), "gone", None).locate(scene) is None


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["hist", "gone", "halt_wait_hist", "--interval", "1ms"], "no value was counted"),
        (["apicv", "gone", "--interval", "1ms"], "\ngone: "),
        (["apicv", "gone", "--watch", "--interval", "1ms"], "\ngone: "),
    ],
)
def test_a_vm_that_ends_is_reported_with_what_was_seen(
    kvmscope: Any, crafted: Any, arguments: list[str], shown: str
) -> None:
    result = kvmscope.run(*arguments, on=[crafted.before, crafted.after])
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        0,
        "gone ended during the interval: its state at the beginning is shown",
    )
    assert shown in result.stdout


def test_a_watch_shows_what_it_has_until_its_vm_ends(kvmscope: Any, crafted: Any) -> None:
    samples = [crafted.before, crafted.middle, crafted.after]
    result = kvmscope.run("apicv", "gone", "--watch", "--interval", "1ms", "--json", on=samples)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["interval_s"] for answer in answers] == [1.0]
    assert "gone ended during the interval" in result.stderr


def test_a_twin_by_name_is_not_taken_for_the_vm(kvmscope: Any, crafted: Any) -> None:
    """As when a migration brings a second VM of that name to the host."""
    twin = crafted.make_sample([crafted.vm("web-1", [crafted.vcpu(0)], pid=1), crafted.vm("web-1x", [])], at_s=2)
    result = kvmscope.run("hist", "web-1", "halt_wait_hist", "--interval", "1ms", on=[crafted.before, twin])
    assert result.exit_code == 0
