"""``kvmscope doctor``: what is wrong with the VMs of this host, since when, its impact, and what to do about it.

What is found is in ``analysis.findings``, and what is said of it in ``view``; here: how long to look, and at what.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ..console.interrupts import until_ended
from ..errors import UsageError
from ..store.replay import LookPlan
from .echo import echo_lines, echo_notes, page_width
from .history import history_options, is_recorded, is_span
from .options import json_option, parse_duration, source_option
from .session import open_host, read_views

if TYPE_CHECKING:
    from ..catalog.findings import Rule
    from ..collect import SceneHost
    from ..scene import Scene
    from ..view.doctor import DoctorReport
    from ..view.subjects import FollowedVm
    from ..view.watch import HostView

_WINDOWS_AT_LEAST = 2
_LEVELS = ("info", "warning", "problem")
_FOUND = 1


def _parse_rule(_ctx: click.Context, _param: click.Parameter, slug: str | None) -> str | None:
    """A rule's slug; for an option's ``callback``."""
    return None if slug is None else _find_rule(slug).slug


@click.command("doctor", short_help="What is wrong, why it matters, and what to do.")
@click.argument("subject", required=False, metavar="[VM[/VCPU] | RULE]")
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
    help="Length of one interval; most rules need two in a row.",
)
@click.option("--watch", "-w", is_flag=True, help="Go on until Ctrl-C, and show what begins and what ends.")
@click.option(
    "--fail-on", type=click.Choice(_LEVELS), help="Exit with 1 if something of this level or a worse one is found."
)
@click.option(
    "--count",
    "groups",
    multiple=True,
    metavar="GROUP",
    help="Count with this opt-in group while watching, for the rules that need it; may be given several times.",
)
@click.option(
    "--rule", callback=_parse_rule, metavar="RULE", help="Show all that this rule finds; RULE alone does the same."
)
@click.option("--not-judged", "lists_unchecked", is_flag=True, help="List the rules that were not checked, and why.")
@click.option("--explain", metavar="RULE", help="Show what a rule says, without looking at anything.")
@click.option("--rules", "list_rules", is_flag=True, help="List the rules, without looking at anything.")
@history_options
@source_option
@json_option
def command(
    *,
    subject: str | None,
    look_s: float,
    interval: float,
    watch: bool,
    fail_on: str | None,
    groups: tuple[str, ...],
    rule: str | None,
    lists_unchecked: bool,
    explain: str | None,
    list_rules: bool,
    source: str,
    as_json: bool,
) -> None:
    """Watch the host for some seconds and show what is wrong or could be better: the most urgent first, with the
    evidence, the impact, the fix and its trade-off. Findings are shown by rule; VM or RULE shows all of one.

    \b
    kvmscope doctor
    kvmscope doctor web-1 --for 1m
    kvmscope doctor poll-waste
    kvmscope doctor --fail-on warning --json
    kvmscope doctor --explain poll-waste
    """
    if explain is not None or list_rules:
        _echo_rules(explain, as_json=as_json)
        return
    _check_usage(look_s, interval, watch=watch, fail_on=fail_on)
    count = _count(look_s, interval)
    plan = LookPlan((interval,) * (1 if watch else count), goes_on=watch, is_one_window=False)
    with _open(source, groups, plan) as host:
        first = host.look()
        scope = _scope(first, subject, rule)
        if watch:
            with until_ended():
                _watch(read_views(host, interval, first=first), scope, as_json=as_json)
            return
        *_, view = read_views(host, interval, first=first, count=None if is_span() else count, keeps_ended=True)
    report = scope.report(view)
    if as_json:
        _echo_json(report, one_line=False)
    else:
        echo_lines(scope.lines(report, lists_unchecked=lists_unchecked))
    if fail_on and _reaches(report, fail_on):
        click.get_current_context().exit(_FOUND)


def _open(source: str, groups: Sequence[str], plan: LookPlan) -> SceneHost:
    if groups and is_recorded():
        raise UsageError("--count counts on this host; a recording has what was counted when it was made")
    if not groups:
        return open_host(source, plan)
    from .. import collect

    return collect.open_host(source, groups=groups)


def _check_usage(look_s: float, interval_s: float, *, watch: bool, fail_on: str | None) -> None:
    if watch and fail_on:
        raise UsageError("--fail-on cannot be combined with --watch, which goes on until Ctrl-C")
    if not watch and _count(look_s, interval_s) < _WINDOWS_AT_LEAST:
        raise UsageError(
            f"--for {look_s:g}s has no room for {_WINDOWS_AT_LEAST} intervals of {interval_s:g}s, which rules need; "
            f"shorten --interval or lengthen --for"
        )


def _count(look_s: float, interval_s: float) -> int:
    return int(look_s / interval_s + 1e-6)


@dataclass(frozen=True, slots=True)
class DoctorScope:
    """What was asked for: everything, one VM, or one rule."""

    vm: FollowedVm | None = None
    rule: Rule | None = None

    def report(self, view: HostView) -> DoctorReport:
        return view.report(self.vm, rule=None if self.rule is None else self.rule.slug)

    def lines(self, report: DoctorReport, *, lists_unchecked: bool) -> Iterable[str]:
        from ..view.doctor_text import report_lines, rule_report_lines

        if self.rule is not None:
            return rule_report_lines(report, self.rule, width=page_width())
        return report_lines(report, width=page_width(), lists_unchecked=lists_unchecked)


def _scope(scene: Scene, word: str | None, slug: str | None) -> DoctorScope:
    """What the words of the command line mean: a VM, a rule, or with ``--rule`` both. A VM goes before a rule."""
    from ..host.text import printable
    from ..view.subjects import followed, match_subject, near_vms

    rules = _rules()
    named = None if slug is None else _find_rule(slug)
    if word is None:
        return DoctorScope(None, named)
    found = match_subject(scene, word)
    if found is not None:
        if word in rules:
            echo_notes([f"{word} is a VM here, and a rule too; for the rule: kvmscope doctor --rule {word}"])
        return DoctorScope(followed(scene, found), named)
    if word in rules and named is None:
        return DoctorScope(None, rules[word])
    near = (*near_vms(scene, word), *_near_rules(word))
    raise UsageError(f"there is no VM '{printable(word)}', and no rule either", nearest=near)


def _reaches(report: DoctorReport, level: str) -> bool:
    from ..catalog.findings import Severity

    return report.reaches(Severity(level))


def _echo_json(report: DoctorReport, *, one_line: bool) -> None:
    from ..view.jsonout import dump, to_value

    click.echo(dump(to_value(report), one_line=one_line))


def _watch(views: Iterable[HostView], scope: DoctorScope, *, as_json: bool) -> None:
    """A line for each finding that begins or ends; as JSON a whole report an interval. Ends with the VM."""
    from ..view.doctor_text import event_lines, head_lines

    for view in views:
        report = scope.report(view)
        if as_json:
            _echo_json(report, one_line=True)
        else:
            echo_lines(
                [*(head_lines(report, width=page_width()) if view.log.windows == 1 else ()), *event_lines(report)]
            )
        sys.stdout.flush()
        if report.vm is not None and report.vm.ended is not None:
            return


def _echo_rules(slug: str | None, *, as_json: bool) -> None:
    from ..view.doctor_text import rule_lines, rule_table
    from ..view.jsonout import dump, to_value
    from ..view.rules import rule_list

    rules = tuple(_rules().values()) if slug is None else (_find_rule(slug),)
    if as_json:
        click.echo(dump(to_value(rule_list(rules))))
    else:
        echo_lines(rule_table(rules) if slug is None else rule_lines(rules[0], width=page_width()))


def _rules() -> dict[str, Rule]:
    from ..catalog.findings import load_findings

    return {rule.slug: rule for rule in load_findings()}


def _find_rule(slug: str) -> Rule:
    rules = _rules()
    if slug not in rules:
        raise UsageError(f"there is no rule {slug!r}; `kvmscope doctor --rules` lists them", nearest=_near_rules(slug))
    return rules[slug]


def _near_rules(word: str) -> tuple[str, ...]:
    return tuple(difflib.get_close_matches(word, _rules(), cutoff=0.5))
