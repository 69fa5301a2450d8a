"""The lines of findings: of one VM, and of all findings of one rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from ..analysis.findings import EndCause
from ..catalog.findings import Rule, Severity, load_findings
from ..catalog.metrics import load_metrics
from ..formula.check import Dimension, Formula
from ..formula.tree import Reduction, StatTerm, walk
from ..host.text import printable
from ..units import NOT_KNOWN_SIGN, format_count, format_cpus, format_estimate, format_seconds, format_vcpus, rfc3339
from .added_causes import CauseSize, SizeUnit
from .findings import EndedFinding, ReportedFinding, RuleTotal, UncheckedRule, WorstVcpu, WorstVm
from .polling import polling_lines
from .remedies import FindingRemedy
from .text import cells, columns, counted, cut, few, fill, format_metric

_INDENT = "   "
_NAME_MAX = 64
_CAUSES_SHOWN = 3
_VMS_SHOWN = 3

END_WORDS: Final = {
    EndCause.CLEARED: "cleared",
    EndCause.UNKNOWN: "can no longer be determined",
    EndCause.GONE: "the VM or vCPU has ended",
    EndCause.RESET: "its statistics were reset",
}
"""How a finding ended."""


def title_of(name: str | None, vm: object, vcpu: int | None = None) -> str:
    """The printed name of a VM or vCPU."""
    text = printable(name or str(vm), max_length=_NAME_MAX)
    return text if vcpu is None else f"{text}/{vcpu}"


def summary(finding: ReportedFinding, name: str) -> str:
    """A finding in one line."""
    subject = name if finding.vcpu is None else f"{name}/{finding.vcpu}"
    size = ", ".join(filter(None, (finding.rule, cost_text(finding))))
    return f"{finding.severity.value}: {subject} [{size}]: {finding.title}"


def cost_text(found: ReportedFinding | RuleTotal | WorstVm) -> str:
    """``about 0.3 CPU``, or ``about 0.6 vCPU of wall time``; empty if there is no cost or it is not known."""
    if found.cost_cpus:
        return f"about {format_estimate(found.cost_cpus)} CPU"
    return f"about {format_estimate(found.lost_vcpus)} vCPU of wall time" if found.lost_vcpus else ""


def finding_lines(finding: ReportedFinding, *, width: int) -> Iterator[str]:
    """One finding in full: what is wrong and how bad, its impact, each fix and its trade-off."""
    subject = title_of(finding.name, finding.vm, finding.vcpu)
    yield from fill(_headline(finding.severity, subject, finding.title, finding.rule), width=width)
    yield from fill(_size(finding), _INDENT, width=width)
    if evidence := evidence_text(finding.evidence):
        yield from fill(f"evidence: {evidence}", _INDENT, width=width)
    for cause in finding.causes:
        text = "; ".join(filter(None, (_cause_size(cause.size), printable(cause.cause, max_length=200))))
        yield from fill(f"cause: {cause.name}: {cause.meaning} ({text})", _INDENT, width=width)
    for line in polling_lines(finding.polling) if finding.polling else ():
        yield from fill(line, _INDENT, width=width)
    yield from advice_lines(finding.explanation, finding.remedies, width=width)


def total_lines(total: RuleTotal, *, width: int) -> Iterator[str]:
    """All findings of one rule: the number of VMs, the cost, the worst VMs, and the rule's text once."""
    yield from fill(_headline(total.severity, counted(total.vms, "VM"), total.title, total.rule), width=width)
    yield from fill(total_size(total), _INDENT, width=width)
    shown = "; ".join(_worst_vm_text(worst) for worst in total.worst[:_VMS_SHOWN])
    yield from fill(f"worst: {shown}", _INDENT, width=width)
    for cause in total.causes[:_CAUSES_SHOWN]:
        size = f" ({_cause_size(cause.size)} in all)" if cause.size else ""
        yield from fill(f"cause of {cause.findings}: {cause.name}: {cause.meaning}{size}", _INDENT, width=width)
    more = len(total.causes) - _CAUSES_SHOWN
    if more > 0:
        yield from fill(f"and {counted(more, 'other cause')}", _INDENT, width=width)
    yield from advice_lines(total.explanation, total.remedies, width=width)


