"""``kvmscope explain``: what a stat, metric, rule, inhibit reason or caveat means, and how it is on this host.

What there is to say is in ``explaining``; here it becomes lines for a person who is in a hurry: the meaning first, then
what holds here, then the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from ..errors import SourceError
from ..view.text import few
from .echo import fill
from .explaining import VMS_SHOWN, Explainer, Here
from .options import json_option, parse_duration, source_option

_KEY_WIDTH = 11


@click.command("explain", short_help="What a stat, metric, rule or reason means here.")
@click.argument("name", metavar="NAME")
@click.option(
    "--interval", callback=parse_duration, default="1s", show_default=True, metavar="TIME", help="Length of the window."
)
@click.option("--no-values", is_flag=True, help="Only what it means: read no VM.")
@source_option
@json_option
def command(*, name: str, interval: float, no_values: bool, source: str, as_json: bool) -> None:
    """Tell what NAME means, how far it can be relied on, which caveats hold on this host, what its values are here, and
    what to compare it with. NAME is a stat, a metric, a rule of the doctor, an inhibit reason or a caveat.

    \b
    kvmscope explain pf_fast
    kvmscope explain poll-waste
    kvmscope explain pit_reinj
    """
    explainer = _read(source, None if no_values else interval)
    found = explainer.explain(name)
    if as_json:
        from ..view.jsonout import FORMAT, dump, head

        about = {"format": FORMAT} if explainer.here is None else head(explainer.here.scene)
        click.echo(dump({**about, "why_not": explainer.why_not or None, "found": found}))
        return
    from .echo import echo_lines

    echo_lines(lines(explainer, found))


def _read(source: str, interval_s: float | None) -> Explainer:
    """With a window of this host; without one if none is wanted or it cannot be read."""
    from ..host.machine import read_machine
    from .session import open_host, read_windows

    machine = read_machine()
    if interval_s is None:
        return Explainer(machine, None, "not asked for")
    try:
        with open_host(source) as host:
            return Explainer(machine, Here(*next(read_windows(host, interval_s))))
    except SourceError as error:
        if source != "auto":
            raise
        return Explainer(machine, None, error.reason)


def lines(explainer: Explainer, found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Everything that was found, as text."""
    from ..view.text import SIMULATED

    if explainer.here is not None and explainer.here.window.current.simulated:
        yield SIMULATED
    for place, one in enumerate(found):
        if place:
            yield ""
        yield from _WRITERS[one["what"]](one)


# --- one thing each ---------------------------------------------------------------------------------------------------


def _stat_lines(stat: Mapping[str, Any]) -> Iterator[str]:
    yield f"{stat['name']}: statistic of a {_subject(stat['scope'])}, of provider {stat['provider']}"
    if not stat["catalogued"]:
        yield from _fill("Uncatalogued: kvmscope has no words for it. This is what its provider says of it.", "")
        yield ""
        yield from _field("kind", ", ".join(filter(None, (stat["kind"], stat["unit"]))))
        yield from _here_lines(stat["here"])
        return
    yield from _fill(stat["meaning"], "")
    yield ""
    yield from _field("kind", ", ".join(filter(None, (stat["kind"].replace("_", " "), stat["unit"]))))
    yield from _field("tier", f"{stat['tier']}: {stat['tier_means']}")
    yield from _field("kernels", _kernels(stat))
    yield from _field("replaced by", ", ".join(stat["replaced_by"]))
    yield from _field("compare", ", ".join(stat["compare"]))
    yield from _field("metrics", ", ".join(stat["metrics"]))
    yield from _field("rules", ", ".join(stat["rules"]))
    for change in stat["changed"]:
        yield from _field(f"in {change['since']}", f"{change['what']} changed. {change['text']}")
    yield from _caveat_lines(stat["caveats"])
    yield from _here_lines(stat["here"])


def _metric_lines(metric: Mapping[str, Any]) -> Iterator[str]:
    yield f"{metric['name']} ({metric['title']}): metric of a {_subject(metric['scope'])}"
    yield from _fill(metric["meaning"], "")
    yield ""
    yield from _field("good", metric["good"])
    yield from _field("bad", metric["bad"])
    yield from _field("unit", metric["unit"])
    yield from _field("formula", metric["formula"])
    tier = metric["tier"]
    yield from _field("tier", f"{tier}, the least of its stats" if tier else "")
    yield from _field("rules", ", ".join(metric["rules"]))
    yield from _caveat_lines(metric["caveats"])
    yield from _here_lines(metric["here"])


def _rule_lines(rule: Mapping[str, Any]) -> Iterator[str]:
    from ..catalog.findings import load_findings
    from ..view.doctor_text import rule_lines
    from .echo import page_width

    yield from rule_lines(next(known for known in load_findings() if known.slug == rule["rule"]), width=page_width())
    yield from _caveat_lines(rule["caveats"])


