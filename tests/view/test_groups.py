"""Statistics by owner, and what groups counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kvmscope.analysis.window import Window
from kvmscope.catalog.groups import load_groups
from kvmscope.errors import Unavailable
from kvmscope.scene import Scene
from kvmscope.view.groups import (
    GroupState,
    GroupView,
    ProgramRuns,
    StatOwner,
    group_list_lines,
    group_list_view,
    group_trial_lines,
    group_trial_view,
)
from kvmscope.view.subjects import find_subject


@pytest.fixture
def scene(crafted: Any) -> Scene:
    return Scene(crafted.after, crafted.identities, crafted.machine, {})


WAKEUPS = GroupView(
    name="wakeups",
    owner=StatOwner.KVMSCOPE,
    state=GroupState.NOT_HERE,
    note="no such tracepoint",
    vm_stats=None,
    vcpu_stats=None,
    bytes_per_vm=None,
    bytes_per_vcpu=None,
    ns_per_event=750,
    total_bytes=None,
)


def test_providers_have_their_owner_and_what_is_unknown_is_a_dash(scene: Scene) -> None:
    view = group_list_view(scene, [WAKEUPS])
    assert [(row.name, row.owner, row.state.value) for row in view.groups] == [
        ("kvm", StatOwner.KERNEL, "always on"),
        ("disk", StatOwner.PUBLISHER, "always on"),
        ("wakeups", StatOwner.KVMSCOPE, "not here"),
    ]
    lines = list(group_list_lines(view, width=None))
    assert next(line for line in lines if line.startswith("wakeups ")).split()[4:8] == ["–", "–", "–", "–"]
    assert "MEMORY: kernel memory for 4 VMs with 6 vCPUs" in "\n".join(lines)
    assert lines[-1].endswith("not available here: no such tracepoint")


def test_without_a_source_the_groups_are_listed_with_the_reason(kvmscope: Any) -> None:
    result = kvmscope.run("groups", error=Unavailable("no KVM here"))
    assert result.exit_code == 0
    assert "No VM can be read here, so no group can count: no KVM here." in result.stdout
    listed = json.loads(kvmscope.run("groups", "--json", error=Unavailable("no KVM here")).stdout)
    assert [group["name"] for group in listed["groups"]] == list(load_groups())
    assert (listed["source"], listed["vm_count"], listed["why_not"]) == (None, None, "no KVM here")


def test_a_source_that_was_named_must_work_to_list_groups(kvmscope: Any) -> None:
    assert kvmscope.run("groups", "--source", "bpf", error=Unavailable("no KVM here")).exit_code == 3


def test_a_trial_has_the_events_of_the_interval_by_vm(crafted: Any, scene: Scene) -> None:
    window = Window(crafted.before, crafted.after)
    view = group_trial_view(scene, window, ["kvm"], {"kvm": ProgramRuns(10, 4000)})
    events = {(event.name, event.event): event.per_s for event in view.groups[0].events}
    assert events["web-1", "exits"] == (40_000 + 200) / 2
    assert (view.groups[0].runs, view.groups[0].ns_per_run) == (10, 400)


def test_a_trial_of_a_vcpu_has_its_events_alone(crafted: Any, scene: Scene) -> None:
    window = Window(crafted.before, crafted.after)
    view = group_trial_view(scene, window, ["kvm"], {}, find_subject(scene, "web-1/1"))
    assert {(event.name, event.vcpu) for event in view.groups[0].events} == {("web-1", 1)}


def test_a_group_without_events_says_why(crafted: Any, scene: Scene) -> None:
    window = Window(crafted.before, crafted.after)
    view = group_trial_view(scene, window, ["wakeups"], {})
    assert view.groups[0].why_empty == "unknown: nothing of it was read"
    ended = group_trial_view(scene, None, ["wakeups"], {})
    assert ended.interval_s is None
    assert "  unknown: the VM ended within the interval" in list(group_trial_lines(ended, limit=None))