def brief_lines(total: RuleTotal, *, width: int) -> Iterator[str]:
    """The findings of one rule without its text: the number of VMs, the cost, and the worst VMs, a line each."""
    yield from fill(_headline(total.severity, counted(total.vms, "VM"), total.title, total.rule), width=width)
    cost = cost_text(total)
    begin = f"{_INDENT}costs {cost} in all; worst: " if cost else f"{_INDENT}worst: "
    names = list(map(_brief_vm_text, total.worst[:_VMS_SHOWN]))
    while len(names) > 1 and cells(begin + ", ".join(names)) > width:
        names.pop()
    yield cut(begin + ", ".join(names), width)


def rule_line(total: RuleTotal, *, width: int) -> str:
    """The findings of one rule in a line: its slug, the number of VMs, the cost, and as much of the title as fits."""
    size = ", ".join(filter(None, (counted(total.vms, "VM"), cost_text(total))))
    return cut(f"{total.severity.value.upper()} {total.rule}: {size}: {total.title}", width)


def total_size(total: RuleTotal) -> str:
    """The extent of a rule's findings: ``312 VMs (1,248 vCPUs); costs about 40 CPU in all; for 6 s or longer``."""
    cost = cost_text(total)
    parts = [
        "" if total.vcpus is None else f"on {counted(total.vcpus, 'vCPU')}",
        f"costs {cost} in all" if cost else "",
        f"for {format_seconds(total.since_s)} or longer",
    ]
    return "; ".join(filter(None, parts))


def table_lines(findings: Sequence[ReportedFinding], *, width: int) -> Iterator[str]:
    """Findings of one rule, a line each, with the evidence in columns."""
    metrics = {metric.name: metric for metric in load_metrics()}
    shown = findings[0].evidence if findings else {}
    evidence = [name for name in shown if any(finding.evidence.get(name) is not None for finding in findings)]
    head = ["VM", "cost", "for", *(metrics[name].title for name in evidence), "worst vCPUs"]
    rows = [
        [
            title_of(finding.name, finding.vm, finding.vcpu),
            cost_text(finding).removeprefix("about ") or NOT_KNOWN_SIGN,
            format_seconds(finding.since_s),
            *(format_metric(metrics[name].unit, finding.evidence.get(name)) for name in evidence),
            worst_text(finding),
        ]
        for finding in findings
    ]
    yield from columns([head, *rows], right=range(1, len(head) - 1))


def evidence_text(evidence: Mapping[str, float | None]) -> str:
    """Metrics by their titles, without those unknown here, such as metrics that only an opt-in group counts."""
    metrics = {metric.name: metric for metric in load_metrics()}
    known = {metrics[name]: value for name, value in evidence.items() if value is not None}
    return ", ".join(f"{metric.title} {format_metric(metric.unit, value)}" for metric, value in known.items())


def worst_text(finding: ReportedFinding) -> str:
    """The worst vCPUs by their ids."""
    if not finding.worst_vcpus:
        return ""
    rule = rule_called(finding.rule)
    shown = ", ".join(_vcpu_text(rule, worst) for worst in finding.worst_vcpus)
    more = finding.worst_count - len(finding.worst_vcpus)
    return f"{shown} and {more} more" if more > 0 else shown


def rule_called(slug: str) -> Rule:
    """The rule of the catalogue. Raises KeyError if there is none."""
    return {rule.slug: rule for rule in load_findings()}[slug]


