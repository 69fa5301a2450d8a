"""Recording rules of metrics and alerts of findings, from the catalogue.

- *Metrics*: one recording rule for each metric of VMs, over the window of the group; and one for the buckets of each
  histogram with a quantile, which reads them many times.
- *Alerts*: one for each rule of the catalogue that PromQL can express, from the counters. ``for`` is the number of
  consecutive windows in which its condition has to hold. Alerts have no hysteresis: where a rule has a separate
  clearing threshold, ``keep_firing_for`` keeps the alert from flapping, and the alert ends that long after the
  condition last held, whatever the clearing threshold is. Counts that alerts read are recorded by rules of the same
  group. - *Findings*: one alert for each rule, from ``kvm_vm_finding``, the finding that the host itself reports.

A group is evaluated once per window, so windows adjoin and consecutive evaluations are consecutive windows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final

from ...catalog.caveats import ModuleIs, load_caveats
from ...catalog.findings import Rule, Severity, load_findings
from ...catalog.metrics import formulas, load_metrics
from ...catalog.series_names import HOST_INFO, VM_FINDING, VM_INFO, metric_family
from ...formula.check import Formula
from ...schema import Scope
from ..refusal import EngineRefusal, QueryEngine
from .columns import CountSource
from .kinds import FleetQuery, Say, fleet_query
from .leaves import ExportedCount, Leaves
from .printer import print_holds, print_promql

WINDOW: Final = "1m"
_WINDOW_S: Final = 60
KEEP_FIRING_S: Final = 300
"""How long an alert with hysteresis keeps firing after its condition last held."""

_METRIC_LEVEL: Final = "kvmscope_vm"
_COUNT_LEVEL: Final = "kvm_vm"
_OF_VMS: Final = "kvm_vm_"
_OF_VCPUS: Final = "kvm_vcpu_"
_HISTOGRAM_OF_VCPUS: Final = re.compile(r"\bkvm_vcpu_\w+_(bucket|count)\b")
_SEVERITIES: Final[Mapping[Severity, str]] = MappingProxyType(
    {Severity.INFO: "info", Severity.WARNING: "warning", Severity.PROBLEM: "critical"}
)
"""Severities as common Alertmanager routes name them."""


@dataclass(frozen=True, slots=True)
class RecordingRule:
    """A series that a store computes."""

    record: str
    query: str


@dataclass(frozen=True, slots=True)
class AlertRule:
    """The alert for one rule of the catalogue."""

    rule: Rule
    query: str
    for_s: int = 0
    keep_firing_for_s: int = 0

    @property
    def name(self) -> str:
        return "Kvm" + "".join(word.capitalize() for word in self.rule.slug.split("-"))

    @property
    def needs_vcpus(self) -> bool:
        """Whether it reads series of vCPUs, which ``serve`` exports for every VM only with ``--detail vcpu``."""
        return _OF_VCPUS in self.query

    @property
    def needs_histograms(self) -> bool:
        """Whether it reads histograms of vCPUs, which need ``--detail full``."""
        return _HISTOGRAM_OF_VCPUS.search(self.query) is not None


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A file with one group. ``refused``: metrics or rules that it lacks, and why."""

    name: str
    about: str
    recordings: tuple[RecordingRule, ...] = ()
    alerts: tuple[AlertRule, ...] = ()
    refused: tuple[EngineRefusal, ...] = ()


class RecordedCounts(Leaves):
    """Leaves of VMs under the names of recording rules, which ``rules`` collects.

    ``level``: the first part of the names. ``buckets_only``: record only buckets of histograms, which a quantile reads
    often.
    """

    def __init__(self, window: str, level: str, *, buckets_only: bool = False) -> None:
        super().__init__(window)
        self._level = level
        self._buckets_only = buckets_only
        self._rules: dict[str, str] = {}

    @property
    def rules(self) -> tuple[RecordingRule, ...]:
        return tuple(RecordingRule(name, query) for name, query in self._rules.items())

    def change(self, count: ExportedCount, matcher: str = "") -> str:
        if not self._is_recorded(count):
            return super().change(count, matcher)
        name = self._recorded(count, "delta", super().change(count))
        return f"{name}{{{matcher}}}" if matcher else name

    def rate(self, count: ExportedCount, matcher: str = "") -> str:
        if matcher or not self._is_recorded(count):
            return super().rate(count, matcher)
        return self._recorded(count, "rate", super().rate(count))

    def _is_recorded(self, count: ExportedCount) -> bool:
        return count.series.startswith(_OF_VMS) and (count.has_bounds or not self._buckets_only)

    def _recorded(self, count: ExportedCount, operation: str, query: str) -> str:
        stem = count.series.removeprefix(_OF_VMS).removesuffix("_total")
        name = f"{self._level}:{stem}:{operation}{self.window}"
        self._rules[name] = query
        return name


