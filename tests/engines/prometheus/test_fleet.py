"""A fleet behind a real Prometheus: its answers are those that each host gives of itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from prometheus_server import exported_samples, open_metrics_of, prometheus_over, serving
from scraped_hosts import LAST_S, STEP_S, scenes_of

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.window import Window
from kvmscope.catalog.metrics import formulas, load_metrics
from kvmscope.engines.fleet import AccelerationState
from kvmscope.engines.prometheus.client import StoreAccess
from kvmscope.engines.prometheus.fleet import PrometheusFleet, store_access
from kvmscope.errors import Unavailable, UsageError
from kvmscope.export.stats import Detail
from kvmscope.formula.tree import HOST
from kvmscope.view.fleet.apicv import fleet_apicv_view
from kvmscope.view.fleet.doctor import fleet_doctor_view
from kvmscope.view.watch import HostView, Watch

TROUBLED = ("mmio-storm", "shadow-paging-churn")


HOSTS = {"a:9796": scenes_of("alpha", *TROUBLED), "b:9796": scenes_of("beta", apicv=frozenset({"pit_reinj"}))}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a Prometheus that scraped both hosts."""
    samples = (exported_samples(at, scenes, Detail.VCPU, is_judged=True) for at, scenes in HOSTS.items())
    text = open_metrics_of(chain.from_iterable(samples))
    with prometheus_over(text, tmp_path_factory.mktemp("prometheus")) as found:
        yield found


@pytest.fixture
def fleet(url: str) -> PrometheusFleet:
    return PrometheusFleet(StoreAccess(url), at_s=LAST_S)


def last_view(instance: str) -> HostView:
    """What the host says of its last interval."""
    watch = Watch()
    for scene in HOSTS[instance]:
        view = watch.add(scene)
    assert view is not None
    return view


def test_hosts_have_the_facts_that_they_export(fleet: PrometheusFleet) -> None:
    alpha, beta = fleet.hosts()
    assert (alpha.host, alpha.name, alpha.kernel, alpha.module) == ("a:9796", "alpha", "6.18.4", "kvm_intel")
    assert (alpha.vms, alpha.vcpus, beta.vms, beta.vcpus) == (3, 6, 1, 2)
    assert alpha.parameters == {"kvm.halt_poll_ns": "200000"}
    assert (alpha.first_ns, alpha.last_ns) == (round(LAST_S - 60) * 10**9, round(LAST_S) * 10**9)


def test_findings_are_those_of_the_hosts(fleet: PrometheusFleet) -> None:
    found = fleet.findings()
    wanted = {(each.rule.slug, at) for at in HOSTS for each in last_view(at).judgement.findings}
    assert {(each.rule, each.host) for each in found.findings} == wanted
    assert {each.rule for each in found.findings} >= set(TROUBLED)
    assert all(each.stands for each in found.findings)
    for each in found.findings:
        (own,) = [own for own in last_view(each.host).judgement.findings if own.rule.slug == each.rule]
        assert each.cost_cpus == pytest.approx(own.cost_cpus, rel=1e-6)
        assert each.name == own.rule.slug or each.host == "b:9796"


def test_findings_of_one_rule_or_host_are_no_others(fleet: PrometheusFleet) -> None:
    assert {each.rule for each in fleet.findings(rule="mmio-storm").findings} == {"mmio-storm"}
    assert {each.host for each in fleet.findings(host="a:9796").findings} == {"a:9796"}
    assert not fleet.findings(host="nobody").findings


def test_intervals_are_judged_from_the_counters(url: str) -> None:
    found = PrometheusFleet(StoreAccess(url), interval_s=60.0, at_s=LAST_S).findings()
    assert {(each.rule, each.name) for each in found.findings} == {(slug, slug) for slug in TROUBLED}
    assert found.window_s == 60.0
    assert "apicv-inhibited" in {each.subject for each in found.refused}
    assert not {each.subject for each in found.refused} & set(found.judged)


def test_acceleration_is_the_verdict_of_each_host(fleet: PrometheusFleet) -> None:
    found = {(each.host, each.name): each for each in fleet.acceleration()}
    assert len(found) == 4
    assert found["a:9796", "busy"].state is AccelerationState.ACTIVE
    beta = found["b:9796", "busy"]
    assert beta.state is AccelerationState.BLOCKED
    assert beta.reasons == ("pit_reinj",)
    assert beta.vcpus == 2
    assert {state: count for state, count in fleet_apicv_view(fleet).total.states.items() if count} == {
        "active": 3,
        "blocked": 1,
    }


def test_metrics_of_hosts_are_those_of_numpy(fleet: PrometheusFleet) -> None:
    names = [metric.name for metric in load_metrics()]
    found, refused = fleet.metrics(names)
    assert {each.subject for each in refused} == {"halted_vcpus", "nested_vcpus", "nested_share", "accelerated_vcpus"}
    values = {(each.host, each.metric): each.value for each in found}
    for at in HOSTS:
        evaluator = Evaluator(Window(HOSTS[at][-1 - 60 // STEP_S], HOSTS[at][-1]), formulas(load_metrics()))
        for name, formula in formulas(load_metrics()).items():
            (wanted,) = evaluator.of(formula, HOST).tolist()
            if name not in {each.subject for each in refused}:
                assert values.get((at, name), math.nan) == pytest.approx(wanted, rel=1e-6, nan_ok=True), name


def test_doctor_counts_vms_and_cores(fleet: PrometheusFleet) -> None:
    view = fleet_doctor_view(fleet)
    assert (view.engine, view.host_count, view.vm_count) == ("Prometheus", 2, 4)
    assert {total.rule for total in view.by_rule} >= set(TROUBLED)
    assert view.cost_cpus > 0.1


def test_a_store_without_hosts_says_what_would_help(tmp_path: Path) -> None:
    with serving(tmp_path) as empty, pytest.raises(Unavailable, match="no host") as refused:
        PrometheusFleet(StoreAccess(empty)).hosts()
    assert "kvmscope serve" in refused.value.remedy


def test_schemas_are_refused_by_name(fleet: PrometheusFleet) -> None:
    with pytest.raises(Unavailable, match="no schemas"):
        fleet.schemas()


def test_who_asks_is_in_the_environment() -> None:
    environment = {"KVMSCOPE_PROMETHEUS_TOKEN": "t", "KVMSCOPE_PROMETHEUS_TENANT": "x"}
    access = store_access("http://mimir/prometheus", environment)
    assert (access.bearer_token, access.headers) == ("t", {"X-Scope-OrgID": "x"})
    with pytest.raises(UsageError):
        PrometheusFleet(store_access("mimir", {}))
