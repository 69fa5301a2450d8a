"""A fleet behind a PromQL store: the series that its hosts export by ``kvmscope serve``, as rows of a ``FleetStore``.

Findings are those that each host reports itself (``kvm_vm_finding``), over the last hour. With ``interval_s``, rules
are evaluated from the counters instead, as far as PromQL can express them. Costs, and metrics of whole hosts, are
computed from the counters over one window.

Rule: series that exist for some VMs only (those of vCPUs, with ``--detail vm``) are not summed for a host.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ...catalog.findings import Rule, find_rule, load_findings
from ...catalog.metrics import Metric, formulas, load_metrics
from ...catalog.series_names import (
    HOST_APICV,
    HOST_INFO,
    HOST_PARAMETER,
    SIMULATED,
    VM_APICV_REASON,
    VM_APICV_STATE,
    VM_FINDING,
    VM_INFO,
    VM_VCPUS,
    metric_family,
)
from ...closing import Closable
from ...errors import KvmscopeError, SourceError, Unavailable
from ...formula.check import Formula
from ...formula.tree import HOST, Level
from ...host.text import printable
from ...schema import Scope
from ..fleet import (
    AccelerationState,
    FleetAcceleration,
    FleetFinding,
    FleetFindings,
    FleetHost,
    FleetMetric,
    FleetSchema,
    FleetVm,
)
from ..refusal import EngineRefusal, QueryEngine
from .client import PrometheusStore, StoreAccess, StoreAnswer, StoreSample
from .columns import CountSource
from .kinds import fleet_query
from .leaves import Leaves
from .printer import print_promql
from .rules import judged_rule

WINDOW_S: Final = 60.0
_LOOKED_BACK: Final = "1h"
_STEP: Final = "1m"
_STEP_S: Final = 60
_INHIBITED: Final = "inhibited"
_STATES: Final[Mapping[str, AccelerationState]] = MappingProxyType(
    {
        "active": AccelerationState.ACTIVE,
        _INHIBITED: AccelerationState.BLOCKED,
        "unsupported": AccelerationState.UNSUPPORTED,
    }
)
_APICV_RULES: Final = ("apicv-inhibited", "apicv-off")
_OF_VCPUS: Final = "kvm_vcpu_"

_VmKey = tuple[str, str]
"""Labels ``instance`` and ``vm``."""


@dataclass(frozen=True, slots=True)
class _VmTitle:
    """A VM as described by ``kvm_vm_info``."""

    id: str
    name: str | None
    vmm: str | None
    managed_by: str | None


@dataclass(frozen=True, slots=True)
class _FindingSpan:
    """When a finding stood: Unix times, and the number of windows."""

    since_s: float
    until_s: float
    windows: int
    stands: bool


@dataclass(frozen=True, slots=True)
class _FindingSizes:
    """The cost of a rule for each VM: CPUs, and vCPUs whose wall time is lost."""

    costs: Mapping[_VmKey, float]
    losses: Mapping[_VmKey, float]


_NO_SIZES: Final = _FindingSizes({}, {})


class PrometheusFleet(Closable):
    """A ``FleetStore``. ``interval_s``: length of windows; None: use the findings that hosts report.

    A host is identified by its label ``instance``. All answers are for the same time.
    """

    engine = QueryEngine.PROMETHEUS

    def __init__(self, access: StoreAccess, *, interval_s: float | None = None, at_s: float | None = None) -> None:
        """``at_s``: the Unix time of all answers; None: the store's time at the first query."""
        self.place = access.url.rpartition("@")[2] if "@" in access.url else access.url
        self._store = PrometheusStore(access)
        self._interval_s = interval_s
        self._asked_s = at_s
        self._window_s = interval_s or WINDOW_S
        self._leaves = Leaves(f"{round(self._window_s)}s")
        self._metrics = formulas(load_metrics())
        self._warnings: set[str] = set()
        self.damage: Sequence[KvmscopeError] = ()
        """Warnings of the store: its answers may be incomplete."""

    def hosts(self) -> Sequence[FleetHost]:
        """As ``FleetStore``. Raises Unavailable if no host of kvmscope is scraped."""
        infos = self._infos
        vms, vcpus = (self._by_host(text) for text in (_count(VM_INFO.sample_name), _sum(VM_VCPUS.sample_name)))
        simulated = self._by_host(f"max by (instance) ({SIMULATED.sample_name})")
        begun = self._by_host(f"max by (instance) (timestamp({HOST_INFO.sample_name} offset {self._leaves.window}))")
        ended = self._by_host(f"max by (instance) (timestamp({HOST_INFO.sample_name}))")
        parameters = self._parameters()
        found = (
            FleetHost(
                host=host,
                name=labels.get("name"),
                kernel=labels.get("kernel"),
                architecture=labels.get("architecture"),
                module=labels.get("kvm_module"),
                cpu=labels.get("cpu"),
                parameters=parameters.get(host, {}),
                simulated=simulated.get(host, 0.0) > 0,
                vms=round(vms.get(host, 0.0)),
                vcpus=round(vcpus.get(host, 0.0)),
                first_ns=_ns(begun.get(host, ended[host])),
                last_ns=_ns(ended[host]),
            )
            for host, labels in infos.items()
            if host in ended
        )
        return tuple(sorted(found, key=lambda host: (host.name or host.host, host.host)))

    def findings(self, *, rule: str | None = None, host: str | None = None) -> FleetFindings:
        """As ``FleetStore``."""
        rules = load_findings() if rule is None else (find_rule(rule),)
        if self._interval_s is not None:
            return self._judged(rules, host)
        found = list(self._reported(rules, host))
        return FleetFindings(found, [each.slug for each in rules], (), 0.0)

    def vms(self, chosen: Collection[tuple[str, str]]) -> Sequence[FleetVm]:
        """As ``FleetStore``."""
        return [
            FleetVm(host, title.id, title.vmm, title.managed_by)
            for (host, _), title in self._titles.items()
            if (host, title.id) in chosen
        ]

    def acceleration(self, *, has_rates: bool = True) -> Sequence[FleetAcceleration]:
        """As ``FleetStore``."""
        reasons: dict[_VmKey, set[str]] = {}
        for sample in self._ask(VM_APICV_REASON.sample_name).samples:
            reasons.setdefault(_vm_key(sample), set()).add(sample.labels.get("reason", ""))
        switched_on = self._by_host(f'max by (instance) ({HOST_APICV.sample_name}{{fact="switched_on"}})')
        vcpus = self._by_vm(VM_VCPUS.sample_name)
        injections = self._by_vm(metric_family(_metric("injections_per_s"), Scope.VM).name) if has_rates else {}
        costs = self._costs_of_injections() if has_rates else {}
        return [
            FleetAcceleration(
                host=key[0],
                vm=self._title(key).id,
                name=self._title(key).name,
                vmm=self._title(key).vmm,
                vcpus=round(vcpus.get(key, 0.0)),
                state=_state(sample.labels.get("state", ""), switched_on.get(key[0])),
                reasons=tuple(sorted(reasons.get(key, ()))),
                injections_per_s=injections.get(key),
                cost_cpus=costs.get(key),
            )
            for sample in self._ask(VM_APICV_STATE.sample_name).samples
            for key in (_vm_key(sample),)
        ]

    def metrics(self, names: Sequence[str]) -> tuple[Sequence[FleetMetric], Sequence[EngineRefusal]]:
        """As ``FleetStore``: over one window."""
        found: list[FleetMetric] = []
        refused: list[EngineRefusal] = []
        for name in names:
            query = self._said(self._metrics[name], HOST, name)
            if isinstance(query, EngineRefusal):
                refused.append(query)
            else:
                found += [FleetMetric(host, name, value) for host, value in self._by_host(query).items()]
        return found, refused

    def schemas(self) -> Sequence[FleetSchema]:
        """Raises Unavailable: series have names and no descriptors."""
        remedy = "ask recordings or ClickHouse, which keep the schemas"
        raise Unavailable("Prometheus keeps no schemas of statistics", remedy=remedy, path=self.place)

    def close(self) -> None:
        """Nothing is kept open."""

    # --- findings -----------------------------------------------------------------------------------------------------

    def _reported(self, rules: Iterable[Rule], host: str | None) -> Iterator[FleetFinding]:
        """The findings that hosts reported in the last hour."""
        series = f"{VM_FINDING.sample_name}{_matcher(host)}"
        stands = {_finding_key(sample) for sample in self._ask(f"{series} == 1").samples}
        held = f"({series} == 1)[{_LOOKED_BACK}:{_STEP}]"
        times = f"timestamp({series} == 1)[{_LOOKED_BACK}:{_STEP}]"
        counts = {_finding_key(each): each.value for each in self._ask(f"count_over_time({held})").samples}
        begun = {_finding_key(each): each.value for each in self._ask(f"min_over_time({times})").samples}
        ended = {_finding_key(each): each.value for each in self._ask(f"max_over_time({times})").samples}
        by_slug: dict[str, list[_VmKey]] = {}
        for slug, key in dict.fromkeys([*stands, *counts]):
            by_slug.setdefault(slug, []).append(key)
        for rule in rules:
            keys = by_slug.get(rule.slug, [])
            sizes = self._sizes(rule) if keys else _NO_SIZES
            for key in keys:
                place = (rule.slug, key)
                span = _FindingSpan(
                    begun.get(place, self._at_s),
                    ended.get(place, self._at_s),
                    round(counts.get(place, 1.0)),
                    place in stands,
                )
                yield self._finding(rule, key, span, sizes)

    def _judged(self, rules: Sequence[Rule], host: str | None) -> FleetFindings:
        """The findings of the rules in the newest windows, from the counters."""
        found: list[FleetFinding] = []
        judged: list[str] = []
        refused: list[EngineRefusal] = []
        for rule in rules:
            query = judged_rule(rule, self._metrics, self._leaves)
            if isinstance(query, EngineRefusal):
                refused.append(query)
                continue
            judged.append(rule.slug)
            keys = [key for key in self._fires(rule, query) if host in (None, key[0])]
            sizes = self._sizes(rule) if keys else _NO_SIZES
            span = _FindingSpan(self._at_s - rule.windows * self._window_s, self._at_s, rule.windows, stands=True)
            found += [self._finding(rule, key, span, sizes) for key in keys]
        return FleetFindings(found, judged, refused, self._window_s)

    def _fires(self, rule: Rule, query: str) -> list[_VmKey]:
        """The VMs for which a rule's condition holds in as many consecutive windows as it requires."""
        begin_s = self._at_s - (rule.windows - 1) * self._window_s
        answer = self._store.query_range(query, begin_s=begin_s, end_s=self._at_s, step_s=self._window_s)
        self._note(answer)
        times: dict[_VmKey, set[float]] = {}
        for sample in answer.samples:
            times.setdefault(_vm_key(sample), set()).add(sample.time_s)
        return [key for key, found in times.items() if len(found) == rule.windows]

    def _finding(self, rule: Rule, key: _VmKey, span: _FindingSpan, sizes: _FindingSizes) -> FleetFinding:
        title = self._title(key)
        return FleetFinding(
            rule=rule.slug,
            host=key[0],
            vm=title.id,
            name=title.name,
            since_ns=_ns(span.since_s),
            until_ns=_ns(span.until_s),
            windows=span.windows,
            stands=span.stands,
            cost_cpus=sizes.costs.get(key),
            lost_vcpus=sizes.losses.get(key),
        )

    def _sizes(self, rule: Rule) -> _FindingSizes:
        """The current cost of a rule for each VM, as far as PromQL can express it."""
        formulas_of = (rule.cost, rule.lost)
        return _FindingSizes(*({} if each is None else self._values(each, rule.slug) for each in formulas_of))

    def _values(self, formula: Formula, subject: str) -> Mapping[_VmKey, float]:
        query = self._said(formula, Scope.VM, subject)
        return {} if isinstance(query, EngineRefusal) else self._by_vm(query)

    def _said(self, formula: Formula, level: Level, subject: str) -> str | EngineRefusal:
        query = fleet_query(
            formula,
            level,
            self._metrics,
            lambda each: print_promql(each, self._leaves, CountSource.VM_SUMS),
            subject=subject,
        )
        if isinstance(query, EngineRefusal):
            return query
        if level is HOST and _OF_VCPUS in query.text:
            reason = "it needs the series of vCPUs of every VM, and they may be there for some VMs only"
            return EngineRefusal(QueryEngine.PROMETHEUS, subject, reason)
        return query.text

    def _costs_of_injections(self) -> Mapping[_VmKey, float]:
        """The costs for VMs without acceleration, by the formula that these rules share."""
        rule = find_rule(_APICV_RULES[0])
        return {} if rule.cost is None else self._values(rule.cost, rule.slug)

    # --- queries ------------------------------------------------------------------------------------------------------

    @cached_property
    def _infos(self) -> Mapping[str, Mapping[str, str]]:
        answer = self._ask(HOST_INFO.sample_name)
        if not answer.samples:
            remedy = "have it scrape `kvmscope serve` on the hosts (docs/reference/serve.md)"
            raise Unavailable(f"{self.place} has no host that kvmscope serves", remedy=remedy, path=self.place)
        return {each.labels.get("instance", ""): _known(each.labels) for each in answer.samples}

    @cached_property
    def _at_s(self) -> float:
        return self._store.query("time()").samples[0].value if self._asked_s is None else self._asked_s

    @cached_property
    def _titles(self) -> Mapping[_VmKey, _VmTitle]:
        return {
            _vm_key(sample): _VmTitle(
                labels.get("id", labels.get("vm", "")), labels.get("name"), labels.get("vmm"), labels.get("managed_by")
            )
            for sample in self._ask(VM_INFO.sample_name).samples
            for labels in (_known(sample.labels),)
        }

    def _title(self, key: _VmKey) -> _VmTitle:
        return self._titles.get(key, _VmTitle(key[1], None, None, None))

    def _parameters(self) -> Mapping[str, Mapping[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for sample in self._ask(HOST_PARAMETER.sample_name).samples:
            labels = sample.labels
            found.setdefault(labels.get("instance", ""), {})[labels.get("parameter", "")] = labels.get("value", "")
        return found

    def _ask(self, query: str) -> StoreAnswer:
        answer = self._store.query(query, at_s=self._at_s)
        self._note(answer)
        return answer

    def _note(self, answer: StoreAnswer) -> None:
        """Keep new warnings."""
        new = dict.fromkeys(text for text in answer.warnings if text not in self._warnings)
        self._warnings |= new.keys()
        self.damage = (*self.damage, *(SourceError(f"{self.place} warns: {printable(text)}") for text in new))

    def _by_host(self, query: str) -> Mapping[str, float]:
        return {sample.labels.get("instance", ""): sample.value for sample in self._ask(query).samples}

    def _by_vm(self, query: str) -> Mapping[_VmKey, float]:
        return {_vm_key(sample): sample.value for sample in self._ask(query).samples}


def open_prometheus_fleet(url: str, *, interval_s: float | None = None) -> PrometheusFleet:
    """The fleet behind this URL, with credentials from the environment. Raises as ``PrometheusStore`` does."""
    return PrometheusFleet(store_access(url, os.environ), interval_s=interval_s)


def store_access(url: str, environment: Mapping[str, str]) -> StoreAccess:
    """The access with credentials from environment variables, to keep secrets off command lines
    (docs/reference/engines.md)."""
    tenant = environment.get("KVMSCOPE_PROMETHEUS_TENANT")
    return StoreAccess(
        url,
        username=environment.get("KVMSCOPE_PROMETHEUS_USER"),
        password=environment.get("KVMSCOPE_PROMETHEUS_PASSWORD"),
        bearer_token=environment.get("KVMSCOPE_PROMETHEUS_TOKEN"),
        ca_file=_path(environment.get("KVMSCOPE_PROMETHEUS_CA")),
        client_cert_file=_path(environment.get("KVMSCOPE_PROMETHEUS_CERT")),
        headers={} if tenant is None else {"X-Scope-OrgID": tenant},
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _state(word: str, switched_on: float | None) -> AccelerationState:
    if word == _INHIBITED and switched_on == 0:
        return AccelerationState.OFF
    return _STATES.get(word, AccelerationState.UNKNOWN)


def _matcher(host: str | None) -> str:
    return "" if host is None else f"{{instance={json.dumps(host, ensure_ascii=False)}}}"


def _count(series: str) -> str:
    return f"count by (instance) ({series})"


def _sum(series: str) -> str:
    return f"sum by (instance) ({series})"


def _metric(name: str) -> Metric:
    return next(metric for metric in load_metrics() if metric.name == name)


def _vm_key(sample: StoreSample) -> _VmKey:
    return sample.labels.get("instance", ""), sample.labels.get("vm", "")


def _finding_key(sample: StoreSample) -> tuple[str, _VmKey]:
    return sample.labels.get("rule", ""), _vm_key(sample)


def _known(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels without empty ones, which mean unknown."""
    return {name: value for name, value in labels.items() if value}


def _ns(seconds: float) -> int:
    return round(seconds * 1000) * 10**6
