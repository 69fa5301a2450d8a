"""``kvmscope doctor`` on samples made by hand; its lines and JSON are in tests/view/test_doctor.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kvmscope.catalog.findings import load_findings
from kvmscope.sample import Sample

LOOK = ("--interval", "1ms", "--for", "3ms")
STORM = {"exits": 20_000, "mmio_exits": 9_000, "fpu_reload": 9_000, "halt_exits": 10}
QUIET = {"exits": 300, "mmio_exits": 3, "fpu_reload": 3, "halt_exits": 10}
HOSTILE = "\x1b[31mdb"


@pytest.fixture
def stormy(grown: Callable[..., list[Sample]]) -> list[Sample]:
    return grown(STORM, STORM, STORM)


def test_the_command_looks_for_as_long_as_it_is_told(kvmscope: Any, stormy: list[Sample]) -> None:
    answer = json.loads(kvmscope.run("doctor", "--json", *LOOK, on=stormy).stdout)
    assert (answer["windows"], answer["interval_s"], answer["rules"]) == (3, 1.0, len(load_findings()))
    assert [(finding["rule"], finding["name"]) for finding in answer["findings"]] == [("mmio-storm", "old-nic")]


def test_one_vm_can_be_asked_for(kvmscope: Any, stormy: list[Sample]) -> None:
    for vm, found in (("old-nic", ["mmio-storm"]), ("old-nic/1", ["mmio-storm"]), (HOSTILE, [])):
        answer = json.loads(kvmscope.run("doctor", vm, "--json", *LOOK, on=stormy).stdout)
        assert [finding["rule"] for finding in answer["findings"]] == found


def test_a_word_that_is_neither_vm_nor_rule_is_refused_at_once(kvmscope: Any, stormy: list[Sample]) -> None:
    result = kvmscope.run("doctor", "mmio-strom", "--for", "1h", "--interval", "10m", on=stormy)
    assert result.exit_code == 2
    assert "there is no VM 'mmio-strom', and no rule either; did you mean" in result.stderr
    assert "mmio-storm" in result.stderr


def test_one_rule_can_be_asked_for(kvmscope: Any, stormy: list[Sample]) -> None:
    result = kvmscope.run("doctor", "mmio-storm", *LOOK, on=stormy)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "WARNING 1 VM: " in result.stdout
    answer = json.loads(kvmscope.run("doctor", "poll-waste", "--json", *LOOK, on=stormy).stdout)
    assert answer["findings"] == []
    assert {missing["rule"] for missing in answer["not_judged"]} <= {"poll-waste"}


def test_a_vm_that_is_called_like_a_rule_goes_before_it_and_that_is_said(kvmscope: Any, crafted: Any) -> None:
    vms = [crafted.vm("poll-waste", [crafted.vcpu(0)])]
    samples = [crafted.make_sample(vms, at_s=at) for at in range(4)]
    of_vm = kvmscope.run("doctor", "poll-waste", "--json", *LOOK, on=samples)
    assert json.loads(of_vm.stdout)["vm"]["name"] == "poll-waste"
    assert "kvmscope doctor --rule poll-waste" in of_vm.stderr
    assert json.loads(kvmscope.run("doctor", "--rule", "poll-waste", "--json", *LOOK, on=samples).stdout)["vm"] is None


def test_a_vm_that_ends_is_no_usage_error(kvmscope: Any, crafted: Any, stormy: list[Sample]) -> None:
    samples = [*stormy[:3], crafted.make_sample([], at_s=3)]
    result = kvmscope.run("doctor", "old-nic", *LOOK, on=samples)
    assert result.exit_code == 0
    assert "old-nic has ended" in result.stdout
    watched = kvmscope.run("doctor", "old-nic", "--watch", "--interval", "1ms", on=samples)
    assert watched.exit_code == 0
    assert "ends (gone) old-nic" in watched.stdout


@pytest.mark.parametrize(("level", "code"), [("info", 1), ("warning", 1), ("problem", 0)])
def test_it_fails_on_what_is_as_bad_as_told(kvmscope: Any, stormy: list[Sample], level: str, code: int) -> None:
    assert kvmscope.run("doctor", "--fail-on", level, *LOOK, on=stormy).exit_code == code


def test_it_fails_on_what_ended_and_not_on_another_vm(kvmscope: Any, grown: Callable[..., list[Sample]]) -> None:
    samples = grown(STORM, STORM, QUIET)
    assert kvmscope.run("doctor", "--fail-on", "warning", *LOOK, on=samples).exit_code == 1
    assert kvmscope.run("doctor", HOSTILE, "--fail-on", "warning", *LOOK, on=samples).exit_code == 0


def test_a_look_too_short_for_a_rule_is_refused(kvmscope: Any, stormy: list[Sample]) -> None:
    result = kvmscope.run("doctor", "--for", "1s", "--interval", "1s", on=stormy)
    assert result.exit_code == 2
    assert "too short for 2 intervals" in result.stderr
    assert kvmscope.run("doctor", "--watch", "--fail-on", "info", on=stormy).exit_code == 2


def test_a_group_that_there_is_not_is_told_with_those_that_there_are(kvmscope: Any) -> None:
    result = kvmscope.run("doctor", "--count", "moon")
    assert result.exit_code == 2
    assert "wakeups" in result.stderr


def test_every_rule_can_be_explained_without_a_host(kvmscope: Any, expect: Any) -> None:
    listed = kvmscope.run("doctor", "--rules").stdout
    for rule in load_findings():
        text = kvmscope.run("doctor", "--explain", rule.slug).stdout
        assert text.startswith(f"{rule.slug} ({rule.severity.value}): {rule.title}\n")
        assert text.count("\nfix: ") == len(rule.remedies)
        assert rule.slug in listed
    expect("doctor-explain.txt", kvmscope.run("doctor", "--explain", "poll-waste").stdout.rstrip("\n"))
    whole = json.loads(kvmscope.run("doctor", "--rules", "--json").stdout)
    assert [rule["rule"] for rule in whole["rules"]] == [rule.slug for rule in load_findings()]


def test_an_unknown_rule_is_told_with_those_that_are_near(kvmscope: Any) -> None:
    result = kvmscope.run("doctor", "--explain", "pol-waste")
    assert result.exit_code == 2
    assert "poll-waste" in result.stderr


def test_status_has_the_findings_too(kvmscope: Any, stormy: list[Sample]) -> None:
    text = kvmscope.run("status", "--interval", "1ms", on=stormy).stdout
    assert "warning: old-nic [mmio-storm, about 0.09 CPU]: " in text
    answer = json.loads(kvmscope.run("status", "--json", "--interval", "1ms", on=stormy).stdout)
    assert [finding["rule"] for finding in answer["findings"]] == ["mmio-storm"]
