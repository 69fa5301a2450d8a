"""Findings as lines and as JSON, for every command that shows some.

What is found is in ``analysis.findings``, and what a rule says is in the catalogue; here it is put beside names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..view.text import few
from .echo import fill

if TYPE_CHECKING:
    from ..analysis.apicv import Reason, Verdicts
    from ..analysis.findings import Ended, Finding, NotJudged, Worst
    from ..catalog.findings import Remedy, Rule
    from ..catalog.metrics import Metric
    from ..formula.check import Formula
    from ..sample import VmId

_INDENT = "   "


# --- what a finding says ----------------------------------------------------------------------------------------------


def causes(finding: Finding, verdicts: Verdicts | None) -> tuple[Reason, ...]:
    """What the verdict on interrupt acceleration adds to a finding."""
    if verdicts is None or not finding.rule.adds_verdict:
        return ()
    return next((vm.reasons for vm in verdicts.vms if vm.id == finding.vm), ())


def remedies(finding: Finding, verdicts: Verdicts | None) -> tuple[Remedy, ...]:
    """What to do about it: what the verdict advises for this very VM, else what the rule says."""
    from ..catalog.findings import Remedy

    price = finding.rule.remedies[0].price
    told = tuple(Remedy(reason.remedy, price) for reason in causes(finding, verdicts))
    return told or finding.rule.remedies


def cost_text(finding: Finding) -> str:
    """``about 0.3 CPU``, or ``about 0.6 vCPU of wall time``; empty if there is no cost or it is not known."""
    from ..units import format_estimate

    if finding.cost_cpus:
        return f"about {format_estimate(finding.cost_cpus)} CPU"
    return f"about {format_estimate(finding.lost_vcpus)} vCPU of wall time" if finding.lost_vcpus else ""


def worst_text(finding: Finding) -> str:
    """The worst vCPUs by their ids."""
    if not finding.worst:
        return ""
    shown = ", ".join(_vcpu_text(finding.rule, worst) for worst in finding.worst)
    more = finding.worst_count - len(finding.worst)
    return f"{shown} and {more} more" if more else shown


def _vcpu_text(rule: Rule, worst: Worst) -> str:
    """The vCPU, with its value where that has a meaning by itself."""
    from ..units import format_count, format_cpus, format_vcpus

    assert rule.worst is not None
    if _is_rate(rule.worst):
        return f"{worst.vcpu} ({format_count(worst.value)}/s)"
    if not _is_time(rule.worst):
        return str(worst.vcpu)
    return f"{worst.vcpu} ({format_cpus(worst.value) if rule.lost is None else format_vcpus(worst.value)})"


def _is_rate(formula: Formula) -> bool:
    from ..formula.check import Dimension

    return formula.type.dimension == Dimension(seconds=-1)


def _is_time(formula: Formula) -> bool:
    from ..formula.tree import Reduction, StatTerm, walk

    parts = (part for part, _ in walk(formula.expression, formula.scope))
    return any(isinstance(part, StatTerm) and part.reduction is Reduction.SECONDS for part in parts)


# --- JSON -------------------------------------------------------------------------------------------------------------


def finding_json(finding: Finding, name: str | None, verdicts: Verdicts | None = None) -> dict[str, Any]:
    """One finding; ``name`` is its VM's."""
    rule = finding.rule
    return {
        "rule": rule.slug,
        "severity": rule.severity.value,
        "vm": str(finding.vm),
        "name": name,
        "vcpu": finding.vcpu,
        "title": rule.title,
        "since_s": finding.since_s,
        "cost_cpus": finding.cost_cpus,
        "lost_vcpus": finding.lost_vcpus,
        "evidence": dict(finding.evidence),
        "worst_vcpus": [{"id": worst.vcpu, "value": worst.value} for worst in finding.worst],
        "causes": [{"name": reason.name, "cause": reason.cause} for reason in causes(finding, verdicts)],
        "explanation": rule.explanation,
        "remedies": [{"do": remedy.do, "price": remedy.price} for remedy in remedies(finding, verdicts)],
    }