@cache
def rule_files() -> tuple[RuleFile, ...]:
    """Every file, in the order of docs/reference/engines.md."""
    return metric_rules(), alert_rules(), finding_rules()


def metric_rules() -> RuleFile:
    """Metrics of VMs as recording rules."""
    leaves, metrics = RecordedCounts(WINDOW, _METRIC_LEVEL, buckets_only=True), formulas(load_metrics())
    recordings, refused = [], []
    for metric in load_metrics():
        found = fleet_query(metric.formula, Scope.VM, metrics, _number(leaves), subject=metric.name)
        if isinstance(found, EngineRefusal):
            refused.append(found)
        else:
            stem = metric_family(metric, Scope.VM).name.removeprefix("kvm_vm_metric_")
            recordings.append(RecordingRule(f"{_METRIC_LEVEL}:{stem}:over{WINDOW}", found.text))
    about = f"The metrics of the catalogue for each VM, over {WINDOW}."
    read = _only_read(leaves.rules, (each.query for each in recordings))
    return RuleFile("kvmscope-metrics", about, (*read, *recordings), refused=tuple(refused))


def alert_rules() -> RuleFile:
    """Rules of the catalogue as alerts, evaluated by the store."""
    leaves, metrics = RecordedCounts(WINDOW, _COUNT_LEVEL), formulas(load_metrics())
    alerts, refused = [], []
    for rule in load_findings():
        found = _alert(rule, metrics, leaves)
        if isinstance(found, EngineRefusal):
            refused.append(found)
        else:
            alerts.append(found)
    about = "Findings of kvmscope doctor, judged by Prometheus from counters. Load this or kvmscope-findings, not both."
    recordings = _only_read(leaves.rules, (alert.query for alert in alerts))
    return RuleFile("kvmscope-alerts", about, recordings, tuple(alerts), tuple(refused))


def finding_rules() -> RuleFile:
    """Rules of the catalogue as alerts, evaluated by each host."""
    alerts = (AlertRule(rule, f'{VM_FINDING.sample_name}{{rule="{rule.slug}"}} == 1') for rule in load_findings())
    about = "Findings of kvmscope doctor as each host reports them. Load this or kvmscope-alerts, not both."
    return RuleFile("kvmscope-findings", about, alerts=tuple(alerts))


def _only_read(recordings: Iterable[RecordingRule], queries: Iterable[str]) -> tuple[RecordingRule, ...]:
    """The recording rules that any query reads; those of refused rules are left out."""
    text = "\n".join(queries)
    return tuple(each for each in recordings if each.record in text)


def _number(leaves: Leaves) -> Say:
    return lambda formula: print_promql(formula, leaves, CountSource.VM_SUMS)


def _holds(leaves: Leaves) -> Say:
    return lambda formula: print_holds(formula, leaves, CountSource.VM_SUMS)


def _alert(rule: Rule, metrics: Mapping[str, Formula], leaves: Leaves) -> AlertRule | EngineRefusal:
    query = judged_rule(rule, metrics, leaves)
    if isinstance(query, EngineRefusal):
        return query
    keep_s = KEEP_FIRING_S if rule.clears is not None else 0
    return AlertRule(rule, query, (rule.windows - 1) * _WINDOW_S, keep_s)


