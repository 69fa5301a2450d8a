"""``kvmscope doctor``: what is wrong with the VMs of this host, since when, at what cost, and what to do about it.

What is found is in ``analysis.findings``; ``findings`` puts one into lines and JSON. Here: how long to look, and the
report as a whole.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .interrupts import until_ended
from .options import json_option, parse_duration, source_option
from .session import open_host, read_windows

if TYPE_CHECKING:
    from ..analysis.apicv import Verdicts
    from ..analysis.findings import Ended, Finding, Judgement, NotJudged
    from ..analysis.window import Window
    from ..catalog.findings import Rule
    from ..collect import Host
    from ..sample import VmId
    from ..scene import Scene
    from ..view.judging import Examiner

_WINDOWS_AT_LEAST = 2
_LEVELS = ("info", "warning", "problem")
_FOUND = 1


@click.command("doctor", short_help="What is wrong, why it matters, and what to do.")
@click.argument("vm", required=False, metavar="[VM[/VCPU]]")
@click.option(
    "--for",
    "look_s",
    callback=parse_duration,
    default="6s",
    show_default=True,
    metavar="TIME",
    help="How long to look.",
)
@click.option(
    "--interval",
    callback=parse_duration,
    default="2s",
    show_default=True,
    metavar="TIME",
    help="Length of one window; most rules ask for two in a row.",
)
@click.option("--watch", "-w", is_flag=True, help="Go on until Ctrl-C, and tell what begins and what ends.")
@click.option(
    "--fail-on", type=click.Choice(_LEVELS), help="Exit with 1 if something of this level or a worse one is found."
)
@click.option(
    "--count",
    "groups",
    multiple=True,
    metavar="GROUP",
    help="Count by this group meanwhile, for the rules that need it; may be given several times.",
)
@click.option("--explain", metavar="RULE", help="What a rule says, without looking at anything.")
@click.option("--rules", "list_rules", is_flag=True, help="List the rules, without looking at anything.")
@source_option
@json_option
def command(
    *,
    vm: str | None,
    look_s: float,
    interval: float,
    watch: bool,
    fail_on: str | None,
    groups: tuple[str, ...],
    explain: str | None,
    list_rules: bool,
    source: str,
    as_json: bool,
) -> None:
    """Look at the host for some seconds and tell what is wrong or could be better: the worst first, with the numbers
    that say so, why it matters, what to do about it and what one pays for that.

    \b
    kvmscope doctor
    kvmscope doctor web-1 --for 1m
    kvmscope doctor --fail-on warning --json
    kvmscope doctor --explain poll-waste
    """
    if explain is not None or list_rules:
        _echo_rules(explain, as_json=as_json)
        return
    _check_usage(look_s, interval, watch=watch, fail_on=fail_on)
    with _open(source, groups) as host:
        if watch:
            with until_ended():
                _watch(host, interval, vm, as_json=as_json)
            return
        *_, report = _reports(host, interval, vm, _count(look_s, interval))
    _echo(report, _chosen(report, vm), as_json=as_json)
    if fail_on and report.reaches(fail_on, _chosen(report, vm)):
        click.get_current_context().exit(_FOUND)


def _open(source: str, groups: Sequence[str]) -> Host:
    if not groups:
        return open_host(source)
    from .. import collect

    return collect.open_host(source, groups=groups)


def _check_usage(look_s: float, interval_s: float, *, watch: bool, fail_on: str | None) -> None:
    if watch and fail_on:
        raise UsageError("--watch goes on until Ctrl-C, so that --fail-on has nothing to say; leave one of them out")
    if not watch and _count(look_s, interval_s) < _WINDOWS_AT_LEAST:
        raise UsageError(
            f"--for {look_s:g}s has no room for {_WINDOWS_AT_LEAST} windows of {interval_s:g}s, which rules need; "
            f"shorten --interval or lengthen --for"
        )


def _count(look_s: float, interval_s: float) -> int:
    return int(look_s / interval_s + 1e-6)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The VM that was asked for, and the id of its vCPU or None for all."""

    vm: VmId
    vcpu: int | None

    def has(self, finding: Finding) -> bool:
        return finding.vm == self.vm and (self.vcpu is None or finding.vcpu in (None, self.vcpu))


