"""The page as HTML that contains the numbers of the last interval: readable at the first paint, and without scripts.

Rule: every text goes through ``html.escape``; names of VMs are untrusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from ...catalog.metrics import Metric, MetricUnit
from ...host.text import printable
from ...units import format_count, format_cpus, format_estimate, format_seconds, format_share, rfc3339, time_of_day
from ...view.summary import HostSummary, SummaryMetrics, SummaryRule, SummaryVm, shown_metrics
from ...view.text import counted

_UNKNOWN: Final = "–"

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every response: they forbid to load, run or frame anything of another origin."""


def render_page(summary: HostSummary | None, *, is_live: bool = True) -> str:
    """The whole page. ``summary``: None before the end of the first interval. ``is_live``: false for a recording."""
    return "\n".join(_page(summary, is_live)) + "\n"


def _page(summary: HostSummary | None, is_live: bool) -> Iterator[str]:
    host = escape(_shown(summary.host.name if summary else None))
    mode = "live" if is_live else "recorded"
    yield f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>kvmscope: {host}</title>
<link rel="icon" href="assets/icon.svg">
<link rel="stylesheet" href="assets/uPlot.min.css">
<link rel="stylesheet" href="assets/page.css">
<script defer src="assets/uPlot.iife.min.js"></script>
<script type="module" src="assets/page.js"></script>
</head>
<body data-mode="{mode}">
<a class="skip" href="#main">Skip to content</a>
<header>
<h1><a href="#" id="host-name">{host}</a></h1>
<span class="soft">{escape(_facts(summary))}</span>
<span id="counts">{_counts(summary)}</span>
<span class="push"><strong id="mode">{mode.capitalize()}</strong> <span id="time-word">as of</span>
<time id="time">{_time(summary, is_live)}</time> UTC</span>
<button id="theme" type="button">Light or dark</button>
</header>
{_TIMEBAR}
<nav id="path" aria-label="Where you are" hidden><ol id="steps"></ol></nav>
<main id="main" tabindex="-1">
<p id="note" class="note" role="status" hidden></p>
<noscript><p class="note">Without JavaScript this page shows the numbers of the moment it was loaded.</p></noscript>"""
    if summary is not None and summary.simulated:
        yield '<p class="note">Simulated: no kernel stands behind these numbers.</p>'
    yield '<div id="host-view">\n<h2>Findings</h2>\n<div id="rules">'
    yield from _rules(summary.rules if summary else ())
    yield """</div>\n<h2>VMs</h2>
