"""``kvmscope status`` on samples made by hand; its screen and JSON are in tests/view/test_overview.py."""

from __future__ import annotations

import json
from typing import Any

import pytest


def test_the_command_reads_a_window(kvmscope: Any, crafted: Any) -> None:
    result = kvmscope.run("status", "--json", "--interval", "1ms", on=[crafted.before, crafted.middle, crafted.after])
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["interval_s"] == 2.0
    assert answer["source"] == {"name": "test", "why_not": {"bpf": "no BPF here"}}
    assert [vm["name"] for vm in answer["vms"]] == list(crafted.after.vms.label)


def test_kvmscope_alone_is_status(kvmscope: Any, crafted: Any) -> None:
    alone = kvmscope.run("--interval", "1ms", "--json", on=[crafted.before, crafted.middle, crafted.after])
    assert json.loads(alone.stdout)["interval_s"] == 2.0


@pytest.mark.parametrize("interval", ["0", "soon", "-1s", "5 weeks"])
def test_a_time_that_is_none_is_refused(kvmscope: Any, interval: str) -> None:
    result = kvmscope.run("status", f"--interval={interval}")
    assert result.exit_code == 2
    assert "is not a time such as" in result.stderr


def test_one_vm_can_be_asked_for(kvmscope: Any, crafted: Any) -> None:
    samples = [crafted.before, crafted.middle, crafted.after]
    text = kvmscope.run("status", "web-1", "--interval", "1ms", on=samples).stdout
    assert text.startswith("web-1 · ")
    assert "db" not in text
    answer = json.loads(kvmscope.run("status", "web-1", "--json", "--interval", "1ms", on=samples).stdout)
    assert [vm["name"] for vm in answer["vms"]] == ["web-1"]
    assert kvmscope.run("status", "web-7", "--interval", "1ms", on=samples).exit_code == 2


def test_a_vm_that_ends_in_the_second_half_is_shown_as_it_was_in_the_first(kvmscope: Any, crafted: Any) -> None:
    samples = [crafted.before, crafted.middle, crafted.after]
    result = kvmscope.run("status", "gone", "--interval", "1ms", on=samples)
    assert result.stderr.splitlines()[0] == "gone ended: its values until then are shown"
    assert result.stdout.startswith("gone · ")
    answer = json.loads(kvmscope.run("status", "gone", "--json", "--interval", "1ms", on=samples).stdout)
    assert ([vm["name"] for vm in answer["vms"]], answer["interval_s"]) == (["gone"], 1.0)


def test_a_vm_that_ends_meanwhile_is_said_to_have_ended(kvmscope: Any, crafted: Any) -> None:
    others = [crafted.make_sample([crafted.vm("web-1", [])], at_s=second) for second in (1, 2)]
    result = kvmscope.run("status", "gone", "--interval", "1ms", on=[crafted.before, *others])
    assert (result.exit_code, result.stdout) == (0, "gone has ended\n")
    watched = kvmscope.run("status", "gone", "--watch", "--interval", "1ms", on=[crafted.before, crafted.after])
    assert watched.stdout == "gone has ended\n\n"


@pytest.mark.parametrize("by", ["halts_per_s", "halts/s", "name"])
def test_vms_are_sorted_by_a_metric_its_title_or_their_name(kvmscope: Any, crafted: Any, by: str) -> None:
    samples = [crafted.before, crafted.middle, crafted.after]
    assert kvmscope.run("status", "--sort", by, "--interval", "1ms", on=samples).exit_code == 0


def test_a_metric_that_there_is_not_is_refused(kvmscope: Any) -> None:
    result = kvmscope.run("status", "--sort", "halt_per_s")
    assert result.exit_code == 2
    assert "halts_per_s" in result.stderr