def _reason_lines(reason: Mapping[str, Any]) -> Iterator[str]:
    yield f"{reason['name']}: reason for which KVM does without APICv or AVIC ({', '.join(reason['vendors'])})"
    yield from _fill(reason["meaning"], "")
    yield ""
    yield from _field("class", reason["class"])
    yield from _field("set by", reason["set_by"])
    yield from _field("cleared by", reason["cleared_by"])
    yield from _field("compare", ", ".join(reason["compare"]))
    yield ""
    yield "What removes it"
    for vmm, remedy in reason["remedies"].items():
        yield from _fill(f"{vmm}: {remedy}", "  ")
    yield from _here_lines(reason["here"])


def _one_caveat_lines(caveat: Mapping[str, Any]) -> Iterator[str]:
    yield f"{caveat['name']}: caveat of {', '.join(caveat['stats']) or 'rules'}"
    yield from _fill(caveat["text"], "")
    yield ""
    yield from _field("here", _verdict(caveat))


_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "stat": _stat_lines,
    "metric": _metric_lines,
    "rule": _rule_lines,
    "reason": _reason_lines,
    "caveat": _one_caveat_lines,
}


# --- parts ------------------------------------------------------------------------------------------------------------


def _caveat_lines(caveats: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Those that hold, and those of which it is not known whether they do; of general ones only the names."""
    for verdict, heading in (("holds", "What holds here"), ("cannot tell", "What may hold here: it cannot be told")):
        those = [caveat for caveat in caveats if caveat["verdict"] == verdict and not caveat["general"]]
        if those:
            yield ""
            yield heading
        for caveat in those:
            yield from _fill(f"- {caveat['text']}", "  ")
            of = f" ({few(caveat['vms'])})" if caveat["vms"] else ""
            yield from _fill(f"[{caveat['slug']}: {caveat['reason']}{of}]", "    ")
    general = [caveat["slug"] for caveat in caveats if caveat["verdict"] != "does not hold" and caveat["general"]]
    left = [caveat["slug"] for caveat in caveats if caveat["verdict"] == "does not hold"]
    if general or left:
        yield ""
    if general:
        yield from _fill(f"Holds of all such stats: {', '.join(general)}", "")
    if left:
        yield from _fill(f"Does not hold here: {', '.join(left)}", "")


def _verdict(caveat: Mapping[str, Any]) -> str:
    of = f" ({few(caveat['vms'])})" if caveat["vms"] else ""
    return f"{caveat['verdict']}: {caveat['reason']}{of}"


def _here_lines(here: Mapping[str, Any]) -> Iterator[str]:
    from ..units import format_seconds
    from ..view.text import columns, counted

    yield ""
    if "why_not" in here:
        yield from _fill(f"Values here: not known ({here['why_not']})", "")
        return
    vms = here["vms"]
    if not vms:
        yield "Values here: no VM is running, or none that can be seen"
        return
    yield f"Values here, over {format_seconds(here['interval_s'])}"
    shown = vms[:VMS_SHOWN]
    keys = list(here["host"])
    rows = [("all", here["host"]), *((vm["vm"], vm) for vm in shown)] if len(vms) > 1 else [(vms[0]["vm"], vms[0])]
    table = [(name, *(f"{_prefix(key)}{_value(key, values[key])}" for key in keys)) for name, values in rows]
    yield from (f"  {line}" for line in columns(table, right=range(1, len(keys) + 1)))
    if len(vms) > len(shown):
        yield f"  … and {counted(len(vms) - len(shown), 'VM')} more; --json has them all"


def _prefix(key: str) -> str:
    return f"{key} " if key.startswith("p") and key[1:].isdigit() else ""


def _value(key: str, value: float | None) -> str:
    from ..catalog.metrics import MetricUnit
    from ..units import format_count, format_seconds
    from ..view.text import format_metric

    if key in {unit.value for unit in MetricUnit}:
        return format_metric(MetricUnit(key), value)
    if key == "per_s" and value is not None:
        return f"{format_count(value)}/s"
    if key == "s_per_s" and value is not None:
        return f"{format_seconds(value)} a second"
    return format_seconds(value) if _prefix(key) else format_count(value)


def _kernels(stat: Mapping[str, Any]) -> str:
    by_kernel: dict[str, list[str]] = {}
    for architecture, kernel in stat["kernels"].items():
        by_kernel.setdefault(kernel, []).append(architecture)
    told = "; ".join(f"{', '.join(names)} since {kernel}" for kernel, names in by_kernel.items())
    return f"{told}; gone in {stat['until']}" if stat["until"] else told


def _subject(scope: str) -> str:
    return "VM" if scope == "vm" else "vCPU"


def _field(key: str, text: str) -> list[str]:
    """``key  text``, or nothing if there is no text."""
    return fill(f"{key:<{_KEY_WIDTH}}  {text}", "  ", hang=" " * (_KEY_WIDTH + 2)) if text else []


def _fill(text: str, indent: str) -> list[str]:
    return fill(text, indent, hang="  " if text.startswith("- ") else "")
