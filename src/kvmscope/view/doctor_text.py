"""The lines of the doctor's report.

The report is grouped by rule: the number of VMs, the total cost, the worst VMs, and the rule's text once. A rule with
one finding shows that finding. ``HEIGHT`` bounds the report of many VMs, whatever the width: rules that do not fit get
their title and the worst VMs, or one line each if that is still too long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from ..analysis.findings import EndCause
from ..catalog.caveats import load_caveats
from ..catalog.findings import Rule
from ..host.text import printable
from ..units import format_seconds, rfc3339
from .doctor import DoctorReport
from .findings import EndedFinding, RuleTotal
from .findings_text import (
    END_WORDS,
    brief_lines,
    cost_text,
    finding_lines,
    rule_line,
    table_lines,
    title_of,
    total_lines,
    unchecked_lines,
)
from .rules import similar_rules
from .text import SIMULATED, columns, counted, cut, few, fill, no_vm_line, note_lines

HEIGHT: Final = 60

_FEW_VMS = 3
_SIMILAR_SHOWN = 6
_EVIDENCE_SHOWN = 5
_ENDINGS_SHOWN = 3
_ENDED_RULES_SHOWN = 6
_BRIEF = "also found; `kvmscope doctor RULE` has the impact and the fix:"
_BRIEF_HEAD = 2


def report_lines(
    report: DoctorReport, *, width: int, lists_unchecked: bool = False, shows_ended: bool = False
) -> Iterator[str]:
    """The whole report: what was examined, what was found, and what was not checked.

    ``shows_ended``: show ended findings in full, like current ones, if they are few; otherwise each takes a line.
    """
    head = [*head_lines(report, width=width), *_ended_vm_lines(report)]
    notes = note_lines(report.source.name, report.source.why_not, report.gaps)
    if report.vm is None and not report.vm_count and not report.ended:
        yield from (*head, *fill(no_vm_line(report.source.name, report.gaps), width=width, hang=""), *notes)
        return
    last_seen = _last_seen(report)
    brief = [ended for ended in report.ended if ended not in last_seen]
    whole, brief = (brief, []) if shows_ended and len(brief) <= _ENDINGS_SHOWN else ([], brief)
    foot = [
        *fill(_sum(report), width=width),
        *_ending_lines(brief, width),
        *_unchecked(report, width, lists_unchecked),
        *notes,
    ]
    yield from head
    for finding in last_seen:
        yield from ("", *finding_lines(finding, width=width))
    yield from _blocks(report, width, room=HEIGHT - len(head) - len(foot) - 1)
    for finding in whole:
        yield from ("", *finding_lines(finding, width=width))
    yield ""
    yield from foot


def rule_report_lines(report: DoctorReport, rule: Rule, *, width: int) -> Iterator[str]:
    """The report of one rule: its text once, and everything that it found."""
    yield from head_lines(report, width=width)
    yield ""
    (total, *_) = [*report.by_rule, None]
    if total is None:
        yield from fill(f"{rule.slug}: nothing found: no VM has this: {rule.title}", width=width)
    else:
        yield from total_lines(total, width=width)
        yield ""
        yield from table_lines(report.findings, width=width)
    yield from _ending_lines(report.ended, width)
    yield from unchecked_lines(report.not_judged, width=width)


def head_lines(report: DoctorReport, *, width: int) -> Iterator[str]:
    """What was examined, and for how long."""
    if report.simulated:
        yield SIMULATED
    parts = (
        printable(report.host.name or "this host"),
        _subject(report),
        f"watched for {format_seconds(report.watched_s)} in {counted(report.windows, 'interval')}",
        f"source {report.source.name}",
    )
    yield from fill(" · ".join(parts), width=width)


def _subject(report: DoctorReport) -> str:
    if report.vm is not None:
        return report.vm.title
    return f"{counted(report.vm_count, 'VM')}, {counted(report.vcpu_count, 'vCPU')}"


def event_lines(report: DoctorReport) -> Iterator[str]:
    """The findings that began or ended in the last window, a line each."""
    time = rfc3339(report.time.ns)
    for finding in report.begun:
        cost = cost_text(finding)
        what = f"{title_of(finding.name, finding.vm, finding.vcpu)}: {finding.title}{f', {cost}' if cost else ''}"
        yield f"{time} begins {finding.severity.value} {what} [{finding.rule}]"
    for ended in report.ended:
        what = f"{title_of(ended.name, ended.vm, ended.vcpu)}: {ended.title} [{ended.rule}]"
        yield f"{time} ends ({ended.ended.why.value}) {what}"
    yield from _ended_vm_lines(report)


def rule_lines(rule: Rule, *, width: int) -> Iterator[str]:
    """The text of a rule, and the conditions under which it fires."""
    caveats = load_caveats()
    yield f"{rule.slug} ({rule.severity.value}): {rule.title}"
    yield ""
    yield from fill(f"impact: {rule.explanation}", width=width)
    yield ""
    in_a_row = " in a row" if rule.windows > 1 else ""
    yield from fill(f"fires if, in {counted(rule.windows, 'interval')}{in_a_row}: {rule.when}", width=width)
    if rule.activity is not None:
        yield from fill(f"and only while: {rule.activity}", width=width)
    if rule.clears is not None:
        yield from fill(f"ends if: {rule.clears}", width=width)
    yield from fill(f"because: {rule.threshold}", width=width)
    if rule.cost is not None:
        yield from fill(f"cost in CPUs: {rule.cost}", width=width)
    for slug in rule.silent_if:
        yield from fill(f"not checked where caveat {slug} holds: {caveats[slug].text}", width=width)
    for slug, why in rule.despite.items():
        yield from fill(f"holds despite caveat {slug}: {why}", width=width)
    yield from _similar_lines(rule, width)
    for remedy in rule.remedies:
        yield ""
        yield from fill(f"fix: {remedy.do}", width=width)
        for name in remedy.settings:
            yield from fill(f"how: kvmscope explain {name}", "  ", width=width)
        yield from fill(f"trade-off: {remedy.price}", "  ", width=width)


def _similar_lines(rule: Rule, width: int) -> Iterator[str]:
    """The rules that look like one, and what distinguishes them."""
    similar = similar_rules(rule)
    if similar:
        yield ""
        yield "looks like:"
    for each in similar[:_SIMILAR_SHOWN]:
        yield from fill(f"{each.rule}: {each.title}", "  ", width=width)
        count = "".join(f" --count {group}" for group in each.needs)
        decided_by = ", ".join(each.decided_by[:_EVIDENCE_SHOWN])
        yield from fill(f"distinguished by: {decided_by}{f' ({count.strip()})' if count else ''}", "    ", width=width)
        for sentence in each.said:
            yield from fill(sentence, "    ", width=width)
    if rest := [each.rule for each in similar[_SIMILAR_SHOWN:]]:
        yield from fill(f"and also: {', '.join(rest)}", "  ", width=width)


def rule_table(rules: Sequence[Rule]) -> list[str]:
    """The rules, a line each."""
    return columns([(rule.slug, rule.severity.value, rule.title) for rule in rules])


# --- parts of a report ------------------------------------------------------------------------------------------------


def _blocks(report: DoctorReport, width: int, room: int) -> Iterator[str]:
    """Everything that was found. For more than a few VMs: the most urgent rules in full, and the others in brief."""
    whole = [["", *_block(report, total, width)] for total in report.by_rule]
    if len({finding.vm for finding in report.findings}) <= _FEW_VMS:
        room = sum(map(len, whole))
    brief = [list(brief_lines(total, width=width)) for total in report.by_rule]
    for number, block in enumerate(whole):
        rest = sum(map(len, brief[number + 1 :]))
        if len(block) + (rest + _BRIEF_HEAD if rest else 0) > room:
            yield from ("", cut(_BRIEF, width), *_brief(report.by_rule[number:], width, room - _BRIEF_HEAD))
            return
        yield from block
        room -= len(block)


def _brief(totals: Sequence[RuleTotal], width: int, room: int) -> list[str]:
    """Rules without their texts, as room allows: two or more lines each, one line each, or the last by name alone."""
    two = [line for total in totals for line in brief_lines(total, width=width)]
    if len(two) <= room:
        return two
    lines = [rule_line(total, width=width) for total in totals]
    shown, names = len(totals), list[str]()
    while shown and shown + len(names) > room:
        shown -= 1
        names = fill(f"and by {', '.join(total.rule for total in totals[shown:])}", width=width)
    return [*lines[:shown], *names]


def _block(report: DoctorReport, total: RuleTotal, width: int) -> Iterator[str]:
    if report.vm is None and total.findings > 1:
        yield from total_lines(total, width=width)
        return
    for place, finding in enumerate(found for found in report.findings if found.rule == total.rule):
        if place:
            yield ""
        yield from finding_lines(finding, width=width)


def _last_seen(report: DoctorReport) -> list[EndedFinding]:
    """The findings that the requested VM had when it ended."""
    has_ended = report.vm is not None and report.vm.ended is not None
    return [ended for ended in report.ended if has_ended and ended.ended.why is EndCause.GONE]


def _sum(report: DoctorReport) -> str:
    if report.vm is not None and report.vm.ended is not None:
        return f"{counted(len(_last_seen(report)), 'finding')} when it ended, by {counted(report.rules, 'rule')}"
    if not report.findings:
        if report.ended:
            ended = counted(len(report.ended), "finding")
            return f"nothing found in the last interval by {counted(report.rules, 'rule')}; {ended} had ended before"
        return f"nothing found by {counted(report.rules, 'rule')}"
    if all(total.findings == 1 for total in report.by_rule):
        found = counted(len(report.findings), "finding")
        return f"{found} by {report.rules} rules; `kvmscope doctor --explain RULE` explains a rule"
    vms = len({finding.vm for finding in report.findings})
    where = f" of {counted(vms, 'VM')}" if vms > 1 else ""
    text = f"{counted(len(report.findings), 'finding')}{where} by {len(report.by_rule)} of {report.rules} rules"
    return f"{text}; `kvmscope doctor RULE` or `kvmscope doctor VM` shows all of one"


def _ended_vm_lines(report: DoctorReport) -> Iterator[str]:
    if report.vm is not None and report.vm.ended is not None:
        name = title_of(report.vm.name, report.vm.id)
        yield f"{name} has ended, by {rfc3339(report.vm.ended.ns)}; what follows was seen until then"


def _ending_lines(endings: Sequence[EndedFinding], width: int) -> Iterator[str]:
    """The ended findings: one by one if they are few, else how many of each rule ended and why."""
    if len(endings) > _ENDINGS_SHOWN:
        count = Counter((ended.rule, ended.ended.why.value) for ended in endings)
        shown = [f"{number:,} {slug} ({why})" for (slug, why), number in count.most_common()]
        yield from fill(f"ended: {few(shown, _ENDED_RULES_SHOWN)}", width=width)
        return
    for ended in endings:
        name = title_of(ended.name, ended.vm, ended.vcpu)
        text = f"ended: {name}: {ended.title} [{ended.rule}]: {END_WORDS[ended.ended.why]}"
        yield from fill(text, width=width)


def _unchecked(report: DoctorReport, width: int, lists_them: bool) -> Iterator[str]:
    rules = {rule.rule: rule.group for rule in report.not_judged}
    if not rules:
        return
    if lists_them:
        yield from unchecked_lines(report.not_judged, width=width)
        return
    groups = list(dict.fromkeys(group for group in rules.values() if group))
    need = f" ({sum(1 for group in rules.values() if group)} need opt-in counters)" if groups else ""
    yield from fill(f"not checked: {counted(len(rules), 'rule')}{need}; --not-judged lists them and why", width=width)
