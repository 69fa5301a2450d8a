#!/usr/bin/env python3
"""Writes the pages of docs/reference/ from the catalogue (stats, metrics, findings, reasons, caveats, settings), and
the texts of messages from the code.

`tools/reference.py` writes them; `tools/reference.py --check` says which are not as the catalogue has it, and exits
with 1 if there are any. Pages are not edited by hand.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.messages import GAP, messages

from kvmscope.catalog.addresses import AddressSpace, load_addresses
from kvmscope.catalog.caveats import load_caveats
from kvmscope.catalog.findings import Rule, load_findings
from kvmscope.catalog.inhibits import Inhibit, load_inhibits
from kvmscope.catalog.lookalikes import lookalikes
from kvmscope.catalog.metrics import Metric, load_metrics
from kvmscope.catalog.settings import PARTIES, load_managers, load_settings
from kvmscope.catalog.stats import StatEntry, load_stats
from kvmscope.catalog.uncounted import load_uncounted
from kvmscope.schema import Scope, Unit

PAGES = Path(__file__).resolve().parent.parent / "docs" / "reference"
_MADE = "<!-- Made by tools/reference.py from the catalogue; not edited by hand. -->"
_MADE_OF_CODE = "<!-- Made by tools/reference.py from the code; not edited by hand. -->"


def pages() -> Mapping[str, str]:
    """Text by name of the page."""
    return {
        "stats.md": _page("Statistics", _STATS, _stats()),
        "metrics.md": _page("Metrics", _METRICS, _metrics()),
        "findings.md": _page("Findings", _FINDINGS, _findings()),
        "reasons.md": _page("Inhibit reasons", _REASONS, _reasons()),
        "caveats.md": _page("Caveats", _CAVEATS, _caveats()),
        "settings.md": _page("Settings", _SETTINGS, _settings()),
        "ports-and-msrs.md": _page("Ports and MSRs", _ADDRESSES, _addresses()),
        "message-texts.md": _page("Texts of messages", _MESSAGES, _messages(), made=_MADE_OF_CODE),
    }


def _page(title: str, about: str, body: Iterable[str], *, made: str = _MADE) -> str:
    return "\n".join((f"# {title}", "", made, "", about.strip(), "", *body)).rstrip() + "\n"


# --- stats ------------------------------------------------------------------------------------------------------------

_STATS = """
Every statistic of KVM in Linux 5.14 to 7.3, and those of kvmscope's own groups, by provider, scope and architecture.
`kvmscope explain STAT` shows the same, with the caveats that apply to this host. Kinds and units are those of the
newest kernel that has the stat. The *tier* is its stability. The kernel has no tiers; they are kvmscope's assessment:

- `abi-like`: programs depend on it, and it is not expected to change;
- `stable`: the name stays; what moves it depends on CPU, VM and kernel;
- `volatile`: an implementation detail of KVM, which may change its meaning or be removed at any time.
"""


def _stats() -> Iterator[str]:
    for (provider, scope, where), entries in itertools.groupby(sorted(load_stats(), key=_place), key=_heading):
        yield f"## {provider}, {'VM' if scope is Scope.VM else 'vCPU'}{f', {where}' if where else ''}"
        yield ""
        for entry in entries:
            yield from _stat(entry)


def _heading(entry: StatEntry) -> tuple[str, Scope, str]:
    architectures = sorted(entry.architectures)
    if entry.provider != "kvm":
        return entry.provider, entry.scope, ""
    where = "several architectures" if len(architectures) > 1 else architectures[0]
    return entry.provider, entry.scope, where


def _place(entry: StatEntry) -> tuple[bool, str, bool, bool, str, str]:
    provider, scope, where = _heading(entry)
    return provider != "kvm", provider, scope is Scope.VCPU, where != "several architectures", where, entry.name


def _stat(entry: StatEntry) -> Iterator[str]:
    yield f"### {entry.name}"
    yield ""
    yield entry.meaning
    yield ""
    unit = "ns" if entry.unit is Unit.SECONDS else "" if entry.unit is Unit.NONE else entry.unit.name.lower()
    facts = [", ".join(filter(None, (entry.kind.name.lower().replace("_", " "), unit))), entry.tier.value]
    facts.append(_since(entry))
    if entry.until:
        facts.append(f"gone in {entry.until}" + _list("; see ", entry.replaced_by))
    yield f"- {'; '.join(facts)}"
    if entry.compare:
        yield f"- compare{_list(' ', entry.compare)}"
    for change in entry.changed:
        yield f"- in {change.since} its {change.what.value} changed: {change.text}"
    if entry.caveats:
        yield "- caveats: " + ", ".join(f"[{slug}](caveats.md#{slug})" for slug in entry.caveats)
    yield ""


def _since(entry: StatEntry) -> str:
    by_kernel: dict[str, list[str]] = {}
    for architecture, kernel in entry.since.items():
        by_kernel.setdefault(kernel, []).append(architecture)
    return "; ".join(f"{', '.join(names)} since {kernel}" for kernel, names in by_kernel.items())


# --- metrics ----------------------------------------------------------------------------------------------------------

_METRICS = """
Quantities that kvmscope derives from statistics. A metric of a vCPU is also evaluated for its VM and for the host: its
inputs are summed first, so a ratio is a ratio of sums. A metric with a missing input is unknown.
[library.md](library.md) describes the language of the formulas.
"""


def _metrics() -> Iterator[str]:
    for metric in load_metrics():
        yield from _metric(metric)


def _metric(metric: Metric) -> Iterator[str]:
    yield f"## {metric.name}"
    yield ""
    yield metric.help
    yield ""
    yield f"- {metric.unit.value}, of a {'VM' if metric.scope is Scope.VM else 'vCPU'}: `{metric.formula}`"
    yield f"- good: {metric.good}"
    yield f"- bad: {metric.bad}"
    if metric.column:
        yield f"- on the status screen as *{metric.title}*"
    yield ""


# --- findings ---------------------------------------------------------------------------------------------------------

_FINDINGS = """
The rules of `kvmscope doctor`, in the order of the catalogue. Rates are per second, whatever the length of a window. A
condition with a missing input never fires. A VM that appeared in a window, or whose stats were reset, starts again.
[rules-by-case.md](rules-by-case.md) lists the guests on which each rule was tested.
"""


def _findings() -> Iterator[str]:
    for rule in load_findings():
        yield from _rule(rule)


_SIMILAR = 6
_NAME = re.compile(r"[a-z0-9_.]+")


def _asked(name: str) -> str:
    return f"`{name}`" if _NAME.fullmatch(name) else name


def _rule(rule: Rule) -> Iterator[str]:
    yield f"## {rule.slug}"
    yield ""
    yield f"**{rule.severity.value}**: {rule.title}"
    yield ""
    yield rule.explanation
    yield ""
    times = "" if rule.windows == 1 else f", in {rule.windows} windows in a row"
    yield f"- fires if `{rule.when}`{times}"
    if rule.activity is not None:
        yield f"- only while `{rule.activity}`"
    if rule.clears is not None:
        yield f"- clears if `{rule.clears}`"
    yield f"- why this level: {rule.threshold}"
    if rule.cost is not None:
        yield f"- CPU time, in CPUs: `{rule.cost}`"
    if rule.lost is not None:
        yield f"- wall time that vCPUs lose, in vCPUs: `{rule.lost}`"
    if rule.evidence:
        yield "- shows " + ", ".join(f"[{name}](metrics.md#{name})" for name in rule.evidence)
    if rule.silent_if:
        yield "- not checked if one of these caveats holds: " + ", ".join(
            f"[{slug}](caveats.md#{slug})" for slug in rule.silent_if
        )
    for slug, why in rule.despite.items():
        yield f"- holds despite [{slug}](caveats.md#{slug}): {why}"
    if similar := lookalikes(rule, load_findings()):
        yield "- looks like: " + "; ".join(
            f"[{each.rule.slug}](#{each.rule.slug}), distinguished by {', '.join(map(_asked, each.decided_by))}"
            for each in similar[:_SIMILAR]
        )
    yield ""
    for remedy in rule.remedies:
        settings = "".join(f" [{name}](settings.md#{name})" for name in remedy.settings)
        yield f"- **{remedy.do}**{settings} Trade-off: {remedy.price}" + (
            " (Only on some hosts.)" if remedy.only_if else ""
        )
    yield ""


# --- reasons and caveats ----------------------------------------------------------------------------------------------

_REASONS = """
The reasons for which KVM inhibits APICv/AVIC. The BTF of a kernel says which of them it has;
[apicv.md](../explanation/apicv.md) describes how kvmscope reaches its verdict.
"""


def _reasons() -> Iterator[str]:
    for inhibit in load_inhibits().values():
        yield from _reason(inhibit)


def _reason(inhibit: Inhibit) -> Iterator[str]:
    yield f"## {inhibit.name}"
    yield ""
    yield inhibit.meaning
    yield ""
    yield f"- {inhibit.cls.value}; {', '.join(sorted(vendor.value for vendor in inhibit.vendors))}"
    yield f"- set by: {inhibit.set_by}"
    yield f"- cleared by: {inhibit.cleared_by}"
    if inhibit.witness:
        yield f"- see also{_list(' ', inhibit.witness)}"
    yield ""
    settings = ", ".join(f"[{name}](settings.md#{name})" for name in inhibit.settings)
    yield f"**{inhibit.change}**" + (f" Settings: {settings}." if settings else "")
    yield ""


_CAVEATS = """
What changes the meaning of a stat on some hosts, for some VMs or on some kernels. `kvmscope explain STAT` says which of
its caveats apply to this host.
"""


def _caveats() -> Iterator[str]:
    of: dict[str, list[str]] = {}
    for entry in load_stats():
        for slug in entry.caveats:
            of.setdefault(slug, []).append(f"`{entry.name}`")
    uncounted = {rule.caveat: rule.stats for rule in load_uncounted()}
    for slug, caveat in load_caveats().items():
        yield f"## {slug}"
        yield ""
        yield caveat.text
        yield ""
        if caveat.every is None and slug in of:
            yield "Applies to " + ", ".join(dict.fromkeys(of[slug])) + "."
            yield ""
        if slug in uncounted:
            yield (
                "Where it applies, kvmscope shows as unknown: "
                + ", ".join(f"`{stat}`" for stat in uncounted[slug])
                + "."
            )
            yield ""


# --- settings ---------------------------------------------------------------------------------------------------------

_SETTINGS = """
Settings of a VM that remedies name, and how each VMM and manager writes them. A finding shows those of the VM that it
is about, the outermost manager first, since a manager overwrites what was changed below it. A setting holds from the
next start of the VM on, unless its text says otherwise.
"""


def _settings() -> Iterator[str]:
    yield "Some managers name none of these settings:"
    yield ""
    yield from (f"- {text}." for text in load_managers().values())
    yield ""
    for setting in load_settings().values():
        yield f"## {setting.name}"
        yield ""
        yield setting.does
        yield ""
        yield "| by | how |"
        yield "|---|---|"
        for party, title in PARTIES.items():
            if party in setting.by:
                yield f"| {title} | {_cell(setting.by[party])} |"
        for party, reason in setting.cannot.items():
            yield f"| {PARTIES[party]} | no: {_cell(reason)} |"
        yield ""


# --- ports and MSRs ---------------------------------------------------------------------------------------------------

_ADDRESSES = """
What group [`accesses`](groups.md#accesses) counts by name: `port_NAME` and `msr_NAME` are its stats, and findings on
port I/O and MSRs name the most frequent ones. A number counts under the first name whose range it is in.
"""


def _addresses() -> Iterator[str]:
    for space, ranges in load_addresses().spaces.items():
        yield f"## {'Ports' if space is AddressSpace.PORT else 'MSRs'}"
        yield ""
        yield "| stat | numbers | what an access is for |"
        yield "|---|---|---|"
        for each in ranges:
            yield f"| `{space.value}_{each.name}` | {each.numbers} | {_cell(each.means)} |"
        yield ""


# --- messages ---------------------------------------------------------------------------------------------------------

_MESSAGES = """
Every text of an error, by its [slug](messages.md), and every reason of a gap. `…` stands for what is filled in: a name,
a number, or the words of the kernel or of another program. What would help follows the text, as `try:` does on the
command line. A text of `recording` follows the path of what it is about, one of `catalog` the file, the line and the
part that is wrong. A usage error may end with the nearest names.
"""


def _messages() -> Iterator[str]:
    for slug, of_slug in itertools.groupby(messages(), key=lambda message: message.slug):
        yield "## gaps" if slug == GAP else f"## {slug}"
        yield ""
        for text, variants in itertools.groupby(of_slug, key=lambda message: message.text):
            yield f"- {_code(text)}"
            yield from (f"    - try: {_code(each.remedy)}" for each in variants if each.remedy)
        yield ""


def _code(text: str) -> str:
    """A text as it is printed, on one line."""
    text = " ".join(text.split())
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _cell(text: str) -> str:
    """Text in a table of Markdown, where angle brackets are no markup."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def _list(before: str, names: Iterable[str]) -> str:
    return before + ", ".join(f"`{name}`" for name in names) if names else ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the reference pages from catalogue and code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is not up to date")
    check = parser.parse_args().check
    made = pages()
    stale = [name for name, text in made.items() if not _is(PAGES / name, text)]
    if check:
        for name in stale:
            print(f"docs/reference/{name} is not up to date; run tools/reference.py", file=sys.stderr)
        return 1 if stale else 0
    PAGES.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (PAGES / name).write_text(made[name], encoding="utf-8")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