@dataclass
class Report:
    """What was found in some windows that follow one another. ``names``: of every VM that was seen; untrusted text.

    ``begun``: what the last window added.
    """

    examiner: Examiner
    scene: Scene
    window: Window
    judgement: Judgement
    windows: int = 0
    ended: list[Ended] = field(default_factory=list)
    names: dict[VmId, str] = field(default_factory=dict)
    begun: tuple[Finding, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self.examiner.rules

    @property
    def verdicts(self) -> Verdicts | None:
        """The verdict on interrupt acceleration, if some finding has a use for it."""
        return self.examiner.verdicts(self.scene, self.window, self.judgement)

    def name(self, vm: VmId) -> str:
        """What to print for a VM."""
        from ..host.text import printable

        return printable(self.names.get(vm, str(vm)), max_length=64)

    def findings(self, chosen: Chosen | None) -> list[Finding]:
        return [finding for finding in self.judgement.findings if chosen is None or chosen.has(finding)]

    def endings(self, chosen: Chosen | None) -> list[Ended]:
        """What ended while it was looked at and did not begin again."""
        now = {finding.key for finding in self.judgement.findings}
        latest = {ended.finding.key: ended for ended in self.ended if ended.finding.key not in now}
        return [ended for ended in latest.values() if chosen is None or chosen.has(ended.finding)]

    def not_judged(self, chosen: Chosen | None) -> list[NotJudged]:
        missing = self.judgement.not_judged
        return [one for one in missing if chosen is None or one.vms is None or chosen.vm in one.vms]

    def reaches(self, level: str, chosen: Chosen | None) -> bool:
        """Whether anything as bad as ``level`` was found, also if it has ended since."""
        found = self.findings(chosen) + [ended.finding for ended in self.endings(chosen)]
        return any(finding.rule.severity.rank >= _LEVELS.index(level) for finding in found)

    def add(self, scene: Scene, window: Window, judgement: Judgement) -> None:
        """One more window, which ends with the sample of ``scene``."""
        known = {finding.key for finding in self.judgement.findings} if self.windows else set()
        self.begun = tuple(finding for finding in judgement.findings if finding.key not in known)
        self.scene, self.window, self.judgement = scene, window, judgement
        self.windows += 1
        self.ended += judgement.ended
        vms = scene.sample.vms
        self.names.update((vms.vm_id(row), identity.name) for row, identity in enumerate(scene.identities))

    def forget(self) -> None:
        """Drop what is past, for a report that is to go on without end. A VM may yet end under its name."""
        self.ended.clear()
        vms = self.scene.sample.vms
        self.names = {vm: self.names[vm] for vm in map(vms.vm_id, range(len(vms)))}


def reports(scenes: Iterable[tuple[Scene, Window]], examiner: Examiner) -> Iterator[Report]:
    """One report, longer after each window; each window ends with the sample of the scene beside it."""
    report: Report | None = None
    for scene, window in scenes:
        judgement = examiner.update(scene, window)
        if report is None:
            report = Report(examiner, scene, window, judgement)
        report.add(scene, window, judgement)
        yield report


def _reports(host: Host, interval_s: float, vm: str | None, count: int | None = None) -> Iterator[Report]:
    """Of this host, for so many windows or without end."""
    from ..view.judging import Examiner

    windows = read_windows(host, interval_s, vm=vm, count=count, waits_for_vms=count is None)
    return reports(windows, Examiner())


def _chosen(report: Report, vm: str | None) -> Chosen | None:
    if vm is None:
        return None
    from ..view.subjects import find_subject

    found, sample = find_subject(report.scene, vm), report.scene.sample
    return Chosen(sample.vms.vm_id(found.vm), None if found.vcpu is None else int(sample.vcpus.id[found.vcpu]))


def _echo(report: Report, chosen: Chosen | None, *, as_json: bool, one_line: bool = False) -> None:
    from ..view.jsonout import dump
    from .echo import echo_lines

    if as_json:
        click.echo(dump(to_json(report, chosen), one_line=one_line))
    else:
        echo_lines(lines(report, chosen))


def _watch(host: Host, interval_s: float, vm: str | None, *, as_json: bool) -> None:
    """A line for each finding that begins or ends; as JSON a whole report a window."""
    from .echo import echo_lines

    chosen: Chosen | None = None
    for report in _reports(host, interval_s, vm):
        if report.windows == 1:
            chosen = _chosen(report, vm)
        if as_json:
            _echo(report, chosen, as_json=True, one_line=True)
        else:
            echo_lines(event_lines(report, chosen))
        sys.stdout.flush()
        report.forget()


def event_lines(report: Report, chosen: Chosen | None) -> Iterator[str]:
    """What began and what ended in the last window, after a line of what is looked at."""
    from ..view.jsonout import rfc3339
    from .findings import cost_text

    time = rfc3339(report.judgement.taken_ns)
    if report.windows == 1:
        yield from _head_lines(report)
    for finding in report.begun:
        if chosen is None or chosen.has(finding):
            rule, cost = finding.rule, cost_text(finding)
            what = f"{report.name(finding.vm)}: {rule.title}{f', {cost}' if cost else ''}"
            yield f"{time} begins {rule.severity.value} {what} [{rule.slug}]"
    for ended in report.endings(chosen):
        rule = ended.finding.rule
        yield f"{time} ends ({ended.why.value}) {report.name(ended.finding.vm)}: {rule.title} [{rule.slug}]"


# --- JSON -------------------------------------------------------------------------------------------------------------


def to_json(report: Report, chosen: Chosen | None = None) -> dict[str, Any]:
    """The report for programs; docs/commands.md describes it."""
    from ..view import jsonout
    from .findings import ended_json, finding_json, not_judged_json

    verdicts = report.verdicts
    return {
        **jsonout.head(report.scene),
        "interval_s": report.window.interval_s,
        "windows": report.windows,
        "rules": len(report.rules),
        "findings": [finding_json(f, report.names.get(f.vm), verdicts) for f in report.findings(chosen)],
        "ended": [ended_json(e, report.names.get(e.finding.vm)) for e in report.endings(chosen)],
        "not_judged": [not_judged_json(missing) for missing in report.not_judged(chosen)],
        "gaps": jsonout.gaps(report.scene.sample.gaps),
    }


def rule_json(rule: Rule) -> dict[str, Any]:
    """One rule, whole."""
    return {
        "rule": rule.slug,
        "severity": rule.severity.value,
        "scope": rule.scope.value,
        "title": rule.title,
        "activity": None if rule.activity is None else str(rule.activity),
        "when": str(rule.when),
        "clears": None if rule.clears is None else str(rule.clears),
        "windows": rule.windows,
        "cost_cpus": None if rule.cost is None else str(rule.cost),
        "lost_vcpus": None if rule.lost is None else str(rule.lost),
        "evidence": list(rule.evidence),
        "explanation": rule.explanation,
        "threshold": rule.threshold,
        "remedies": [{"do": remedy.do, "price": remedy.price} for remedy in rule.remedies],
        "silent_if": list(rule.silent_if),
    }


# --- screen -----------------------------------------------------------------------------------------------------------


def lines(report: Report, chosen: Chosen | None = None) -> Iterator[str]:
    """What a person reads: what was looked at, what was found, and what is not known."""
    from ..view.text import NO_VM, counted, gap_lines
    from .findings import finding_lines, not_judged_lines

    yield from _head_lines(report)
    if not len(report.scene.sample.vms) and not report.ended:
        yield NO_VM.format(source=report.scene.sample.source)
        return
    findings, endings = report.findings(chosen), report.endings(chosen)
    verdicts = report.verdicts
    for finding in findings:
        yield ""
        yield from finding_lines(finding, report.name(finding.vm), report.examiner.metrics, verdicts)
    yield ""
    found = f"{counted(len(findings), 'finding')}" if findings else "nothing found"
    yield f"{found}, by {counted(len(report.rules), 'rule')}; `kvmscope doctor --explain RULE` tells more of one"
    yield from _ending_lines(report, endings)
    yield from not_judged_lines(report.not_judged(chosen), report.name, rules=len(report.rules))
    yield from gap_lines(report.scene.sample.gaps)


def _head_lines(report: Report) -> Iterator[str]:
    from ..host.text import printable
    from ..units import format_seconds
    from ..view.text import SIMULATED, counted

    sample = report.scene.sample
    if sample.simulated:
        yield SIMULATED
    machine = report.scene.machine
    yield " · ".join(
        (
            printable(machine.hostname.value or "this host"),
            f"{counted(len(sample.vms), 'VM')}, {counted(len(sample.vcpus), 'vCPU')}",
            f"{counted(report.windows, 'window')} of {format_seconds(report.window.interval_s)} by {sample.source}",
        )
    )


def _ending_lines(report: Report, endings: Sequence[Ended]) -> Iterator[str]:
    from .echo import fill

    words = {
        "cleared": "it cleared",
        "unknown": "it can no longer be told",
        "gone": "it is gone",
        "reset": "its statistics were cleared",
    }
    for ended in endings:
        rule = ended.finding.rule
        name = report.name(ended.finding.vm)
        yield from fill(f"ended meanwhile: {name}: {rule.title} [{rule.slug}]: {words[ended.why.value]}", "")


def _echo_rules(slug: str | None, *, as_json: bool) -> None:
    from ..catalog.findings import load_findings
    from ..view.jsonout import FORMAT, dump
    from .echo import echo_lines

    rules = load_findings()
    if slug is not None:
        rules = (_find_rule(rules, slug),)
    if as_json:
        click.echo(dump({"format": FORMAT, "rules": [rule_json(rule) for rule in rules]}))
    else:
        echo_lines(_rule_table(rules) if slug is None else rule_lines(rules[0]))


def _find_rule(rules: Sequence[Rule], slug: str) -> Rule:
    import difflib

    for rule in rules:
        if rule.slug == slug:
            return rule
    nearest = tuple(difflib.get_close_matches(slug, [rule.slug for rule in rules], cutoff=0.4))
    raise UsageError(f"there is no rule {slug!r}; `kvmscope doctor --rules` lists them", nearest=nearest)


def _rule_table(rules: Sequence[Rule]) -> list[str]:
    from ..view.text import columns

    return columns([(rule.slug, rule.severity.value, rule.title) for rule in rules])


def rule_lines(rule: Rule) -> Iterator[str]:
    """What a rule says, and why it fires when it does."""
    from ..catalog.caveats import load_caveats
    from ..view.text import counted
    from .echo import fill

    caveats = load_caveats()
    yield f"{rule.slug} ({rule.severity.value}): {rule.title}"
    yield ""
    yield from fill(rule.explanation, "", hang="")
    yield ""
    in_a_row = " in a row" if rule.windows > 1 else ""
    yield from fill(f"fires if, in {counted(rule.windows, 'window')}{in_a_row}: {rule.when}", "")
    if rule.activity is not None:
        yield from fill(f"and only while: {rule.activity}", "")
    if rule.clears is not None:
        yield from fill(f"ends if: {rule.clears}", "")
    yield from fill(f"because: {rule.threshold}", "")
    if rule.cost is not None:
        yield from fill(f"cost in CPUs: {rule.cost}", "")
    for slug in rule.silent_if:
        yield from fill(f"not judged where caveat {slug} holds: {caveats[slug].text}", "")
    for remedy in rule.remedies:
        yield ""
        yield from fill(f"to do: {remedy.do}", "")
        yield from fill(f"price: {remedy.price}", "  ")
