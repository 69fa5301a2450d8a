"""What is wrong, as a person and as a program gets it: byte for byte on samples made by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kvmscope.analysis.window import Window
from kvmscope.catalog.findings import load_findings
from kvmscope.cli.doctor import Report, event_lines, lines, reports, to_json
from kvmscope.host.machine import read_machine
from kvmscope.lab.simulate import SimulatedHost
from kvmscope.lab.simulated_apicv import SCENARIOS
from kvmscope.sample import Sample
from kvmscope.scene import Scene, VmIdentity
from kvmscope.sources.published import PublishedSource
from kvmscope.view.judging import Examiner

LOOK = ("--interval", "1ms", "--for", "3ms")
STORM = {"exits": 20_000, "mmio_exits": 9_000, "fpu_reload": 9_000, "halt_exits": 10}
QUIET = {"exits": 300, "mmio_exits": 3, "fpu_reload": 3, "halt_exits": 10}
HOSTILE = "\x1b[31mdb"


def grown(crafted: Any, *of_old_nic: dict[str, int]) -> list[Sample]:
    """Samples a second apart of two VMs: one does this in each second, the other little."""
    storm: dict[str, int] = {"exits": 10}
    quiet: dict[str, int] = {"exits": 10}
    samples = []
    for second, moved in enumerate(({}, *of_old_nic)):
        storm = {name: storm.get(name, 0) + moved.get(name, 0) for name in STORM}
        quiet = {name: quiet.get(name, 0) + second * QUIET[name] for name in STORM}
        vms = [
            crafted.vm(
                "old-nic", [crafted.vcpu(0, {**storm, "exits": storm["exits"] + 9}), crafted.vcpu(1, {"exits": 9})]
            ),
            crafted.vm(HOSTILE, [crafted.vcpu(0, {**quiet, "exits": quiet["exits"] + 9})]),
        ]
        samples.append(crafted.make_sample(vms, at_s=second))
    return samples


def scenes(samples: list[Sample], machine: Any) -> Iterator[tuple[Scene, Window]]:
    for window in (Window(*pair) for pair in pairwise(samples)):
        identities = tuple(VmIdentity(label, None) for label in window.current.vms.label)
        yield Scene(window.current, identities, machine, {}), window


def report_of(samples: list[Sample], machine: Any) -> Report:
    *_, report = reports(scenes(samples, machine), Examiner())
    return report


@pytest.fixture
def stormy(crafted: Any) -> list[Sample]:
    return grown(crafted, STORM, STORM, STORM)


def test_the_report_is_as_expected(crafted: Any, stormy: list[Sample], expect: Any) -> None:
    expect("doctor.txt", "\n".join(lines(report_of(stormy, crafted.machine))))


def test_the_json_is_as_expected(crafted: Any, stormy: list[Sample], expect: Any) -> None:
    expect("doctor.json", json.dumps(to_json(report_of(stormy, crafted.machine)), indent=2, allow_nan=False))


def test_a_host_that_is_well_says_what_was_looked_at_and_what_was_not(crafted: Any, expect: Any) -> None:
    text = "\n".join(lines(report_of(grown(crafted, QUIET, QUIET), crafted.machine)))
    assert f"nothing found, by {len(load_findings())} rules" in text
    assert "not judged: poll-too-short, poll-cut-short: this source or kernel has no halt_wakeup" in text
    expect("doctor-well.txt", text)


def test_what_ended_meanwhile_is_told(crafted: Any) -> None:
    report = report_of(grown(crafted, STORM, STORM, QUIET), crafted.machine)
    text = "\n".join(lines(report))
    assert "nothing found" in text
    assert "ended meanwhile: old-nic: thousands of MMIO accesses per second" in text
    (ended,) = to_json(report)["ended"]
    assert (ended["rule"], ended["name"], ended["ended"]["why"]) == ("mmio-storm", "old-nic", "cleared")


def test_what_ended_and_began_again_is_no_ending(crafted: Any) -> None:
    report = report_of(grown(crafted, STORM, STORM, QUIET, STORM, STORM), crafted.machine)
    assert [finding["rule"] for finding in to_json(report)["findings"]] == ["mmio-storm"]
    assert to_json(report)["ended"] == []


def test_who_watches_is_told_what_begins_and_what_ends(crafted: Any, expect: Any) -> None:
    samples = grown(crafted, QUIET, STORM, STORM, STORM, QUIET, STORM, STORM)
    samples.append(crafted.make_sample([], at_s=8))
    told = []
    for report in reports(scenes(samples, crafted.machine), Examiner()):
        told += [f"--- {report.windows}", *event_lines(report, None)]
        report.forget()
    expect("doctor-watch.txt", "\n".join(told))


def test_a_host_without_vms_says_what_to_try(crafted: Any) -> None:
    empty = [crafted.make_sample([], at_s=second) for second in range(3)]
    assert "no VM is running here" in "\n".join(lines(report_of(empty, crafted.machine)))


def test_the_command_looks_for_as_long_as_it_is_told(kvmscope: Any, stormy: list[Sample]) -> None:
    answer = json.loads(kvmscope.run("doctor", "--json", *LOOK, on=stormy).stdout)
    assert (answer["windows"], answer["interval_s"], answer["rules"]) == (3, 1.0, len(load_findings()))
    assert [(finding["rule"], finding["name"]) for finding in answer["findings"]] == [("mmio-storm", "old-nic")]


def test_one_vm_can_be_asked_for(kvmscope: Any, stormy: list[Sample]) -> None:
    for vm, found in (("old-nic", ["mmio-storm"]), ("old-nic/1", ["mmio-storm"]), (HOSTILE, [])):
        answer = json.loads(kvmscope.run("doctor", vm, "--json", *LOOK, on=stormy).stdout)
        assert [finding["rule"] for finding in answer["findings"]] == found
    assert kvmscope.run("doctor", "new-nic", *LOOK, on=stormy).exit_code == 2


@pytest.mark.parametrize(("level", "code"), [("info", 1), ("warning", 1), ("problem", 0)])
def test_it_fails_on_what_is_as_bad_as_told(kvmscope: Any, stormy: list[Sample], level: str, code: int) -> None:
    assert kvmscope.run("doctor", "--fail-on", level, *LOOK, on=stormy).exit_code == code


def test_it_fails_on_what_ended_meanwhile_and_not_on_another_vm(kvmscope: Any, crafted: Any) -> None:
    samples = grown(crafted, STORM, STORM, QUIET)
    assert kvmscope.run("doctor", "--fail-on", "warning", *LOOK, on=samples).exit_code == 1
    assert kvmscope.run("doctor", HOSTILE, "--fail-on", "warning", *LOOK, on=samples).exit_code == 0


def test_a_look_too_short_for_a_rule_is_refused(kvmscope: Any, stormy: list[Sample]) -> None:
    result = kvmscope.run("doctor", "--for", "1s", "--interval", "1s", on=stormy)
    assert result.exit_code == 2
    assert "no room for 2 windows" in result.stderr
    assert kvmscope.run("doctor", "--watch", "--fail-on", "info", on=stormy).exit_code == 2


def test_a_group_that_there_is_not_is_told_with_those_that_there_are(kvmscope: Any) -> None:
    result = kvmscope.run("doctor", "--count", "moon")
    assert result.exit_code == 2
    assert "wakeups" in result.stderr


def test_no_name_reaches_a_terminal_as_it_is(crafted: Any) -> None:
    samples = [
        crafted.make_sample([crafted.vm(HOSTILE, [crafted.vcpu(0, moved)])], at_s=at)
        for at, moved in enumerate(({"exits": 9}, STORM, {name: 3 * count for name, count in STORM.items()}))
    ]
    text = "\n".join(lines(report_of(samples, crafted.machine)))
    assert "WARNING \\x1b[31mdb: thousands" in text
    assert "\x1b" not in text


def test_every_rule_can_be_explained_without_a_host(kvmscope: Any, expect: Any) -> None:
    listed = kvmscope.run("doctor", "--rules").stdout
    for rule in load_findings():
        text = kvmscope.run("doctor", "--explain", rule.slug).stdout
        assert text.startswith(f"{rule.slug} ({rule.severity.value}): {rule.title}\n")
        assert text.count("to do: ") == len(rule.remedies)
        assert rule.slug in listed
    expect("doctor-explain.txt", kvmscope.run("doctor", "--explain", "poll-waste").stdout.rstrip("\n"))
    whole = json.loads(kvmscope.run("doctor", "--rules", "--json").stdout)
    assert [rule["rule"] for rule in whole["rules"]] == [rule.slug for rule in load_findings()]


def test_an_unknown_rule_is_told_with_those_that_are_near(kvmscope: Any) -> None:
    result = kvmscope.run("doctor", "--explain", "pol-waste")
    assert result.exit_code == 2
    assert "poll-waste" in result.stderr


def test_a_simulated_host_says_so_and_what_inhibits_its_vms(kvmscope: Any, own_proc: Path) -> None:
    with SimulatedHost(vms=len(SCENARIOS), vcpus=2, seed=1) as host:
        samples = []
        for elapsed_s in (1.0, 2.0, 3.0):
            host.advance(elapsed_s)
            with PublishedSource(proc=own_proc, walk_share=float("inf"), simulated=True) as source:
                samples.append(source.read())
    report = report_of(samples, read_machine())
    text = "\n".join(lines(report))
    assert text.startswith("SIMULATED")
    inhibited = [finding for finding in to_json(report)["findings"] if finding["rule"] == "apicv-inhibited"]
    assert inhibited
    assert {cause["name"] for finding in inhibited for cause in finding["causes"]} >= {"pit_reinj"}
    assert all(remedy["do"] for finding in inhibited for remedy in finding["remedies"])


def test_status_has_the_findings_too(kvmscope: Any, stormy: list[Sample]) -> None:
    text = kvmscope.run("status", "--interval", "1ms", on=stormy).stdout
    assert "warning: old-nic [mmio-storm, about 0.09 CPU]: thousands of MMIO accesses per second" in text
    answer = json.loads(kvmscope.run("status", "--json", "--interval", "1ms", on=stormy).stdout)
    assert [finding["rule"] for finding in answer["findings"]] == ["mmio-storm"]
