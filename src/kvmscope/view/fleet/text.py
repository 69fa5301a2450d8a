"""The lines of the answers over many hosts, each for a page of some width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ...analysis.difference import DifferenceVerdict
from ...catalog.metrics import load_metrics
from ...host.text import printable
from ...units import NOT_KNOWN_SIGN, format_count, format_estimate, rfc3339
from ..diff_text import signed
from ..findings_text import advice_lines
from ..text import columns, counted, few, fill, format_metric
from .apicv import AccelerationGroup, FleetApicvView
from .diff import FleetDiffView, FleetMetricDifference, SideMean
from .doctor import FleetDoctorView, FleetFindingView, FleetRuleTotal
from .place import head_lines, host_name
from .schemas import FleetSchemasView, FleetSchemaView
from .status import FleetHostStatus, FleetStatusView

HOSTS_SHOWN: Final = 20
_RULES_WHOLE: Final = 3
"""Number of rules that are shown with impact and fix; the others get their numbers alone."""
_WORST_SHOWN: Final = 3
_FINDINGS_SHOWN: Final = 200
_NAMES_SHOWN: Final = 6
_METRICS_SHOWN: Final = 30
_INDENT: Final = "   "


def fleet_status_lines(view: FleetStatusView, *, width: int, shows_all: bool = False) -> Iterator[str]:
    """Hosts, the costliest findings first."""
    yield from head_lines(view, width=width)
    yield from fill(f"kernels: {_counts(view.kernels, 'host')}", width=width)
    sick = [row for row in view.hosts if row.findings]
    yield ""
    if not sick:
        yield "nothing found on any host"
        return
    cost = f", about {format_estimate(view.cost_cpus)} CPU in all" if view.cost_cpus else ""
    yield f"{counted(view.findings, 'finding')} on {view.affected_hosts} of {counted(view.host_count, 'host')}{cost}"
    shown = sick if shows_all else sick[:HOSTS_SHOWN]
    yield from columns(
        [("HOST", "KERNEL", "VMS", "AFFECTED", "CPUS", "FINDINGS"), *map(_host_cells, shown)], right=(2, 3, 4)
    )
    if len(shown) < len(sick):
        yield f"and {counted(len(sick) - len(shown), 'other host')} with findings; --all shows them"
    yield ""
    yield from fill(
        "`kvmscope fleet doctor` has the findings by rule, and with the name of a host those of one", width=width
    )


def _host_cells(row: FleetHostStatus) -> tuple[str, ...]:
    rules = few([f"{slug} ({count})" if count > 1 else slug for slug, count in row.rules.items()], _WORST_SHOWN)
    cost = format_estimate(row.cost_cpus) if row.cost_cpus else NOT_KNOWN_SIGN
    return host_name(row.name, row.host), printable(row.kernel or ""), str(row.vms), str(row.affected_vms), cost, rules


def fleet_doctor_lines(view: FleetDoctorView, *, width: int) -> Iterator[str]:
    """Findings by rule, or all findings of one rule or host."""
    yield from head_lines(view, width=width)
    is_drilled = view.rule is not None or view.host is not None
    for place, total in enumerate(view.by_rule):
        yield ""
        yield from _total_lines(total, width, is_whole=place < _RULES_WHOLE or view.rule is not None)
    if is_drilled and view.findings:
        yield ""
        yield from _finding_lines(view.findings)
    yield ""
    yield from fill(_doctor_sum(view), width=width)
    if view.not_judged:
        rules = ", ".join(each.rule for each in view.not_judged)
        yield from fill(f"not judged by {view.engine}: {rules}", width=width)
        if is_drilled:
            for each in view.not_judged:
                yield from fill(f"{each.rule}: {each.reason}", _INDENT, width=width)


def _doctor_sum(view: FleetDoctorView) -> str:
    if not view.by_rule:
        return f"nothing found by {counted(view.rules, 'rule')}"
    vms = sum(total.vms for total in view.by_rule)
    parts = [f"{counted(vms, 'finding')} by {len(view.by_rule)} of {view.rules} rules"]
    if view.cost_cpus:
        parts.append(f"about {format_estimate(view.cost_cpus)} CPU in all")
    if view.lost_vcpus:
        parts.append(f"about {format_estimate(view.lost_vcpus)} vCPU of wall time in all")
    return "; ".join([*parts, "`--of RULE` or `--of HOST` shows all of one"])


def _total_lines(total: FleetRuleTotal, width: int, *, is_whole: bool) -> Iterator[str]:
    subject = f"{counted(total.vms, 'VM')} on {counted(total.hosts, 'host')}"
    yield from fill(f"{total.severity.value}: {subject}: {total.title} [{total.rule}]", width=width)
    size = ["" if total.standing == total.vms else f"{total.standing} of them at the end", _cost_text(total)]
    kernels = f"kernels: {_counts(total.kernels, 'VM')}"
    yield from fill("; ".join(filter(None, [*size, kernels])), _INDENT, width=width)
    worst = "; ".join(_worst_text(each) for each in total.worst[:_WORST_SHOWN])
    yield from fill(f"worst: {worst}", _INDENT, width=width)
    for cause in total.causes:
        yield from fill(f"cause of {cause.findings}: {cause.name}: {cause.meaning}", _INDENT, width=width)
    if is_whole:
        yield from advice_lines(total.explanation, total.remedies, width=width)


def _cost_text(found: FleetRuleTotal | FleetFindingView) -> str:
    if found.cost_cpus:
        return f"costs about {format_estimate(found.cost_cpus)} CPU"
    return f"loses about {format_estimate(found.lost_vcpus)} vCPU of wall time" if found.lost_vcpus else ""


def _worst_text(found: FleetFindingView) -> str:
    cost = _cost_text(found)
    name = f"{host_name(found.host_name, found.host)}/{printable(found.name or found.vm, max_length=64)}"
    return f"{name} ({cost})" if cost else name


def _finding_lines(findings: Sequence[FleetFindingView]) -> Iterator[str]:
    metrics = {metric.name: metric for metric in load_metrics()}
    is_one_rule = len({finding.rule for finding in findings}) == 1
    evidence = list(findings[0].evidence) if is_one_rule else []
    head = ["HOST", "VM", *([] if is_one_rule else ["RULE"]), "COST", "SINCE", "UNTIL"]
    rows = [
        [
            host_name(finding.host_name, finding.host),
            printable(finding.name or finding.vm, max_length=64),
            *([] if is_one_rule else [finding.rule]),
            _cost_text(finding).removeprefix("costs ").removeprefix("loses ") or NOT_KNOWN_SIGN,
            rfc3339(finding.since.ns, has_ms=False),
            rfc3339(finding.until.ns, has_ms=False),
            *(format_metric(metrics[name].unit, finding.evidence.get(name)) for name in evidence),
        ]
        for finding in findings[:_FINDINGS_SHOWN]
    ]
    yield from columns([[*head, *(metrics[name].title for name in evidence)], *rows])
    if len(findings) > _FINDINGS_SHOWN:
        yield f"and {counted(len(findings) - _FINDINGS_SHOWN, 'other finding')}; --json has all"


def fleet_apicv_lines(view: FleetApicvView, *, width: int) -> Iterator[str]:
    """Interrupt acceleration of the VMs, by host."""
    yield from head_lines(view, width=width)
    yield ""
    yield from fill(_apicv_sum(view.total), width=width)
    for title, groups in (
        ("KERNEL", view.by_kernel),
        ("PARAMETER", view.by_parameter),
        ("VMM", view.by_vmm),
    ):
        if groups:
            yield ""
            yield from columns([_apicv_head(title), *map(_apicv_cells, groups)], right=range(1, 9))
    if view.unblock:
        yield from ("", "what would unblock most:")
    for each in view.unblock:
        gain = f"{counted(each.vms_alone, 'VM')} would be accelerated" if each.vms_alone else "no VM on its own"
        cost = f", {format_count(each.injections_per_s)} injections/s, about {format_estimate(each.cost_cpus)} CPU"
        where = f"{counted(each.vms, 'VM')} on {counted(each.hosts, 'host')}"
        yield from fill(f"{each.reason} ({where}; {gain}{cost if each.vms_alone else ''}): {each.meaning}", width=width)
        yield from fill(f"fix: {each.remedy}", _INDENT, width=width)


def _apicv_sum(total: AccelerationGroup) -> str:
    states = ", ".join(f"{count} {state}" for state, count in total.states.items() if count)
    cost = (
        ""
        if total.cost_cpus is None
        else f"; interrupts without acceleration cost about {format_estimate(total.cost_cpus)} CPU"
    )
    return f"interrupts of {counted(total.vms, 'VM')}: {states}{cost}"


def _apicv_head(title: str) -> tuple[str, ...]:
    return title, "HOSTS", "VMS", "ACTIVE", "BLOCKED", "OFF", "UNSUPP", "UNKNOWN", "INJ/S", "BLOCKED BY"


def _apicv_cells(group: AccelerationGroup) -> tuple[str, ...]:
    reasons = few([f"{name} ({count})" for name, count in group.reasons.items() if name != "disabled"], _NAMES_SHOWN)
    states = (str(count) for count in group.states.values())
    injected = format_count(group.injections_per_s)
    return printable(group.name), str(group.hosts), str(group.vms), *states, injected, reasons


def fleet_diff_lines(view: FleetDiffView, *, width: int, shows_all: bool = False) -> Iterator[str]:
    """Metrics by the property of their hosts."""
    yield from head_lines(view, width=width)
    yield ""
    yield from columns(
        [
            (view.by.upper(), "HOSTS", "VMS", "VCPUS"),
            *((printable(side.value), str(side.hosts), str(side.vms), str(side.vcpus)) for side in view.sides),
        ],
        right=(1, 2, 3),
    )
    yield ""
    first = printable(view.sides[0].value)
    bounds = f"bounds hold together with {view.confidence:.0%} confidence"
    text = f"means of a vCPU, each host one value, compared with {first}; {bounds}"
    yield from fill(text, width=width)
    changed = [metric for metric in view.metrics if _has_changed(metric)]
    for metric in changed if shows_all else changed[:_METRICS_SHOWN]:
        yield ""
        yield from _metric_lines(metric)
    if not changed:
        yield from ("", "no metric changed by more than its noise")
    rest = [metric.title for metric in view.metrics if metric not in changed]
    if rest:
        yield ""
        yield from fill(f"no change beyond noise: {', '.join(rest)}", width=width)
    if view.not_compared:
        yield from fill(f"not compared by {view.engine}: {', '.join(view.not_compared)}", width=width)


def _has_changed(metric: FleetMetricDifference) -> bool:
    return any(side.verdict is DifferenceVerdict.CHANGED for side in metric.sides)


def _metric_lines(metric: FleetMetricDifference) -> Iterator[str]:
    yield f"{metric.title} ({metric.name})"
    yield from columns([_side_cells(metric, side) for side in metric.sides if side.mean is not None], right=(1, 2))


def _side_cells(metric: FleetMetricDifference, side: SideMean) -> tuple[str, ...]:
    name, mean = f"{_INDENT}{printable(side.value)}", format_metric(metric.unit, side.mean)
    if side.verdict is None:
        return name, mean, "", ""
    change = NOT_KNOWN_SIGN if side.relative is None else signed(side.relative)
    bounds = "no bounds"
    if side.low is not None and side.high is not None:
        bounds = f"{format_metric(metric.unit, side.low)} to {format_metric(metric.unit, side.high)}"
    return name, mean, change, f"{side.verdict.value} ({bounds})"


def fleet_schemas_lines(view: FleetSchemasView, *, width: int) -> Iterator[str]:
    """The schemas and how they differ."""
    yield from head_lines(view, width=width)
    title = ""
    for schema in view.schemas:
        of = f"{printable(schema.provider)}, {schema.scope}"
        if of != title:
            title = of
            yield from ("", title)
        yield from _schema_lines(schema, width)


def _schema_lines(schema: FleetSchemaView, width: int) -> Iterator[str]:
    size = f"{counted(schema.hosts, 'host')}, {counted(schema.stats, 'stat')}"
    yield from fill(f"{schema.key}: {size}; {_counts(schema.kernels, 'host')}", _INDENT, width=width)
    changed = [f"{change.name} ({change.before}, here {change.after})" for change in schema.changed]
    for words, names in (("lacks", schema.missing), ("has besides", schema.added), ("describes", changed)):
        if names:
            shown = few([printable(name) for name in names], _NAMES_SHOWN)
            yield from fill(f"{words}: {shown}", _INDENT * 2, width=width)


def _counts(counts: Mapping[str, int], noun: str) -> str:
    return few([f"{printable(name)} ({counted(count, noun)})" for name, count in counts.items()], _NAMES_SHOWN)
