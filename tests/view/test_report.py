"""A report's values: series over all time, findings as spans, VMs that came and ended, heat maps that add up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from loads import NOON_NS, Load, simulated_scenes

from kvmscope.analysis.difference_sides import only_vms
from kvmscope.errors import UsageError
from kvmscope.sample import Gap
from kvmscope.schema import Scope
from kvmscope.view.report_build import report_view
from kvmscope.view.report_text import escaped, markdown_lines

if TYPE_CHECKING:
    from kvmscope.scene import Scene

LOAD = Load(vms=9, vcpus=2)


def without_vm(scene: Scene, row: int) -> Scene:
    rows = [other for other in range(len(scene.sample.vms)) if other != row]
    identities = tuple(scene.identities[other] for other in rows)
    return replace(scene, sample=only_vms(scene.sample, rows), identities=identities)


def test_every_series_has_a_value_for_each_interval() -> None:
    view = report_view("r", simulated_scenes(13, load=LOAD))
    assert [len(series.values) for series in view.series] == [12] * len(view.metrics)
    assert (view.begin.ns, view.end.ns) == (NOON_NS, NOON_NS + 12 * 10**9)
    assert (view.vm_count, view.vcpu_count, view.interval_s) == (9, 18, 1.0)
    exits = view.series[0]
    first, second = (scene.sample.block("kvm", Scope.VCPU) for scene in simulated_scenes(2, load=LOAD))
    assert first is not None
    assert second is not None
    assert exits.values[0] == float((second.column("exits") - first.column("exits")).sum())
    assert exits.most == max(value for value in exits.values if value is not None)


def test_vms_with_findings_come_first_with_the_times_of_their_findings() -> None:
    view = report_view("r", simulated_scenes(13, load=LOAD))
    has_findings = [bool(vm.rules) for vm in view.vms]
    assert has_findings == sorted(has_findings, reverse=True)
    assert has_findings[0]
    for rule in view.rules:
        for span in rule.spans:
            assert view.begin.ns < span.begin.ns <= (span.end or view.end).ns
            assert rule.rule in next(vm.rules for vm in view.vms if vm.id == span.vm)
    severities = [rule.severity.rank for rule in view.rules]
    assert severities[0] == max(severities)


def test_a_vm_that_came_and_one_that_ended_have_their_own_times() -> None:
    scenes = simulated_scenes(13, load=LOAD)
    scenes = [without_vm(scene, 8) if place < 4 else without_vm(scene, 0) if place > 8 else scene
              for place, scene in enumerate(scenes)]  # fmt: skip
    view = report_view("r", scenes)
    came, ended = (next(vm for vm in view.vms if vm.name == name) for name in ("vm-8", "vm-0"))
    assert (came.first_seen.ns - NOON_NS, came.has_ended) == (4 * 10**9, False)
    assert (ended.last_seen.ns - NOON_NS, ended.has_ended) == (8 * 10**9, True)
    assert len(ended.times) == len(ended.series[0].values) == 8
    assert [(event.kind, event.name) for event in view.events if event.kind.startswith("VM")] == [
        ("VM started", "vm-8"),
        ("VM ended", "vm-0"),
    ]


def test_a_heat_map_has_all_values_that_the_histogram_gained() -> None:
    scenes = simulated_scenes(13, load=LOAD)
    view = report_view("r", scenes)
    heat = next(heat for heat in view.heats if heat.stat == "halt_wait_hist")
    blocks = [scene.sample.block("kvm", Scope.VCPU) for scene in (scenes[0], scenes[-1])]
    gained = [block.column("halt_wait_hist") for block in blocks if block is not None]
    total = sum(sum(column.counts or ()) for column in heat.columns)
    assert total == int((gained[1] - gained[0]).sum())
    assert len(heat.bounds) == len(heat.columns[0].counts or ()) + 1
    of_vms = [heat for vm in view.vms for heat in vm.heats]
    assert total == sum(sum(column.counts or ()) for heat in of_vms for column in heat.columns)


def test_vms_are_counted_by_the_state_of_their_interrupt_acceleration() -> None:
    view = report_view("r", simulated_scenes(5, load=LOAD))
    states = [track for track in view.apicv if not track.is_reason]
    assert [sum(column) for column in zip(*(track.vms for track in states), strict=True)] == [9] * 4
    assert all(vm.apicv[-1].end == view.end for vm in view.vms)


def test_a_reset_is_an_unknown_value_and_an_event() -> None:
    scenes = simulated_scenes(8, load=LOAD)
    block = scenes[4].sample.block("kvm", Scope.VCPU)
    assert block is not None
    block.values[:, block.schema["exits"].offset // 8] = 0
    view = report_view("r", scenes)
    assert view.series[0].values[3] is None
    assert "stats reset" in [event.kind for event in view.events]


def test_gaps_are_counted_by_reason() -> None:
    scenes = simulated_scenes(3, load=Load(vms=1))
    gaps = (Gap("hidden", vcpu=0), Gap("hidden", vcpu=1))
    scenes[1] = replace(scenes[1], sample=replace(scenes[1].sample, gaps=gaps))
    [gap] = report_view("r", scenes).gaps
    assert (gap.reason, gap.scenes) == ("hidden", 1)


def test_one_scene_is_no_report() -> None:
    with pytest.raises(UsageError, match="no two scenes"):
        report_view("r", simulated_scenes(1, load=LOAD))


def test_a_host_without_vms_has_a_report() -> None:
    scenes = [replace(scene, sample=only_vms(scene.sample, []), identities=()) for scene in simulated_scenes(3)]
    view = report_view("r", scenes)
    assert (view.vms, view.rules, view.heats) == ((), (), ())
    assert "No rule fired." in "\n".join(markdown_lines(view))


def test_markdown_has_the_findings_and_no_markup_of_others() -> None:
    names = ("<script>", "a|b", "*bold* [x](y)", *map(str, range(6)))
    view = report_view("r", simulated_scenes(13, load=replace(LOAD, names=names)))
    text = "\n".join(markdown_lines(view))
    assert f"`{view.rules[0].rule}`" in text
    assert "<script" not in text
    assert "\\*bold\\* \\[x\\]\\(y\\)" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows[-9:]} == {len(view.metrics[:6]) + 5}


def test_text_that_markdown_or_a_terminal_would_act_on_is_escaped() -> None:
    assert escaped("<b> & `c` |") == "&lt;b&gt; &amp; \\`c\\` \\|".replace("&gt;", ">")
    assert not set("\x1b\n\r") & set(escaped("\x1b[0m\n\r"))