def advice_lines(
    explanation: str, remedies: Iterable[FindingRemedy], *, width: int, indent: str = _INDENT
) -> Iterator[str]:
    """The impact, and each fix with its trade-off."""
    yield from fill(f"impact: {explanation}", indent, width=width)
    for remedy in remedies:
        yield from fill(f"fix: {remedy.do}", indent, width=width)
        for way in remedy.how:
            yield from fill(way.text, indent + _INDENT, width=width)
        yield from fill(f"trade-off: {remedy.price}", indent + _INDENT, width=width)


def unchecked_lines(unchecked: Sequence[UncheckedRule], *, width: int) -> Iterator[str]:
    """The rules that were not checked, one line per reason; those that need opt-in groups are listed together."""
    grouped: dict[tuple[str, tuple[str, ...] | None], list[str]] = {}
    for rule in unchecked:
        if not rule.group:
            names = None if rule.names is None else tuple(rule.names)
            grouped.setdefault((rule.reason, names), []).append(rule.rule)
    for (reason, names), slugs in grouped.items():
        where = "" if names is None else f" for {few([printable(name) for name in names])}"
        yield from fill(f"not checked{where}: {', '.join(slugs)}: {reason}", width=width)
    off = {rule.rule: rule.group for rule in unchecked if rule.group}
    if off:
        counting = " ".join(f"--count {group}" for group in dict.fromkeys(off.values()))
        text = f"not checked (need opt-in counters): {', '.join(off)}. Enable them with: kvmscope doctor {counting}"
        yield from fill(text, width=width)


def _headline(severity: Severity, subject: str, title: str, slug: str) -> str:
    return f"{severity.value.upper()} {subject}: {title} [{slug}]"


def _size(finding: ReportedFinding) -> str:
    cost, worst = cost_text(finding), worst_text(finding)
    parts = [
        f"costs {cost}" if cost else "",
        f"for {format_seconds(finding.since_s)} {_until(finding)}",
        f"worst vCPUs: {worst}" if worst else "",
    ]
    return "; ".join(filter(None, parts))


def _until(finding: ReportedFinding) -> str:
    if isinstance(finding, EndedFinding):
        return f"until {rfc3339(finding.ended.time.ns)} ({END_WORDS[finding.ended.why]})"
    return "or longer"


def _cause_size(size: CauseSize | None) -> str:
    if size is None:
        return ""
    match size.unit:
        case SizeUnit.VCPUS:
            return f"{format_vcpus(size.value)} of wall time"
        case SizeUnit.ACCESSES_PER_S:
            return f"{size.value:,.0f} accesses a second"
        case SizeUnit.ERRORS:
            return counted(round(size.value), "error")


def _worst_vm_text(worst: WorstVm) -> str:
    numbers = ", ".join(filter(None, (cost_text(worst), evidence_text(worst.evidence))))
    name = title_of(worst.name, worst.vm, worst.vcpu)
    return f"{name} ({numbers})" if numbers else name


def _brief_vm_text(worst: WorstVm) -> str:
    """The VM with its cost, or if that is unknown with the first piece of evidence."""
    first = dict(list(worst.evidence.items())[:1])
    number = cost_text(worst) or evidence_text(first)
    name = title_of(worst.name, worst.vm, worst.vcpu)
    return f"{name} ({number})" if number else name


def _vcpu_text(rule: Rule, worst: WorstVcpu) -> str:
    """The vCPU, with its value if the value alone is meaningful."""
    assert rule.worst is not None
    if _is_rate(rule.worst):
        return f"{worst.id} ({format_count(worst.value)}/s)"
    if not _is_time(rule.worst):
        return str(worst.id)
    return f"{worst.id} ({format_cpus(worst.value) if rule.lost is None else format_vcpus(worst.value)})"


def _is_rate(formula: Formula) -> bool:
    return formula.type.dimension == Dimension(seconds=-1)


def _is_time(formula: Formula) -> bool:
    parts = (part for part, _ in walk(formula.expression, formula.scope))
    return any(isinstance(part, StatTerm) and part.reduction is Reduction.SECONDS for part in parts)