def judged_rule(rule: Rule, metrics: Mapping[str, Formula], leaves: Leaves) -> str | EngineRefusal:
    """The VMs for which a rule's condition and minimum of activity hold in one window, on hosts where it is not
    silent."""
    texts = []
    for condition in rule.conditions:
        found = fleet_query(condition, Scope.VM, metrics, _holds(leaves), subject=rule.slug)
        if isinstance(found, EngineRefusal):
            return found
        texts.append(_in_parentheses(found))
    query = "\nand\n".join(texts)
    for slug in rule.silent_if:
        guard = _silence(rule, slug)
        if isinstance(guard, EngineRefusal):
            return guard
        query += f"\n{guard}"
    return query


def _in_parentheses(query: FleetQuery) -> str:
    return f"({query.text})" if len(query.parts) > 1 else query.text


def _silence(rule: Rule, slug: str) -> str | EngineRefusal:
    """A clause that leaves out hosts on which the rule's stats have another meaning."""
    condition = load_caveats()[slug].holds_if
    if isinstance(condition, ModuleIs):
        return f'unless on (job, instance) {HOST_INFO.sample_name}{{kvm_module="{condition.name}"}}'
    return EngineRefusal(QueryEngine.PROMETHEUS, rule.slug, f"no series says where caveat {slug} holds")


# --- as YAML ----------------------------------------------------------------------------------------------------------


def write_rules(file: RuleFile) -> str:
    """The file in Prometheus's format."""
    return "".join(f"{line}\n" for line in _lines(file))


def _lines(file: RuleFile) -> Iterator[str]:
    yield f"# {file.about}"
    yield "# Generated by tools/prometheus_rules.py from the catalogue; docs/reference/engines.md says what to load."
    yield "groups:"
    yield f"  - name: {file.name}"
    yield f"    interval: {WINDOW}"
    yield "    rules:"
    for recording in file.recordings:
        yield f"      - record: {recording.record}"
        yield from _query(recording.query)
    for alert in file.alerts:
        yield from _alert_lines(alert)


def _alert_lines(alert: AlertRule) -> Iterator[str]:
    if alert.needs_vcpus:
        yield f"      # needs kvmscope serve --detail {'full' if alert.needs_histograms else 'vcpu'}"
    yield f"      - alert: {alert.name}"
    yield from _query(alert.query)
    if alert.for_s:
        yield f"        for: {alert.for_s}s"
    if alert.keep_firing_for_s:
        yield f"        keep_firing_for: {alert.keep_firing_for_s}s"
    for key, words in (("labels", alert_labels(alert)), ("annotations", alert_annotations(alert))):
        yield f"        {key}:"
        for name, text in words.items():
            yield f"          {name}: {json.dumps(text, ensure_ascii=False)}"


def _query(query: str) -> Iterator[str]:
    yield "        expr: |-"
    for line in query.splitlines():
        yield f"          {line}"


def alert_labels(alert: AlertRule) -> dict[str, str]:
    """The labels that an alert adds."""
    return {"rule": alert.rule.slug, "severity": _SEVERITIES[alert.rule.severity]}


def alert_annotations(alert: AlertRule) -> dict[str, str]:
    """The texts of an alert, as Prometheus templates."""
    rule = alert.rule
    # A remedy for some hosts only depends on facts of the host, which doctor has.
    remedies = [remedy for remedy in rule.remedies if remedy.only_if is None]
    return {
        "summary": f"{_NAME_OF_VM} on {{{{ $labels.instance }}}}: {_plain(rule.title)}",
        "description": _plain(rule.explanation),
        "threshold": _plain(rule.threshold),
        "remedy": _numbered(remedy.do for remedy in remedies),
        "price": _numbered(remedy.price for remedy in remedies),
        "runbook": f"kvmscope doctor, and docs/reference/findings.md#{rule.slug}",
    }


_NAME_OF_VM: Final = (
    f'{{{{ with printf "{VM_INFO.sample_name}{{instance=%q,vm=%q}}" $labels.instance $labels.vm | query }}}}'
    '{{ . | first | label "name" }}{{ else }}{{ $labels.vm }}{{ end }}'
)


def _numbered(texts: Iterable[str]) -> str:
    found = list(map(_plain, texts))
    return found[0] if len(found) == 1 else " ".join(f"{number}. {text}" for number, text in enumerate(found, 1))


def _plain(text: str) -> str:
    """Text with template delimiters escaped."""
    return text.replace("{{", '{{ "{{" }}')
