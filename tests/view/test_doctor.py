"""What the doctor reports, as a person and as a program gets it: byte for byte on samples made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from kvmscope.analysis.findings import EndCause
from kvmscope.catalog.findings import Severity, load_findings
from kvmscope.host.machine import read_machine
from kvmscope.host.process import VmmProcess
from kvmscope.lab.simulate import SimulatedHost
from kvmscope.lab.simulated_apicv import SCENARIOS
from kvmscope.sample import Gap, Sample, VmId
from kvmscope.scene import Scene, VmIdentity
from kvmscope.sources.published import PublishedSource
from kvmscope.view.doctor import DoctorReport
from kvmscope.view.doctor_text import HEIGHT, event_lines, head_lines, report_lines, rule_report_lines
from kvmscope.view.findings import EndedFinding, FindingEnd, ReportedFinding, RuleTotal, UncheckedRule
from kvmscope.view.findings_text import evidence_text
from kvmscope.view.jsonout import dump, to_object
from kvmscope.view.remedies import remedy_views
from kvmscope.view.subjects import follow
from kvmscope.view.watch import HostView, Watch

WIDTH = 100
HOSTILE = "\x1b[31mdb"
STORM = {"exits": 20_000, "mmio_exits": 9_000, "fpu_reload": 9_000, "halt_exits": 10}
QUIET = {"exits": 300, "mmio_exits": 3, "fpu_reload": 3, "halt_exits": 10}
MANY = 1_000

Grown = Callable[..., list[Sample]]


def scenes(samples: Sequence[Sample], machine: Any) -> list[Scene]:
    return [Scene(each, tuple(VmIdentity(label, None) for label in each.vms.label), machine, {}) for each in samples]


def views(samples: Sequence[Sample], machine: Any, *, keeps_ended: bool = True) -> list[HostView]:
    watch = Watch(keeps_ended=keeps_ended)
    return [view for scene in scenes(samples, machine) if (view := watch.add(scene)) is not None]


def text_of(view: HostView, **options: Any) -> str:
    return "\n".join(report_lines(view.report(), width=WIDTH, **options))


def answer_of(view: HostView) -> Any:
    return to_object(view.report())


@pytest.fixture
def stormy(grown: Grown, crafted: Any) -> HostView:
    return views(grown(STORM, STORM, STORM), crafted.machine)[-1]


def test_the_report_is_as_expected(stormy: HostView, expect: Any) -> None:
    expect("doctor.txt", text_of(stormy))


def test_what_was_not_checked_can_be_listed(stormy: HostView, expect: Any) -> None:
    expect("doctor-not-judged.txt", text_of(stormy, lists_unchecked=True))


def test_the_json_is_as_expected(stormy: HostView, expect: Any) -> None:
    expect("doctor.json", dump(to_object(stormy.report())))


def test_a_host_that_is_well_says_what_was_looked_at_and_what_was_not(crafted: Any, grown: Grown, expect: Any) -> None:
    text = text_of(views(grown(QUIET, QUIET), crafted.machine)[-1])
    assert f"nothing found by {len(load_findings())} rules" in text
    expect("doctor-well.txt", text)


def test_the_first_line_has_the_time_from_the_first_sample_to_the_last(crafted: Any) -> None:
    samples = [crafted.make_sample([crafted.vm("a", [crafted.vcpu(0)])], at_s=at) for at in (0, 1, 3.5, 9)]
    report = views(samples, crafted.machine)[-1].report()
    assert (report.watched_s, report.interval_s, report.windows) == (9.0, 5.5, 3)
    assert "watched for 9 s in 3 intervals" in "\n".join(head_lines(report, width=WIDTH))


def test_what_ended_is_told(crafted: Any, grown: Grown) -> None:
    view = views(grown(STORM, STORM, QUIET), crafted.machine)[-1]
    text = text_of(view)
    assert "nothing found" in text
    assert "ended: old-nic: " in text
    (ended,) = answer_of(view)["ended"]
    assert (ended["rule"], ended["name"], ended["ended"]["why"]) == ("mmio-storm", "old-nic", "cleared")
    assert view.report().reaches(Severity.WARNING)
    assert not view.report().reaches(Severity.PROBLEM)


def test_what_ended_and_began_again_has_not_ended(crafted: Any, grown: Grown) -> None:
    answer = answer_of(views(grown(STORM, STORM, QUIET, STORM, STORM), crafted.machine)[-1])
    assert [finding["rule"] for finding in answer["findings"]] == ["mmio-storm"]
    assert answer["ended"] == []


def test_who_watches_sees_what_begins_and_what_ends(crafted: Any, grown: Grown, expect: Any) -> None:
    samples = grown(QUIET, STORM, STORM, STORM, QUIET, STORM, STORM)
    samples.append(crafted.make_sample([], at_s=8))
    shown = []
    for view in views(samples, crafted.machine, keeps_ended=False):
        shown += [f"--- {view.log.windows}", *event_lines(view.report())]
    expect("doctor-watch.txt", "\n".join(shown))


def test_a_watch_without_end_keeps_only_what_it_needs(crafted: Any, grown: Grown) -> None:
    """VMs that came and went long ago are forgotten, names too."""
    samples = [crafted.make_sample([crafted.vm(f"{at:08}", [crafted.vcpu(0)])], at_s=at) for at in range(20)]
    last = views(samples, crafted.machine, keeps_ended=False)[-1]
    assert len(last.log.names) == 2
    assert len(views(samples, crafted.machine)[-1].log.names) == 20


def test_a_host_without_vms_says_what_to_try(crafted: Any) -> None:
    empty = [crafted.make_sample([], at_s=second) for second in range(3)]
    assert "no VM is running here" in text_of(views(empty, crafted.machine)[-1])


def test_no_name_reaches_a_terminal_as_it_is(crafted: Any) -> None:
    samples = [
        crafted.make_sample([crafted.vm(HOSTILE, [crafted.vcpu(0, moved)])], at_s=at)
        for at, moved in enumerate(({"exits": 9}, STORM, {name: 3 * count for name, count in STORM.items()}))
    ]
    text = text_of(views(samples, crafted.machine)[-1])
    assert "WARNING \\x1b[31mdb: " in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("managed_by", "vmm", "words"),
    [
        ("kubevirt", "qemu", "KubeVirt: spec.template.spec.domain.clock.timer.hpet.present: false"),
        ("openstack", "qemu", "OpenStack Nova: image property hw_time_hpet=False"),
        ("libvirt", "qemu", "libvirt: <timer name='hpet' present='no'/>"),
        (None, "firecracker", "Firecracker has only virtio devices"),
    ],
)
def test_a_remedy_is_in_the_words_of_who_runs_the_vm(
    crafted: Any, grown: Grown, managed_by: str | None, vmm: str, words: str
) -> None:
    samples = grown(STORM, STORM, STORM)
    process = VmmProcess(1, vmm, "web", None, managed_by, vmm, (vmm,), 0)
    watch = Watch(keeps_ended=True)
    for sample in samples:
        identities = tuple(VmIdentity(label, process) for label in sample.vms.label)
        view = watch.add(Scene(sample, identities, crafted.machine, {}))
    assert view is not None
    ways = [way["text"] for remedy in answer_of(view)["findings"][0]["remedies"] for way in remedy["how"]]
    assert any(text.startswith(words) for text in ways)
    assert ways == [way["text"] for remedy in answer_of(view)["by_rule"][0]["remedies"] for way in remedy["how"]]
    assert words in " ".join(text_of(view).split())


def test_what_nobody_who_runs_the_vm_can_do_comes_last() -> None:
    remedies = next(rule.remedies for rule in load_findings() if rule.slug == "poll-waste")
    assert "halt-poll-limit" in remedies[0].settings
    views_of_qemu = remedy_views(remedies, [("libvirt", "qemu")])
    assert [way.is_possible for way in views_of_qemu[-1].how] == [False, False]
    assert remedy_views(remedies, [("other",)])[0].how[0].is_possible


# --- one VM -----------------------------------------------------------------------------------------------------------


def test_of_one_vm_its_findings_and_gaps_alone_are_reported(crafted: Any, grown: Grown) -> None:
    samples = grown(STORM, STORM)
    first = scenes(samples, crafted.machine)[0]
    gaps = (Gap("a"), Gap("b", first.sample.vms.vm_id(0)), Gap("c", first.sample.vms.vm_id(1)))
    last = views([*samples[:-1], crafted.with_gaps(samples[-1], gaps)], crafted.machine)[-1]
    of_old, of_db = (last.report(follow(first, name)) for name in ("old-nic", HOSTILE))
    assert ([f.rule for f in of_old.findings], [f.rule for f in of_db.findings]) == (["mmio-storm"], [])
    assert [gap.reason for gap in of_db.gaps] == ["a", "c"]
    assert "\nWARNING old-nic: " in "\n".join(report_lines(of_old, width=WIDTH))


def test_a_vm_that_ends_is_reported_with_what_was_seen_until_then(crafted: Any, grown: Grown) -> None:
    samples = [*grown(STORM, STORM, STORM)]
    samples.append(crafted.make_sample([crafted.vm(HOSTILE, [crafted.vcpu(0, {"exits": 9_999})])], at_s=4))
    samples.append(crafted.make_sample([crafted.vm(HOSTILE, [crafted.vcpu(0, {"exits": 10_000})])], at_s=5))
    old_nic = follow(scenes(samples, crafted.machine)[0], "old-nic")
    report = views(samples, crafted.machine)[-1].report(old_nic)
    assert report.vm is not None
    assert report.vm.ended is not None
    text = "\n".join(report_lines(report, width=WIDTH))
    assert "old-nic has ended" in text
    assert report.ended[0].ended.why.value == "gone"
    assert "\nWARNING old-nic: " in text
    assert "\n   impact: " in text
    assert "1 finding when it ended" in text
    assert "nothing found" not in text


def test_a_vm_is_followed_by_its_id_when_another_gets_its_name(crafted: Any, grown: Grown) -> None:
    samples = grown(STORM, STORM)
    old_nic = follow(scenes(samples, crafted.machine)[0], "old-nic")
    watch = Watch()
    for sample in samples:
        names = ("old-nic#1", "old-nic#2")
        view = watch.add(Scene(sample, tuple(VmIdentity(name, None) for name in names), crafted.machine, {}))
    assert view is not None
    report = view.report(old_nic)
    assert report.vm is not None
    assert (report.vm.name, [finding.vm for finding in report.findings]) == ("old-nic#1", [old_nic.id])


# --- many VMs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def simulated(own_proc: Path) -> list[Sample]:
    """Four seconds of a host of a thousand VMs."""
    samples = []
    with SimulatedHost(vms=MANY, vcpus=2, seed=1) as host:
        for elapsed_s in (1.0, 2.0, 3.0, 4.0):
            host.advance(elapsed_s)
            with PublishedSource(proc=own_proc, walk_share=float("inf"), simulated=True) as source:
                samples.append(source.read())
    return samples


@pytest.mark.slow
def test_a_thousand_vms_are_reported_on_one_page(simulated: list[Sample]) -> None:
    last = views(simulated, read_machine())[-1]
    report = last.report()
    lines = list(report_lines(report, width=WIDTH))
    assert len(report.findings) > MANY / 2
    assert len(lines) <= HEIGHT
    assert all(
        any(f"[{total.rule}]" in line for line in lines) or total.rule in "\n".join(lines) for total in report.by_rule
    )


def fleet(crafted: Any, count: int) -> list[Sample]:
    """So many VMs with one vCPU each, of which all but the last have the trouble, the first the most of it."""
    samples = []
    for at in range(4):
        vms = []
        for number in range(count):
            moved = (
                QUIET if number == count - 1 else {name: value + 10 * (count - number) for name, value in STORM.items()}
            )
            stats = {name: value * at for name, value in moved.items()}
            vms.append(crafted.vm(f"{number:04}", [crafted.vcpu(0, {**stats, "exits": stats["exits"] + 9})]))
        samples.append(crafted.make_sample(vms, at_s=at))
    return samples


def test_what_many_vms_have_is_told_once_with_the_worst_of_them(crafted: Any, expect: Any) -> None:
    last = views(fleet(crafted, 41), crafted.machine)[-1]
    text = text_of(last)
    assert text.count("impact: ") == 1
    assert "WARNING 40 VMs: " in text
    assert "worst: 0000 (" in text
    expect("doctor-many.txt", text)
    (total,) = answer_of(last)["by_rule"]
    assert (total["findings"], total["vms"], total["vcpus"]) == (40, 40, 40)
    costs = [finding["cost_cpus"] for finding in answer_of(last)["findings"]]
    assert total["cost_cpus"] == pytest.approx(sum(costs))
    assert [worst["name"] for worst in total["worst"]] == ["0000", "0001", "0002", "0003", "0004"]


KINDS, OF_ONE_KIND = 50, 20


def with_all_kinds(report: DoctorReport) -> DoctorReport:
    """The report of a thousand VMs of which each has one of fifty kinds of trouble, in the words of the catalogue."""
    (total,), finding = report.by_rule, report.findings[0]
    rules = list(islice(cycle(load_findings()), KINDS))
    totals: list[RuleTotal] = []
    findings: list[ReportedFinding] = []
    ended: list[EndedFinding] = []
    for number, rule in enumerate(rules):
        text: dict[str, Any] = {
            "rule": rule.slug if number < len(load_findings()) else f"{rule.slug}-{number}",
            "severity": rule.severity,
            "title": rule.title,
            "explanation": rule.explanation,
            "remedies": remedy_views(rule.remedies, [("libvirt", "qemu")]),
        }
        totals.append(replace(total, findings=OF_ONE_KIND, vms=OF_ONE_KIND, **text))
        found = [replace(finding, vm=VmId(number * OF_ONE_KIND + at), **text) for at in range(OF_ONE_KIND)]
        findings += found
        seen = {field.name: getattr(found[0], field.name) for field in fields(found[0])}
        ended += [EndedFinding(**seen, ended=FindingEnd(why, report.time)) for why in EndCause]
    gaps = tuple(Gap(f"{number}: it could not be read, for some reason that is long" * 3) for number in range(KINDS))
    unchecked = [UncheckedRule(rule=rule.slug, reason="not read", vms=None, names=None, group=None) for rule in rules]
    return replace(
        report,
        vm_count=MANY,
        by_rule=totals,
        findings=findings,
        ended=ended,
        gaps=gaps,
        not_judged=unchecked,
        source=replace(report.source, why_not={"bpf": "some long reason " * 9}),
    )


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_fifty_kinds_of_trouble_of_a_thousand_vms_fit_a_page_at_any_width(crafted: Any, width: int) -> None:
    report = with_all_kinds(views(fleet(crafted, 7), crafted.machine)[-1].report())
    assert len({finding.vm for finding in report.findings}) == MANY
    lines = list(report_lines(report, width=width))
    assert len(lines) <= HEIGHT
    text = "\n".join(lines)
    assert [total.rule for total in report.by_rule if total.rule not in text] == []
    assert "not checked: " in text


def test_one_rule_lists_all_that_it_found(crafted: Any, expect: Any) -> None:
    rule = next(rule for rule in load_findings() if rule.slug == "mmio-storm")
    report = views(fleet(crafted, 7), crafted.machine)[-1].report(rule=rule.slug)
    text = "\n".join(rule_report_lines(report, rule, width=WIDTH))
    expect("doctor-rule.txt", text)
    assert all(f"\n{number:04} " in text for number in range(6))
    nothing = views(fleet(crafted, 1), crafted.machine)[-1].report(rule=rule.slug)
    assert "nothing found" in "\n".join(rule_report_lines(nothing, rule, width=WIDTH))


def test_a_simulated_host_says_so_and_what_inhibits_its_vms(own_proc: Path) -> None:
    samples = []
    with SimulatedHost(vms=len(SCENARIOS), vcpus=2, seed=1) as host:
        for elapsed_s in (1.0, 2.0, 3.0):
            host.advance(elapsed_s)
            with PublishedSource(proc=own_proc, walk_share=float("inf"), simulated=True) as source:
                samples.append(source.read())
    last = views(samples, read_machine())[-1]
    assert text_of(last).startswith("SIMULATED")
    inhibited = [finding for finding in answer_of(last)["findings"] if finding["rule"] == "apicv-inhibited"]
    assert inhibited
    assert {cause["name"] for finding in inhibited for cause in finding["causes"]} >= {"pit_reinj"}
    assert all(remedy["do"] for finding in inhibited for remedy in finding["remedies"])
    total = next(total for total in answer_of(last)["by_rule"] if total["rule"] == "apicv-inhibited")
    assert {cause["name"] for cause in total["causes"]} >= {"pit_reinj"}


def test_evidence_that_this_kernel_does_not_count_is_null_for_programs_and_not_shown() -> None:
    evidence = {"dirty_logged_share": 1.0, "dirty_bytes_per_s": None, "dirty_fetched_pages_per_s": 25_000.0}
    assert evidence_text(evidence) == "logged 100 %, fetched/s 25k"
    assert evidence_text({"dirty_bytes_per_s": None}) == ""
