"""Writes the Grafana dashboards of contrib/grafana from the catalogue: ``python tools/dashboards.py [--check]``.

Plain JSON: a panel is a title, a unit and queries, whose names are those of ``kvmscope.catalog.series_names``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kvmscope.catalog.metrics import Metric, MetricUnit, load_metrics
from kvmscope.catalog.series_names import (
    HOST_APICV,
    HOST_INFO,
    VM_APICV_REASON,
    VM_APICV_STATE,
    VM_FINDING,
    VM_INFO,
    metric_family,
)
from kvmscope.schema import Scope

FOLDER: Final = Path(__file__).parent.parent / "contrib/grafana"

_UNITS: Final = {
    MetricUnit.PER_SECOND: "cps",
    MetricUnit.SHARE: "percentunit",
    MetricUnit.SECONDS: "s",
    MetricUnit.BYTES: "bytes",
}
_NAMES: Final = f"* on (instance, vm) group_left (name) {VM_INFO.sample_name}"


@dataclass(frozen=True, slots=True)
class Panel:
    """``queries``: each with its legend."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    text: str = ""
    kind: str = "timeseries"


def dashboards() -> dict[str, dict[str, Any]]:
    """Each dashboard by the name of its file."""
    return {
        "kvmscope-host.json": _dashboard("KVM host", "kvmscope-host", _host(), ()),
        "kvmscope-vm.json": _dashboard("KVM virtual machine", "kvmscope-vm", _vm(), ("vm",)),
        "kvmscope-apicv.json": _dashboard("APICv and AVIC", "kvmscope-apicv", _apicv(), ()),
        "kvmscope-fleet.json": _dashboard("KVM fleet", "kvmscope-fleet", _fleet(), ()),
    }


def _host() -> Iterator[Panel]:
    yield Panel("Can be read", (("kvmscope_up", "{{instance}}"),), kind="stat")
    yield Panel("VMs", ((f"count by (instance) ({VM_INFO.sample_name})", "{{instance}}"),), kind="stat")
    yield Panel("Findings by rule", ((f"sum by (rule, severity) ({VM_FINDING.sample_name})", "{{severity}} {{rule}}"),))
    for metric in _columns():
        query = f"topk(10, {metric_family(metric, Scope.VM).name} {_NAMES})"
        yield Panel(metric.title, ((query, "{{name}}"),), _unit(metric), metric.help)


def _vm() -> Iterator[Panel]:
    chosen = '{vm="$vm"}'
    yield Panel("Findings", ((f"{VM_FINDING.sample_name}{chosen}", "{{severity}} {{rule}}"),))
    for metric in _columns():
        yield Panel(
            metric.title, ((f"{metric_family(metric, Scope.VM).name}{chosen}", ""),), _unit(metric), metric.help
        )
    for stem, title in (("halt_wait", "Halts: waiting"), ("halt_poll_success", "Halts: polling that was worth it")):
        native = f"sum(rate(kvm_vm_{stem}_hist_nanoseconds{chosen}[$__rate_interval]))"
        classic = f"sum by (le) (rate(kvm_vm_{stem}_hist_seconds_bucket{chosen}[$__rate_interval]))"
        queries = tuple(
            (f"histogram_quantile({q}, {native}) / 1e9 or histogram_quantile({q}, {classic})", f"p{100 * q:g}")
            for q in (0.5, 0.99)
        )
        yield Panel(title, queries, "s")


def _apicv() -> Iterator[Panel]:
    yield Panel("VMs by state", ((f"count by (state) ({VM_APICV_STATE.sample_name})", "{{state}}"),))
    yield Panel(
        "Reasons", ((f"count by (reason, certainty) ({VM_APICV_REASON.sample_name})", "{{reason}} ({{certainty}})"),)
    )
    yield Panel("What the hosts have", ((f"sum by (fact) ({HOST_APICV.sample_name})", "{{fact}}"),))
    states = f"{VM_APICV_STATE.sample_name} {_NAMES}"
    yield Panel("State of each VM", ((states, "{{name}}: {{state}}"),), kind="table")


def _fleet() -> Iterator[Panel]:
    yield Panel("Hosts that can be read", (("sum(kvmscope_up)", ""),), kind="stat")
    yield Panel("VMs of each host", ((f"count by (instance) ({VM_INFO.sample_name})", "{{instance}}"),))
    kernels = f"count by (kernel, kvm_module) ({HOST_INFO.sample_name})"
    yield Panel("Kernels", ((kernels, "{{kernel}} {{kvm_module}}"),), kind="table")
    yield Panel("Findings of each host", ((f"sum by (instance) ({VM_FINDING.sample_name})", "{{instance}}"),))
    left_out = "sum by (instance) (kvmscope_series_left_out) or 0 * sum by (instance) (kvmscope_up)"
    yield Panel("Series that are left out", ((left_out, "{{instance}}"),))
    for metric in _columns():
        query = f"sum by (instance) ({metric_family(metric, Scope.VM).name})"
        yield Panel(metric.title, ((query, "{{instance}}"),), _unit(metric), metric.help)


def _columns() -> tuple[Metric, ...]:
    return tuple(metric for metric in load_metrics() if metric.column)


def _unit(metric: Metric) -> str:
    return _UNITS.get(metric.unit, "short")


def _dashboard(title: str, uid: str, panels: Iterator[Panel], variables: Sequence[str]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    choices: list[dict[str, Any]] = [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
    for name in variables:
        values = f"label_values({VM_INFO.sample_name}, {name})"
        choices.append({"name": name, "type": "query", "datasource": source, "refresh": 2, "query": values})
    return {
        "title": title,
        "uid": uid,
        "tags": ["kvm", "kvmscope"],
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": choices},
        "panels": [_panel(number, panel, source) for number, panel in enumerate(panels)],
    }


def _panel(number: int, panel: Panel, source: dict[str, str]) -> dict[str, Any]:
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.text,
        "type": panel.kind,
        "datasource": source,
        "gridPos": {"x": number % 2 * 12, "y": number // 2 * 8, "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend or "__auto", "datasource": source}
            for place, (query, legend) in enumerate(panel.queries)
        ],
    }


def main() -> int:
    wrong = []
    for name, content in dashboards().items():
        text = json.dumps(content, indent=1) + "\n"
        path = FOLDER / name
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            wrong.append(name)
    if wrong:
        sys.stderr.write(f"not as the catalogue has it: {', '.join(wrong)}; run python tools/dashboards.py\n")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
