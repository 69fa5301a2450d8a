"""Statistics by owner, and what groups counted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kvmscope.analysis.window import Window
from kvmscope.catalog.groups import load_groups
from kvmscope.errors import Unavailable, UsageError
from kvmscope.sample import Gap
from kvmscope.scene import Scene
from kvmscope.schema import Scope
from kvmscope.view.groups import (
    GroupState,
    GroupView,
    ProgramRuns,
    StatOwner,
    find_vm,
    group_list_lines,
    group_list_view,
    group_trial_lines,
    group_trial_view,
    split_words,
)
from kvmscope.view.subjects import Selection, find_subject


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


def test_a_trial_of_one_vm_has_what_is_missing_of_it_and_of_all_and_not_of_others(crafted: Any, scene: Scene) -> None:
    window = Window(crafted.before, crafted.after)
    web, other = find_subject(scene, "web-1"), find_subject(scene, "web-1/1")
    its = scene.sample.vms.vm_id(web.vm)
    not_its = next(vm for row in range(len(scene.sample.vms)) if (vm := scene.sample.vms.vm_id(row)) != its)
    gaps = (
        Gap("of all", provider="wakeups"),
        Gap("of another", vm=not_its, provider="wakeups"),
        Gap("of it", vm=its),
        Gap("of vCPU 0", vm=its, vcpu=0),
    )
    missing = replace(scene, sample=crafted.with_gaps(scene.sample, gaps))

    def reasons(subject: Selection | None) -> list[str]:
        return [gap.reason for gap in group_trial_view(missing, window, ["wakeups"], {}, subject).gaps]

    assert reasons(None) == ["of all", "of another", "of it", "of vCPU 0"]
    assert reasons(web) == ["of all", "of it", "of vCPU 0"]
    assert reasons(other) == ["of all", "of it"]


def test_a_group_that_counts_other_vms_is_unknown_of_one_that_it_does_not_count(crafted: Any, scene: Scene) -> None:
    """As group dirty, which counts only VMs whose memory is logged."""
    window = Window(crafted.before, crafted.after)
    counting = [block for block in scene.sample.blocks_of(Scope.VM) if block.schema.provider == "disk"]
    [row] = {int(row) for block in counting for row in block.rows}
    outside = next(each for each in range(len(scene.sample.vms)) if each != row)
    reason = "it does not log"
    gap = Gap(reason, vm=scene.sample.vms.vm_id(outside), provider="disk")
    seen = replace(scene, sample=crafted.with_gaps(scene.sample, (gap,)))
    view = group_trial_view(seen, window, ["disk"], {}, Selection(outside, None))
    assert view.groups[0].why_empty == f"unknown: {reason}"


@pytest.mark.parametrize("word", ["dirty-0", "exit", "dirty-0/0"])
def test_a_word_after_the_groups_that_names_a_vm_is_that_vm_however_like_a_group_it_is(word: str, scene: Scene) -> None:
    assert split_words(["dirty", "exits", word]) == (("dirty", "exits"), word)
    first, *others = scene.identities
    renamed = replace(scene, identities=(replace(first, name=word.partition("/")[0]), *others))
    assert find_vm(renamed, word).title == word


def test_a_word_alone_is_a_group(scene: Scene) -> None:
    assert split_words(["exits"]) == (("exits",), None)
    assert split_words(["web-1"]) == (("web-1",), None)
    assert split_words(["exits", "dirty"]) == (("exits", "dirty"), None)


def test_a_word_after_the_groups_that_names_neither_is_told_what_is_near(scene: Scene) -> None:
    with pytest.raises(UsageError, match=r"there is no group and no VM 'exit'") as refused:
        find_vm(scene, "exit")
    assert refused.value.nearest[0] == "exits"
    with pytest.raises(UsageError, match=r"there is no VM 'web-7'") as refused:
        find_vm(scene, "web-7")
    assert "web-1" in refused.value.nearest