<p class="filter"><label>Find a VM <input id="vm-filter" type="search" autocomplete="off" spellcheck="false"></label>
<span id="vm-found"></span></p>"""
    yield from _vm_table(summary)
    yield '<h2>All VMs together, over an hour</h2>\n<div id="charts" class="charts">'
    yield from (
        f'<section class="chart"><h3>{escape(metric.title)}</h3><div class="plot"></div></section>'
        for metric in shown_metrics()
    )
    yield f"</div>\n{_VIEWS}"
    if is_live:
        yield '<footer class="soft"><p><a href="metrics">Metrics</a> ·'
    else:
        yield '<footer class="soft"><p>'
    yield '<a href="api/v1/openapi.json">API</a> · <a href="-/healthy">Health</a></p></footer>\n</body>\n</html>'


_TIMEBAR: Final = """<section id="timebar" aria-label="Time that is shown" hidden>
<label id="host-choice" hidden>Host <select id="hosts"></select></label>
<div class="buttons"><button id="back-far" type="button">−10</button><button id="back" type="button">−1</button>
<button id="play" type="button" aria-pressed="false">Play</button><button id="on" type="button">+1</button>
<button id="on-far" type="button">+10</button><button id="go-live" type="button" hidden>Live</button></div>
<div class="line"><svg viewBox="0 0 1000 6" preserveAspectRatio="none" aria-hidden="true"><g id="stretches"></g></svg>
<input id="seek" type="range" min="0" max="1" step="1" aria-label="Time">
<p class="soft small"><span id="timeline-begin"></span><span id="timeline-end"></span></p></div>
<form id="go-to">
<label>Go to <input id="go-time" placeholder="14:05 or -5m" autocomplete="off" size="12"></label></form>
</section>"""

_VIEWS: Final = """<h2>Histograms of all VMs together</h2>
<div id="host-heat" class="charts"></div>
</div>
<div id="subject-view" hidden>
<h2 id="subject-name" tabindex="-1">VM</h2>
<p id="subject-facts" class="soft"></p>
<h3>Findings</h3>
<div id="subject-findings"></div>
<div id="subject-charts-part">
<h3>Metrics over an hour</h3>
<div id="subject-charts" class="charts"></div>
</div>
<div id="vcpus-part">
<h3>vCPUs</h3>
<div id="vcpus"></div>
</div>
<h3>Interrupt acceleration</h3>
<div id="apicv" class="tree"></div>
<h3>Histograms over an hour</h3>
<div id="heat" class="charts"></div>
<h3>Metrics and statistics</h3>
<p class="filter"><label>Find one <input id="stat-filter" type="search" autocomplete="off" spellcheck="false"></label>
<label><input id="no-zeros" type="checkbox"> without zeros</label> <span id="stat-note" class="soft"></span></p>
<div class="scroll" tabindex="0" role="region" aria-label="Metrics and statistics"><table>
<caption class="skip">Metrics and statistics, now</caption>
<thead><tr><th scope="col">name</th><th scope="col">now</th><th scope="col" class="left">kind</th>
<th scope="col" class="left">stability</th><th scope="col" class="left">by</th></tr></thead>
<tbody id="stat-rows"></tbody></table></div>
</div>
<div id="stat-view" hidden>
<h2 id="stat-name" tabindex="-1">Statistic</h2>
<p id="stat-now"></p>
<div id="stat-chart" class="charts"></div>
<div id="histogram-part">
<div id="stat-heat" class="charts"></div>
<h3>Since creation</h3>
<div id="quantiles"></div>
<div id="buckets"></div>
</div>
<h3>What it means</h3>
<div id="meaning"></div>
</div>
</main>"""


def _rules(rules: Sequence[SummaryRule]) -> Iterator[str]:
    if not rules:
        yield "<p>No rule found a problem.</p>"
    for rule in rules:
        cost = "" if rule.cost_cpus is None else f" · about {format_estimate(rule.cost_cpus)} CPU"
        severity = escape(rule.severity.value)
        yield (
            f'<div class="rule {severity}"><p><span class="level">{severity}</span> {escape(rule.title)} '
            f'<span class="soft">{escape(rule.rule)} · {rule.findings} found{cost}</span></p></div>'
        )


def _vm_table(summary: HostSummary | None) -> Iterator[str]:
    metrics = shown_metrics()
    yield (
        '<div class="scroll" id="vms" tabindex="0" role="region" aria-label="VMs"><table><caption class="skip">VMs, '
        'those with the most exits first</caption><thead><tr><th scope="col">VM</th>'
        '<th scope="col" class="left">VMM</th>'
        '<th scope="col">vCPUs</th><th scope="col" class="left">APICv</th>'
    )
    for metric in metrics:
        yield (
            f'<th scope="col"><button type="button" data-metric="{escape(metric.name)}" title="{escape(metric.help)}">'
            f"{escape(metric.title)}</button></th>"
        )
    yield '<th scope="col">findings</th></tr></thead><tbody id="vm-rows">'
    yield from (_vm_row(vm, metrics) for vm in (summary.vms if summary else ()))
    yield '</tbody><tfoot><tr id="vm-total">'
    if summary is not None:
        cells = _metric_cells(summary.total, metrics)
        yield f"<td>total</td><td></td><td>{summary.vcpus_total}</td><td></td>{cells}<td></td>"
    yield '</tr></tfoot></table></div><p id="vm-note" class="soft"></p>'


def _vm_row(vm: SummaryVm, metrics: Sequence[Metric]) -> str:
    vmm = _shown(vm.vmm) if vm.silent_s is None else "not answering"
    state = escape(vm.apicv.value)
    return (
        f'<tr><td><a href="#vm={vm.id}">{escape(printable(vm.name))}</a></td><td class="left">{escape(vmm)}</td>'
        f'<td>{vm.vcpus}</td><td class="left {state}">{state}</td>{_metric_cells(vm.metrics, metrics)}'
        f"<td>{vm.findings or ''}</td></tr>"
    )


def _metric_cells(values: SummaryMetrics, metrics: Sequence[Metric]) -> str:
    return "".join(f"<td>{escape(_amount(values[metric.name], metric.unit))}</td>" for metric in metrics)


def _amount(value: float | None, unit: MetricUnit) -> str:
    writers = {MetricUnit.SHARE: format_share, MetricUnit.SECONDS: format_seconds, MetricUnit.CPUS: format_cpus}
    return writers.get(unit, format_count)(value)


def _facts(summary: HostSummary | None) -> str:
    if summary is None:
        return "no interval has passed yet"
    host = summary.host
    kernel = None if host.kernel is None else f"Linux {host.kernel}"
    parts = (kernel, host.kvm_module, f"by {summary.source.name}")
    return " · ".join(printable(part) for part in parts if part)


def _counts(summary: HostSummary | None) -> str:
    return "" if summary is None else f"{counted(summary.vms_total, 'VM')}, {counted(summary.vcpus_total, 'vCPU')}"


def _time(summary: HostSummary | None, is_live: bool) -> str:
    if summary is None:
        return _UNKNOWN
    ns = summary.time.ns
    return time_of_day(ns) if is_live else rfc3339(ns, has_ms=False)[:-1].replace("T", " ")


def _shown(text: str | None) -> str:
    return _UNKNOWN if text is None else printable(text)
