"""The rule files: as the catalogue has them, valid by promtool, and each alert fires on a guest with its trouble."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from crafted_host import CraftedHost
from loads import machine
from prometheus_server import exported_samples
from troubles import BUSY, TROUBLES

from kvmscope.catalog.findings import load_findings
from kvmscope.catalog.metrics import load_metrics
from kvmscope.engines.prometheus.buckets import MOST_BUCKETS
from kvmscope.engines.prometheus.printer import MOST_CHARACTERS, SAYABLE_FACTS
from kvmscope.engines.prometheus.rules import (
    AlertRule,
    alert_annotations,
    alert_labels,
    rule_files,
    write_rules,
)
from kvmscope.export.stats import Detail
from kvmscope.scene import Scene, VmIdentity

PROJECT = Path(__file__).parent.parent.parent.parent
FOLDER = PROJECT / "contrib/prometheus"
SCRAPE_S = 15
SCRAPES = 17
INSTANCE = "node-1"
METRICS, ALERTS, FINDINGS = rule_files()


def promtool(*words: str) -> str:
    """What promtool says of files; skips where it is not installed."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: tools/debian-packages.txt")
    done = subprocess.run([found, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def test_the_files_are_those_of_the_catalogue() -> None:
    command = [sys.executable, str(PROJECT / "tools/prometheus_rules.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("file", rule_files(), ids=lambda file: str(file.name))
def test_promtool_finds_nothing_wrong(file: Any) -> None:
    count = len(file.recordings) + len(file.alerts)
    assert f"SUCCESS: {count} rules found" in promtool("check", "rules", str(FOLDER / f"{file.name}.rules.yml"))


def test_every_metric_is_recorded() -> None:
    names = [each.record for each in METRICS.recordings if each.record.endswith(":over1m")]
    assert len(set(names)) == len(load_metrics())
    assert not METRICS.refused


def test_every_rule_is_an_alert_or_refused_by_name() -> None:
    slugs = [rule.slug for rule in load_findings()]
    assert sorted([alert.rule.slug for alert in ALERTS.alerts] + [each.subject for each in ALERTS.refused]) == sorted(
        slugs
    )
    assert [alert.rule.slug for alert in FINDINGS.alerts] == slugs


def scenes_of(slug: str) -> list[Scene]:
    """A guest that has a trouble from the first scrape to the last."""
    trouble = TROUBLES[slug]
    host = CraftedHost()
    vm = host.add(vcpus=trouble.vcpus, apicv=trouble.apicv, active=trouble.active)
    vm.vm_stats.update(trouble.values)
    host.count(*(name for name in (*trouble.rates, *trouble.values) if "." in name))
    scenes = []
    for _ in range(SCRAPES):
        sample = host.sample()
        scenes.append(Scene(sample, (VmIdentity(vm.name, None),), machine(), {}))
        host.run(SCRAPE_S, {**BUSY, **trouble.rates})
    return scenes


def series_of(slug: str) -> dict[str, list[str]]:
    """The values of each series that the rules read, one a scrape."""
    read = set(re.findall(r"kvm_[a-z]\w+", write_rules(ALERTS)))
    found: dict[str, list[str]] = {}
    for sample in exported_samples(INSTANCE, scenes_of(slug), Detail.FULL):
        if sample.series.partition("{")[0] in read:
            found.setdefault(sample.series, []).append(sample.value)
    silent = f'kvm_vm_vmm_silent_seconds{{instance="{INSTANCE}",job="kvmscope",vm="{vm_key(found)}"}}'
    found[silent] = [str(TROUBLES[slug].vmm_silent_s)] * SCRAPES
    return found


def vm_key(series: Mapping[str, list[str]]) -> str:
    (info,) = (each for each in series if each.startswith("kvm_vm_info{"))
    return info.partition('vm="')[2].partition('"')[0]


def fired(alert: AlertRule, vm: str) -> dict[str, Any]:
    """The alert as promtool expects it."""
    told = {name: text for name, text in alert_annotations(alert).items() if name != "summary"}
    told["summary"] = f"vm on {INSTANCE}: {alert.rule.title}"
    return {
        "exp_labels": {**alert_labels(alert), "instance": INSTANCE, "job": "kvmscope", "vm": vm},
        "exp_annotations": told,
    }


Expected = tuple[str, str, list[Any]]
"""When, the name of an alert, and what fires then."""


def unit_test(series: Mapping[str, list[str]], *expected: Expected) -> Any:
    return {
        "interval": f"{SCRAPE_S}s",
        "input_series": [{"series": name, "values": " ".join(values)} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": at, "alertname": name, "exp_alerts": alerts} for at, name, alerts in expected
        ],
    }


def test_each_alert_fires_on_the_trouble_it_is_for_and_not_before(tmp_path: Path) -> None:
    tests = []
    for alert in ALERTS.alerts:
        series = series_of(alert.rule.slug)
        before = "1m" if TROUBLES[alert.rule.slug].rates else "30s"  # without rates it holds from the first scrape on
        early: list[Expected] = [(before, alert.name, [])] if alert.for_s else []
        tests.append(unit_test(series, *early, ("4m", alert.name, [fired(alert, vm_key(series))])))
    run_unit_tests(tmp_path, ALERTS.name, tests)


def test_no_alert_fires_on_a_guest_that_works(tmp_path: Path) -> None:
    series = series_of("hlt-exits-disabled")  # which is a setting, and no trouble in the counters
    expected: list[Expected] = [("4m", alert.name, []) for alert in ALERTS.alerts]
    run_unit_tests(tmp_path, ALERTS.name, [unit_test(series, *expected)])


def test_an_alert_goes_on_for_a_while_after_its_condition(tmp_path: Path) -> None:
    (alert,) = (alert for alert in ALERTS.alerts if alert.rule.slug == "mmu-lock-contended")
    series = {
        name: [*values, *[values[-1]] * SCRAPE_S * 2] if "_total" in name else [*values, *values, *values]
        for name, values in series_of(alert.rule.slug).items()
    }
    fires = [fired(alert, vm_key(series))]
    run_unit_tests(tmp_path, ALERTS.name, [unit_test(series, ("8m", alert.name, fires), ("11m", alert.name, []))])


def test_each_finding_of_a_host_is_an_alert(tmp_path: Path) -> None:
    tests = []
    for alert in FINDINGS.alerts:
        labels = f'instance="{INSTANCE}",job="kvmscope",rule="{alert.rule.slug}",severity="info",vm="vm"'
        series = {f"kvm_vm_finding{{{labels}}}": ["1", "1", "0"]}
        found = fired(alert, "vm")
        tests.append(unit_test(series, ("15s", alert.name, [found]), ("2m", alert.name, [])))
    run_unit_tests(tmp_path, FINDINGS.name, tests, every_s=SCRAPE_S)


def run_unit_tests(folder: Path, name: str, tests: list[Any], *, every_s: int = 60) -> None:
    rules = {"rule_files": [str(FOLDER / f"{name}.rules.yml")], "evaluation_interval": f"{every_s}s", "tests": tests}
    path = folder / "tests.json"  # JSON is YAML
    path.write_text(json.dumps(rules), encoding="utf-8")
    promtool("test", "rules", str(path))


def test_the_docs_have_the_refusals_and_no_other_with_their_reasons() -> None:
    page = (PROJECT / "docs/reference/engines.md").read_text(encoding="utf-8")
    table = page.partition("| rule | why |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    listed = {slug: why for slugs, why in rows for slug in slugs.split(", ")}
    assert listed == {refusal.subject: refusal.reason for refusal in ALERTS.refused}
    assert not METRICS.refused
    assert "Every metric of the catalogue can be said." in page


def test_the_docs_have_what_no_formula_may_ask_for() -> None:
    said = " ".join((PROJECT / "docs/reference/engines.md").read_text(encoding="utf-8").split())
    facts = " and ".join(f"`{name}`" for name in sorted(name for _, name in SAYABLE_FACTS))
    assert f"`fact(…)`, except {facts}, which are exported" in said
    assert f"a histogram of more than {MOST_BUCKETS} buckets" in said
    assert f"more than {MOST_CHARACTERS:,} characters" in said


def test_the_docs_have_the_alerts_that_need_series_of_vcpus() -> None:
    said = " ".join((PROJECT / "docs/reference/engines.md").read_text(encoding="utf-8").split())
    listed = said.partition("need `--detail vcpu`: ")[2].partition(".")[0]
    assert listed.split(", ") == [alert.rule.slug for alert in ALERTS.alerts if alert.needs_vcpus]
    in_full = said.partition("need `--detail full`: ")[2].partition(".")[0]
    assert in_full.split(", ") == [alert.rule.slug for alert in ALERTS.alerts if alert.needs_histograms]
