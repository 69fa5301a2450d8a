"""Explanations as lines: the meaning first, then what applies on this host.

``meaning_lines`` needs only the facts of the host: its lines can be shown before any VM is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ...analysis.caveats import TruthValue
from ...catalog.findings import load_findings
from ...catalog.metrics import MetricUnit
from ...catalog.settings import ANY, PARTIES
from ...host.text import printable
from ...schema import Scope
from ...units import format_count, format_seconds
from ..doctor_text import rule_lines
from ..text import SIMULATED, columns, counted, few, fill, format_metric
from .caveats import CaveatExplanation, CaveatView
from .groups import GroupExplanation
from .lookup import Explanation
from .metrics import MetricExplanation
from .reasons import InhibitExplanation
from .rules import RuleExplanation
from .settings import SettingExplanation
from .stats import StatExplanation, UncataloguedStat
from .values import HostValues, LiveValues, NoValues

_VMS_SHOWN = 5
_LONGEST_MEANING = 500
_KEY_WIDTH = 11
_SUBJECTS = {Scope.VM: "VM", Scope.VCPU: "vCPU"}
_VERDICTS = {TruthValue.HOLDS: "applies", TruthValue.DOES_NOT_HOLD: "does not apply", TruthValue.CANNOT_TELL: "unknown"}


def meaning_lines(found: Explanation, *, width: int) -> Iterator[str]:
    """The meaning of a name."""
    match found:
        case StatExplanation():
            yield from _stat_lines(found, width)
        case UncataloguedStat():
            yield from _uncatalogued_lines(found, width)
        case MetricExplanation():
            yield from _metric_lines(found, width)
        case RuleExplanation():
            yield from rule_lines(next(rule for rule in load_findings() if rule.slug == found.rule), width=width)
        case InhibitExplanation():
            yield from _reason_lines(found, width)
        case CaveatExplanation():
            yield f"{found.name}: caveat of {', '.join(found.stats) or 'rules'}"
            yield from fill(found.text, hang="", width=width)
        case GroupExplanation():
            yield from _group_lines(found, width)
        case SettingExplanation():
            yield from _setting_lines(found, width)


def host_lines(found: Explanation, *, width: int) -> Iterator[str]:
    """What applies on this host, and the values here."""
    match found:
        case StatExplanation() | MetricExplanation():
            yield from caveat_lines(found.caveats, width)
            yield from _value_lines(found.here, width)
        case UncataloguedStat() | InhibitExplanation():
            yield from _value_lines(found.here, width)
        case RuleExplanation():
            yield from caveat_lines(found.caveats, width)
        case CaveatExplanation():
            yield ""
            yield from _field("here", _verdict(found), width)


def catalogue_lines(found: Sequence[Explanation], *, width: int) -> Iterator[str]:
    """The meaning of each, separated by empty lines."""
    for place, each in enumerate(found):
        yield from [""] if place else []
        yield from meaning_lines(each, width=width)


def here_lines(
    found: Sequence[Explanation], shown: Sequence[Explanation], *, width: int, is_simulated: bool
) -> Iterator[str]:
    """What applies on this host, for each. Entries in ``shown`` had their meaning printed; others get it here."""
    known = {title_of(each) for each in shown}
    if is_simulated:
        yield SIMULATED
    for place, each in enumerate(found):
        if title_of(each) not in known:
            yield from [""] if place else []
            yield from meaning_lines(each, width=width)
        elif len(found) > 1:
            yield from ["", f"On this host: {title_of(each)}"]
        yield from host_lines(each, width=width)


def title_of(found: Explanation) -> str:
    """The kind and the name, in a line."""
    match found:
        case StatExplanation() | UncataloguedStat():
            return f"{found.name}: statistic of a {_SUBJECTS[found.scope]}, from provider {found.provider}"
        case MetricExplanation():
            return f"{found.name} ({found.title}): metric of a {_SUBJECTS[found.scope]}"
        case InhibitExplanation():
            vendors = ", ".join(vendor.value for vendor in found.vendors)
            return f"{found.name}: reason for which KVM does not use APICv or AVIC ({vendors})"
        case RuleExplanation():
            return f"{found.rule}: rule of the doctor"
        case CaveatExplanation() | GroupExplanation() | SettingExplanation():
            return f"{found.name}: {found.what}"


# --- meanings ---------------------------------------------------------------------------------------------------------


def _stat_lines(stat: StatExplanation, width: int) -> Iterator[str]:
    field = _fields(width)
    yield title_of(stat)
    yield from fill(stat.meaning, hang="", width=width)
    yield ""
    yield from field("kind", ", ".join(filter(None, (stat.kind.replace("_", " "), stat.unit))))
    yield from field("stability", f"{stat.tier.value}: {stat.tier_means}")
    yield from field("kernels", _kernels(stat))
    yield from field("replaced by", ", ".join(stat.replaced_by))
    yield from field("compare", ", ".join(stat.compare))
    yield from field("metrics", ", ".join(stat.metrics))
    yield from field("rules", ", ".join(stat.rules))
    for change in stat.changed:
        yield from field(f"in {change.since}", f"{change.what.value} changed. {change.text}")


def _uncatalogued_lines(stat: UncataloguedStat, width: int) -> Iterator[str]:
    yield title_of(stat)
    yield from fill("Not in kvmscope's catalogue. Shown as described by its provider:", width=width)
    if stat.meaning:
        yield from fill(printable(stat.meaning, max_length=_LONGEST_MEANING), hang="", width=width)
    yield ""
    yield from _field("kind", ", ".join(filter(None, (stat.kind, stat.unit))), width)
    yield from _field("stability", stat.tier.value if stat.tier else "", width)


def _metric_lines(metric: MetricExplanation, width: int) -> Iterator[str]:
    field = _fields(width)
    yield title_of(metric)
    yield from fill(metric.meaning, hang="", width=width)
    yield ""
    yield from field("good", metric.good)
    yield from field("bad", metric.bad)
    yield from field("unit", metric.unit.value)
    yield from field("formula", metric.formula)
    yield from field("stability", f"{metric.tier.value} (the lowest tier of its inputs)" if metric.tier else "")
    yield from field("rules", ", ".join(metric.rules))


def _reason_lines(reason: InhibitExplanation, width: int) -> Iterator[str]:
    field = _fields(width)
    yield title_of(reason)
    yield from fill(reason.meaning, hang="", width=width)
    yield ""
    yield from field("class", reason.class_.value)
    yield from field("set by", reason.set_by)
    yield from field("cleared by", reason.cleared_by)
    yield from field("compare", ", ".join(reason.compare))
    yield ""
    yield "Remedies"
    for party, remedy in reason.remedies.items():
        yield from fill(remedy if party == ANY else f"{PARTIES[party]}: {remedy}", "  ", hang="", width=width)


def _setting_lines(setting: SettingExplanation, width: int) -> Iterator[str]:
    field = _fields(width)
    yield title_of(setting)
    yield from fill(setting.does, hang="", width=width)
    yield ""
    for party in PARTIES:
        if party in setting.by:
            yield from fill(f"{PARTIES[party]}: {setting.by[party]}", hang="  ", width=width)
    for text in setting.cannot.values():
        yield from fill(text, hang="  ", width=width)
    yield ""
    yield from field("rules", ", ".join(setting.rules))
    yield from field("reasons", ", ".join(setting.reasons))


def _group_lines(group: GroupExplanation, width: int) -> Iterator[str]:
    field = _fields(width)
    yield f"{group.name} ({group.title}): opt-in group of statistics"
    yield from fill(group.meaning, hang="", width=width)
    yield ""
    yield from field("needs", group.needs)
    cost = f"about {group.ns_per_event} ns an event (machine of bench/RESULTS.md)" if group.ns_per_event else ""
    yield from field("cost", cost or "no event is hooked; values are read with each sample")
    yield from field("statistics", ", ".join(group.stats))
    yield from field("metrics", ", ".join(group.metrics))
    yield from field("rules", ", ".join(group.rules))
    yield from field("try it", f"kvmscope groups try {group.name}")


# --- parts ------------------------------------------------------------------------------------------------------------


def caveat_lines(caveats: Sequence[CaveatView], width: int) -> Iterator[str]:
    """The caveats that apply or may apply; only the names of general ones."""
    headings = {TruthValue.HOLDS: "Caveats that apply here", TruthValue.CANNOT_TELL: "Caveats that may apply here"}
    for verdict, heading in headings.items():
        those = [caveat for caveat in caveats if caveat.verdict is verdict and not caveat.general]
        if those:
            yield ""
            yield heading
        for caveat in those:
            yield from fill(f"- {caveat.text}", "  ", width=width)
            yield from fill(f"[{caveat.slug}: {caveat.reason}{_of_vms(caveat)}]", "    ", hang="", width=width)
    general = [caveat.slug for caveat in caveats if caveat.verdict is not TruthValue.DOES_NOT_HOLD and caveat.general]
    left = [caveat.slug for caveat in caveats if caveat.verdict is TruthValue.DOES_NOT_HOLD]
    if general or left:
        yield ""
    if general:
        yield from fill(f"Caveats of all such statistics: {', '.join(general)}", hang="", width=width)
    if left:
        yield from fill(f"Caveats that do not apply here: {', '.join(left)}", hang="", width=width)


def _verdict(caveat: CaveatView) -> str:
    return f"{_VERDICTS[caveat.verdict]}: {caveat.reason}{_of_vms(caveat)}"


def _of_vms(caveat: CaveatView) -> str:
    return f" ({few(caveat.vms)})" if caveat.vms else ""


def _value_lines(here: HostValues, width: int) -> Iterator[str]:
    yield ""
    if isinstance(here, NoValues):
        yield from fill(f"Values here: unknown ({' '.join(here.why_not.split())})", hang="", width=width)
    elif not here.vms:
        yield "Values here: no VM is running, or none that this source can see"
    else:
        yield f"Values here, over {format_seconds(here.interval_s)}"
        yield from _value_table(here)


def _value_table(here: LiveValues) -> Iterator[str]:
    shown = here.vms[:_VMS_SHOWN]
    rows = [(vm.vm, vm.quantities) for vm in shown]
    if len(here.vms) > 1:
        rows.insert(0, ("all", here.host))
    keys = list(here.host)
    table = [(name, *(_quantity(key, values[key]) for key in keys)) for name, values in rows]
    yield from (f"  {line}" for line in columns(table, right=range(1, len(keys) + 1)))
    if len(here.vms) > len(shown):
        yield f"  … and {counted(len(here.vms) - len(shown), 'VM')} more; --json has them all"


def _quantity(key: str, value: float | None) -> str:
    """``20.4k/s``, ``p50 17 µs``."""
    if key in {unit.value for unit in MetricUnit}:
        return format_metric(MetricUnit(key), value)
    if key.startswith("p") and key[1:].isdigit():
        return f"{key} {format_seconds(value)}"
    if key == "per_s" and value is not None:
        return f"{format_count(value)}/s"
    if key == "s_per_s" and value is not None:
        return f"{format_seconds(value)} a second"
    return format_count(value)


def _kernels(stat: StatExplanation) -> str:
    by_kernel: dict[str, list[str]] = {}
    for architecture, kernel in stat.kernels.items():
        by_kernel.setdefault(kernel, []).append(architecture)
    since = "; ".join(f"{', '.join(names)} since {kernel}" for kernel, names in by_kernel.items())
    return f"{since}; gone in {stat.until}" if stat.until else since


def _fields(width: int) -> Callable[[str, str], list[str]]:
    return lambda key, text: _field(key, text, width)


def _field(key: str, text: str, width: int) -> list[str]:
    """``key  text``, or nothing if there is no text."""
    if not text:
        return []
    return fill(f"{key:<{_KEY_WIDTH}}  {text}", "  ", hang=" " * (_KEY_WIDTH + 2), width=width)
