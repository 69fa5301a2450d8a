"""What names of the catalogue mean here: each can be explained, with values or with the reason why there are none."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from kvmscope.analysis.window import Window
from kvmscope.catalog.caveats import load_caveats
from kvmscope.catalog.findings import load_findings
from kvmscope.catalog.groups import load_groups
from kvmscope.catalog.inhibits import load_inhibits
from kvmscope.catalog.metrics import Metric, load_metrics
from kvmscope.catalog.stats import load_stats
from kvmscope.errors import Unavailable
from kvmscope.host.machine import read_machine
from kvmscope.sample import Sample
from kvmscope.scene import Scene
from kvmscope.view.explain import (
    ExplainContext,
    Explanation,
    HostWindow,
    explain,
    explanation_view,
    host_lines,
    meaning_lines,
    title_of,
)
from kvmscope.view.explain.groups import GroupExplanation
from kvmscope.view.explain.metrics import MetricExplanation
from kvmscope.view.explain.stats import StatExplanation, UncataloguedStat
from kvmscope.view.jsonout import dump, to_value


def live(crafted: Any) -> ExplainContext:
    scene = Scene(crafted.after, crafted.identities, crafted.machine, {})
    return ExplainContext(crafted.machine, HostWindow(scene, Window(crafted.before, crafted.after)))


def lines_of(found: Iterable[Explanation]) -> list[str]:
    """Each in turn, its meaning and what applies here."""
    texts = ([*meaning_lines(each, width=100), *host_lines(each, width=100)] for each in found)
    return [line for place, text in enumerate(texts) for line in ([""] if place else []) + text]


def answer_of(context: ExplainContext, name: str) -> Any:
    return to_value(explanation_view(context, name))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("exits", "explain-exits.txt"),
        ("halt_wait_hist", "explain-histogram.txt"),
        ("lpages", "explain-removed.txt"),
        ("halt_poll_fail_cpus", "explain-metric.txt"),
        ("poll-waste", "explain-rule.txt"),
        ("pit_reinj", "explain-reason.txt"),
        ("polling-off", "explain-caveat.txt"),
        ("read_size", "explain-uncatalogued.txt"),
    ],
)
def test_an_explanation_is_as_expected(crafted: Any, expect: Any, name: str, file: str) -> None:
    expect(file, "\n".join(lines_of(explain(live(crafted), name))))


NAMES = [
    *dict.fromkeys(entry.name for entry in load_stats() if entry.template is None),
    *(metric.name for metric in load_metrics()),
    *(rule.slug for rule in load_findings()),
    *load_inhibits(),
    *load_caveats(),
    *load_groups(),
]


def test_every_name_of_the_catalogue_can_be_explained_without_a_host() -> None:
    context = ExplainContext(read_machine(), None, "not asked for")
    for name in NAMES:
        assert lines_of(explain(context, name))[0].startswith(name)
        assert dump(answer_of(context, name))


def test_a_name_of_two_providers_is_explained_for_both_and_chosen_by_provider(crafted: Any) -> None:
    found = [(type(each), title_of(each)) for each in explain(live(crafted), "exits")]
    assert found == [
        (StatExplanation, "exits: statistic of a vCPU, from provider kvm"),
        (UncataloguedStat, "exits: statistic of a VM, from provider disk"),
        (GroupExplanation, "exits: group"),
    ]
    [of_disk] = answer_of(live(crafted), "disk.exits")["found"]
    assert (of_disk["provider"], of_disk["catalogued"]) == ("disk", False)


def test_an_enumerator_of_the_kernel_names_its_reason(crafted: Any) -> None:
    [reason] = answer_of(live(crafted), "APICV_INHIBIT_REASON_PIT_REINJ")["found"]
    assert reason["what"] == "reason"
    assert reason["name"] == "pit_reinj"


def test_values_are_of_the_window_and_what_is_not_known_is_null(crafted: Any) -> None:
    [of_kvm, *_] = answer_of(live(crafted), "exits")["found"]
    values = {vm["vm"].split("-")[0]: vm["per_s"] for vm in of_kvm["here"]["vms"]}
    assert values["web"] == (40_000 + 200) / 2
    assert values["half"] == 250
    assert values["数据库"] is None


def test_a_caveat_that_depends_on_the_vm_names_those_for_which_it_holds(crafted: Any) -> None:
    told = [caveat for found in answer_of(live(crafted), "exits")["found"] for caveat in found.get("caveats", ())]
    assert {caveat["verdict"] for caveat in told} <= {"holds", "does not hold", "cannot tell"}
    assert all(caveat["reason"] for caveat in told)


def test_a_host_that_cannot_be_read_still_gets_the_meaning(kvmscope: Any) -> None:
    result = kvmscope.run("explain", "pf_fast", error=Unavailable("no KVM here"))
    assert result.exit_code == 0
    assert "Values here: unknown (no KVM here)" in result.stdout
    result = kvmscope.run("explain", "pf_fast", "--source", "bpf", error=Unavailable("no KVM here"))
    assert result.exit_code == 3


def test_a_name_that_is_nothing_gets_the_nearest(kvmscope: Any) -> None:
    result = kvmscope.run("explain", "pf_fats", "--no-values")
    assert result.exit_code == 2
    assert "did you mean pf_fast" in result.stderr


def test_that_the_catalogue_does_not_have_a_name_is_said_before_a_source_is_opened(kvmscope: Any) -> None:
    for source in ("auto", "bpf"):
        result = kvmscope.run("explain", "pf_fats", "--source", source, error=Unavailable("no KVM here"))
        said, reason = result.stderr.splitlines()[:2]
        assert said.startswith("the catalogue has nothing called 'pf_fats'; did you mean pf_fast")
        assert "without the statistics of this host (no KVM here)" in reason
        assert (result.exit_code, result.stdout) == (2, "")


def test_a_statistic_that_only_the_host_has_is_looked_for_there(kvmscope: Any, crafted: Any) -> None:
    later = replace(crafted.after, monotonic_ns=crafted.after.monotonic_ns + 10**9)
    result = kvmscope.run("explain", "read_size", "--interval", "1ms", on=[crafted.after, later])
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("the catalogue has nothing called 'read_size'")
    assert "read_size" in result.stdout


def test_a_wrong_name_is_refused_before_the_interval(kvmscope: Any, crafted: Any) -> None:
    result = kvmscope.run("explain", "read_siz", "--interval", "1h", on=[crafted.after])
    assert result.exit_code == 2
    assert "did you mean read_size" in result.stderr


def without_disk(sample: Sample) -> Sample:
    """A moment after it, in which nobody publishes provider disk."""
    blocks = tuple(block for block in sample.blocks if block.schema.provider != "disk")
    return replace(sample, monotonic_ns=sample.monotonic_ns + 10**9, blocks=blocks)


def test_a_stat_whose_only_publisher_ends_within_the_interval_is_explained_without_values(
    kvmscope: Any, crafted: Any
) -> None:
    result = kvmscope.run("explain", "read_size", "--interval", "1ms", on=[crafted.after, without_disk(crafted.after)])
    assert result.exit_code == 0, result.stderr
    assert "from provider disk" in result.stdout
    assert "every VM that has it ended within the interval" in result.stdout


def test_a_stat_whose_publisher_begins_within_the_interval_is_explained(kvmscope: Any, crafted: Any) -> None:
    first, then = (
        replace(crafted.after, source="published"),
        replace(crafted.after, source="published", monotonic_ns=crafted.after.monotonic_ns + 2 * 10**9),
    )
    nobody = replace(without_disk(first), monotonic_ns=first.monotonic_ns)
    result = kvmscope.run("explain", "read_size", "--interval", "1ms", on=[nobody, then])
    assert result.exit_code == 0, result.stderr
    assert "from provider disk" in result.stdout
    wrong = kvmscope.run("explain", "read_siz", "--interval", "1ms", on=[nobody, then])
    assert wrong.exit_code == 2
    assert "did you mean read_size" in wrong.stderr


@pytest.mark.parametrize("metric", load_metrics(), ids=lambda metric: metric.name)
def test_a_title_of_a_screen_names_its_metric(metric: Metric) -> None:
    found = explain(ExplainContext(read_machine()), metric.title.upper())
    assert metric.name in [each.name for each in found if isinstance(each, MetricExplanation)]


@pytest.mark.parametrize(
    ("title", "name"), [("polling", "halt_poll_cpus"), ("to  VMM/s", "vmm_returns_per_s"), ("I/O/s", "io_exits_per_s")]
)
def test_an_earlier_title_still_names_its_metric(title: str, name: str) -> None:
    [found] = explain(ExplainContext(read_machine()), title)
    assert isinstance(found, MetricExplanation)
    assert found.name == name


def test_words_of_a_title_need_no_quotes(kvmscope: Any) -> None:
    result = kvmscope.run("explain", "to", "VMM/s", "--no-values")
    assert result.stdout.startswith("vmm_returns_per_s (")


def test_a_group_is_explained_with_its_stats_metrics_and_rules(crafted: Any) -> None:
    group = answer_of(live(crafted), "wakeups")["found"][-1]
    assert (group["what"], group["name"]) == ("group", "wakeups")
    assert "vcpu.wakeups" in group["stats"]
    assert "wakeup_p99_s" in group["metrics"]
    assert group["rules"]


def test_the_meaning_is_written_before_any_vm_is_read(kvmscope: Any) -> None:
    result = kvmscope.run("explain", "pf_fast", "--source", "bpf", error=Unavailable("no KVM here"))
    assert result.stdout.startswith("pf_fast: statistic of a vCPU")


def test_of_several_meanings_those_of_the_catalogue_come_first(kvmscope: Any, crafted: Any) -> None:
    on = [crafted.before, crafted.after]
    text = kvmscope.run("explain", "exits", "--interval", "1ms", on=on).stdout
    places = [
        text.index(words)
        for words in ("exits: statistic of a vCPU", "On this host: exits", "Values here", "provider disk")
    ]
    assert places == sorted(places)


def test_json_has_the_whole_explanation(kvmscope: Any, crafted: Any) -> None:
    on = [crafted.before, crafted.after]
    said = json.loads(kvmscope.run("explain", "exits", "--interval", "1ms", "--json", on=on).stdout)
    assert said["format"] == "kvmscope/1"
    assert said["why_not"] is None
    assert said["found"][0]["tier"] == "abi-like"
    assert said["found"][0]["here"]["interval_s"] == 2.0
