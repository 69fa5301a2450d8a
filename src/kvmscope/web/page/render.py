"""The page as HTML, with the numbers of the last interval in it: readable at its first paint, and without a script.

Rule: every text goes through ``html.escape``; names of VMs are other people's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from ...catalog.metrics import Metric, MetricUnit
from ...host.text import printable
from ...units import format_count, format_cpus, format_estimate, format_seconds, format_share, time_of_day
from ...view.summary import HostSummary, SummaryMetrics, SummaryRule, SummaryVm, shown_metrics

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
"""Of every answer: nothing from elsewhere is loaded, run or framed."""


def render_page(summary: HostSummary | None, *, is_live: bool = True) -> str:
    """The whole page; ``summary``: None before the first interval has passed."""
    return "\n".join(_page(summary)) + "\n"


def _page(summary: HostSummary | None) -> Iterator[str]:
    host = escape(_shown(summary.host.name if summary else None))
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
<script defer src="assets/page.js"></script>
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header>
<h1><a href="#">{host}</a></h1>
<span class="soft">{escape(_facts(summary))}</span>
<span id="counts">{_counts(summary)}</span>
<span class="push soft">as of <time id="time">{_time(summary)}</time></span>
<button id="theme" type="button">Light or dark</button>
</header>
<main id="main">
<p id="note" class="note" role="status" hidden></p>
<noscript><p class="note">Without JavaScript this page shows the numbers of the moment it was loaded.</p></noscript>"""
    if summary is not None and summary.simulated:
        yield '<p class="note">Simulated: no kernel stands behind these numbers.</p>'
    yield '<div id="host-view">\n<h2>Findings</h2>\n<div id="rules">'
    yield from _rules(summary.rules if summary else ())
    yield "</div>\n<h2>VMs</h2>"
    yield from _vm_table(summary)
    yield '<h2>Last hour</h2>\n<div id="charts" class="charts">'
    yield from (f'<section class="chart"><h3>{escape(metric.title)}</h3></section>' for metric in shown_metrics())
    yield "</div>"
    yield """</div>
<div id="vm-view" hidden>
<p><a href="#">All VMs</a></p>
<h2 id="vm-name" tabindex="-1"></h2>
<p id="vm-facts" class="soft"></p>
<h2>Last hour of this VM</h2>
<div id="vm-charts" class="charts"></div>
<h2>vCPUs</h2>
<div id="vcpus"></div>
<h2>Interrupt acceleration</h2>
<div id="apicv" class="tree"></div>
<h2>Histograms</h2>
<div id="heat" class="charts"></div>
</div>
</main>
<footer class="soft"><p><a href="metrics">Metrics</a> · <a href="api/v1/openapi.json">API</a> ·
<a href="-/healthy">Health</a></p></footer>
</body>
</html>"""


def _rules(rules: Sequence[SummaryRule]) -> Iterator[str]:
    if not rules:
        yield "<p>Nothing is wrong that a rule knows of.</p>"
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
    return "" if summary is None else f"{summary.vms_total} VMs, {summary.vcpus_total} vCPUs"


def _time(summary: HostSummary | None) -> str:
    return _UNKNOWN if summary is None else escape(time_of_day(summary.time.ns))


def _shown(text: str | None) -> str:
    return _UNKNOWN if text is None else printable(text)