def ended_json(ended: Ended, name: str | None) -> dict[str, Any]:
    """A finding that no longer is one."""
    from ..view.jsonout import rfc3339

    return {**finding_json(ended.finding, name), "ended": {"why": ended.why.value, "time": rfc3339(ended.at_ns)}}


def not_judged_json(missing: NotJudged) -> dict[str, Any]:
    """``vms`` null: all of them."""
    vms = None if missing.vms is None else [str(vm) for vm in missing.vms]
    return {"rule": missing.rule, "reason": missing.reason, "vms": vms, "group": missing.group or None}


# --- lines ------------------------------------------------------------------------------------------------------------


def finding_lines(
    finding: Finding, name: str, metrics: Mapping[str, Metric], verdicts: Verdicts | None = None
) -> Iterator[str]:
    """What a person reads of one finding: what, how much, why it matters, what to do and its price."""
    rule = finding.rule
    yield from fill(f"{rule.severity.value.upper()} {_subject(finding, name)}: {rule.title} [{rule.slug}]", "")
    yield from fill(_size(finding), _INDENT)
    if finding.evidence:
        yield from fill(f"evidence: {_evidence(finding, metrics)}", _INDENT)
    yield from _cause_lines(causes(finding, verdicts))
    yield from fill(f"why it matters: {rule.explanation}", _INDENT)
    for remedy in remedies(finding, verdicts):
        yield from fill(f"to do: {remedy.do}", _INDENT)
        yield from fill(f"price: {remedy.price}", _INDENT * 2)


def _cause_lines(reasons: Iterable[Reason]) -> Iterator[str]:
    from ..host.text import printable

    for reason in reasons:
        cause = printable(reason.cause, max_length=200)
        yield from fill(f"cause: {reason.name}: {reason.meaning} ({cause})", _INDENT)


def _subject(finding: Finding, name: str) -> str:
    return name if finding.vcpu is None else f"{name}/{finding.vcpu}"


def _size(finding: Finding) -> str:
    from ..units import format_seconds

    cost, worst = cost_text(finding), worst_text(finding)
    parts = [
        f"costs {cost}" if cost else "",
        f"for {format_seconds(finding.since_s)} at least",
        f"worst vCPUs: {worst}" if worst else "",
    ]
    return "; ".join(filter(None, parts))


def _evidence(finding: Finding, metrics: Mapping[str, Metric]) -> str:
    from ..view.text import format_metric

    return ", ".join(
        f"{metrics[name].title} {format_metric(metrics[name].unit, value)}" for name, value in finding.evidence.items()
    )


def summary(finding: Finding, name: str) -> str:
    """A finding in one line."""
    rule = finding.rule
    size = ", ".join(filter(None, (rule.slug, cost_text(finding))))
    return f"{rule.severity.value}: {_subject(finding, name)} [{size}]: {rule.title}"


def not_judged_lines(missing: Sequence[NotJudged], name: Callable[[VmId], str], *, rules: int) -> Iterator[str]:
    """What is not known, a line a reason; rules that need groups which are off together."""
    grouped: dict[tuple[str, tuple[VmId, ...] | None], list[str]] = {}
    off = {one.rule: one.group for one in missing if one.group}
    for one in missing:
        if one.group:
            continue
        grouped.setdefault((one.reason, one.vms), []).append(one.rule)
    for (reason, vms), slugs in grouped.items():
        what = "all rules" if len(slugs) == rules else few(slugs, 6)
        where = "" if vms is None else f" for {few([name(vm) for vm in vms])}"
        yield from fill(f"not judged{where}: {what}: {reason}", "")
    if off:
        counting = " ".join(f"--count {group}" for group in dict.fromkeys(off.values()))
        groups = "a group of statistics that is" if len(set(off.values())) == 1 else "groups of statistics that are"
        yield from fill(
            f"not judged: {', '.join(off)}: by {groups} off until asked for, as by `kvmscope doctor {counting}`", ""
        )
