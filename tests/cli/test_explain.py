"""What names of the catalogue mean here: each can be explained, with values or with the reason why there are none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kvmscope.analysis.window import Window
from kvmscope.catalog.caveats import load_caveats
from kvmscope.catalog.findings import load_findings
from kvmscope.catalog.inhibits import load_inhibits
from kvmscope.catalog.metrics import load_metrics
from kvmscope.catalog.stats import load_stats
from kvmscope.cli.explain import lines
from kvmscope.cli.explaining import Explainer, Here
from kvmscope.errors import Unavailable
from kvmscope.host.machine import read_machine
from kvmscope.scene import Scene


def _here(crafted: Any) -> Explainer:
    scene = Scene(crafted.after, crafted.identities, crafted.machine, {})
    return Explainer(crafted.machine, Here(scene, Window(crafted.before, crafted.after)))


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
    explainer = _here(crafted)
    expect(file, "\n".join(lines(explainer, explainer.explain(name))))


NAMES = [
    *dict.fromkeys(entry.name for entry in load_stats() if entry.template is None),
    *(metric.name for metric in load_metrics()),
    *(rule.slug for rule in load_findings()),
    *load_inhibits(),
    *load_caveats(),
]


def test_every_name_of_the_catalogue_can_be_explained_without_a_host() -> None:
    explainer = Explainer(read_machine(), None, "not asked for")
    for name in NAMES:
        text = list(lines(explainer, explainer.explain(name)))
        assert text[0].startswith(name)
        assert json.dumps(explainer.explain(name), allow_nan=False)


def test_a_name_of_two_providers_is_explained_for_both_and_chosen_by_provider(crafted: Any) -> None:
    explainer = _here(crafted)
    owners = {found["provider"] for found in explainer.explain("exits") if found["what"] == "stat"}
    assert owners == {"kvm", "disk"}
    [of_disk] = explainer.explain("disk.exits")
    assert (of_disk["provider"], of_disk["catalogued"]) == ("disk", False)


def test_an_enumerator_of_the_kernel_names_its_reason(crafted: Any) -> None:
    [reason] = _here(crafted).explain("APICV_INHIBIT_REASON_PIT_REINJ")
    assert reason["what"] == "reason"
    assert reason["name"] == "pit_reinj"


def test_values_are_of_the_window_and_what_is_not_known_is_null(crafted: Any) -> None:
    stats = {found["provider"]: found for found in _here(crafted).explain("exits")}
    values = {vm["vm"].split("-")[0]: vm["per_s"] for vm in stats["kvm"]["here"]["vms"]}
    assert values["web"] == (40_000 + 200) / 2
    assert values["half"] == 250
    assert values["数据库"] is None


def test_a_caveat_that_depends_on_the_vm_names_those_for_which_it_holds(crafted: Any) -> None:
    told = [caveat for found in _here(crafted).explain("exits") for caveat in found.get("caveats", ())]
    assert {caveat["verdict"] for caveat in told} <= {"holds", "does not hold", "cannot tell"}
    assert all(caveat["reason"] for caveat in told)


def test_a_host_that_cannot_be_read_still_gets_the_meaning(kvmscope: Any) -> None:
    result = kvmscope.run("explain", "pf_fast", error=Unavailable("no KVM here"))
    assert result.exit_code == 0
    assert "Values here: not known (no KVM here)" in result.stdout
    result = kvmscope.run("explain", "pf_fast", "--source", "bpf", error=Unavailable("no KVM here"))
    assert result.exit_code == 3


def test_a_name_that_is_nothing_gets_the_nearest(kvmscope: Any) -> None:
    result = kvmscope.run("explain", "pf_fats", "--no-values")
    assert result.exit_code == 2
    assert "did you mean pf_fast" in result.stderr


def test_json_has_the_whole_explanation(kvmscope: Any, crafted: Any) -> None:
    on = [crafted.before, crafted.after]
    said = json.loads(kvmscope.run("explain", "exits", "--interval", "1ms", "--json", on=on).stdout)
    assert said["format"] == "kvmscope/1"
    assert said["why_not"] is None
    assert said["found"][0]["tier"] == "abi-like"
    assert said["found"][0]["here"]["interval_s"] == 2.0
