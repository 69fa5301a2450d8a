"""``kvmscope doctor``: what is wrong with the VMs of this host, since when, its impact, and what to do about it.

``analysis.findings`` makes the findings, ``view`` their text; this module decides how long to watch, and what.
"""

from __future__ import annotations

import sys

import click

from ..console.interrupts import until_ended
from ..errors import UsageError
from ..store.replay import LookPlan
from ..tasks.lengths import count_intervals
from ..terminal.echo import echo_answer, echo_notes, page_width
from .history import is_left_as_it_is, is_recorded, reading_options
from .options import count_option, interval_option, time_option, watch_option
from .session import open_counting_host

_LEVELS = ("info", "warning", "problem")
_FOUND = 1


def _parse_rule(_ctx: click.Context, _param: click.Parameter, slug: str | None) -> str | None:
    """The checked slug of a rule; for an option's ``callback``."""
    if slug is None:
        return None
    from ..catalog.findings import find_rule

    return find_rule(slug).slug


@click.command("doctor", short_help="What is wrong, why it matters, and what to do.")
@click.argument("subject", required=False, metavar="[VM[/VCPU] | RULE]")
@time_option("--for", "look_s", default="6s", help="How long to watch.")
@interval_option("2s", help="Length of one interval; most rules need two in a row.")
@watch_option("Continue until Ctrl-C, and show findings that begin or end.")
@click.option("--fail-on", type=click.Choice(_LEVELS), help="Exit with 1 if there is a finding of this level or worse.")
@count_option("Count with this opt-in group while watching, for the rules that need it; may be given several times.")
@click.option(
    "--rule", callback=_parse_rule, metavar="RULE", help="Show all findings of this rule, as RULE alone does."
)
@click.option("--not-judged", "lists_unchecked", is_flag=True, help="List the rules that were not checked, and why.")
@click.option("--explain", metavar="RULE", help="Describe a rule, without reading the host.")
@click.option("--rules", "list_rules", is_flag=True, help="List the rules, without reading the host.")
@reading_options
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
    """Watch the host for a few seconds and show what is wrong or could be better: the most urgent first, with the
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
    if watch and fail_on:
        raise UsageError("--fail-on cannot be combined with --watch, which goes on until Ctrl-C")
    count = 1 if watch else count_intervals(look_s, interval)
    is_usual = is_left_as_it_is("look_s", "interval")
    plan = LookPlan((interval,) * count, goes_on=watch, is_one_window=False, whole_episode=is_usual)
    with open_counting_host(source, groups, plan) as host:
        first = host.look()
        from ..tasks.long_recordings import judge_host
        from ..tasks.watching import read_views
        from ..view.scope import find_scope, watch_lines

        scope = find_scope(host.ends(first), subject, rule)
        echo_notes(filter(None, [scope.note]))
        if watch:
            with until_ended():
                for report in scope.reports(read_views(host, interval, first=first)):
                    echo_answer(report, watch_lines(report, width=page_width()), as_json=as_json, one_line=True)
                    sys.stdout.flush()
            return
        length_s, number = host.interval_s(interval), None if is_recorded() else count
        judged = judge_host(host, length_s, first=first, count=number)
    echo_notes(filter(None, [judged.note]))
    report = scope.report(judged.view)
    text = scope.lines(report, width=page_width(), lists_unchecked=lists_unchecked, shows_ended=is_recorded())
    echo_answer(report, text, as_json=as_json)
    if fail_on and report.reaches(fail_on):
        click.get_current_context().exit(_FOUND)


def _echo_rules(slug: str | None, *, as_json: bool) -> None:
    from ..catalog.findings import find_rule, load_findings
    from ..view.doctor_text import rule_lines, rule_table
    from ..view.rules import rule_list

    rules = load_findings() if slug is None else (find_rule(slug),)
    text = rule_table(rules) if slug is None else rule_lines(rules[0], width=page_width())
    echo_answer(rule_list(rules), text, as_json=as_json)
