"""VMs whose names are attacks, at every door: each reader that is not ours finds the same VMs and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from typing import Any

import pytest
from crafted import Crafted
from metric_families import parse_families
from monitoring import wait_for
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kvmscope.export.exposition import ExportOptions, expose
from kvmscope.export.otlp import write_otlp
from kvmscope.host.text import printable

parse_openmetrics: Callable[[str], Iterable[Any]] = openmetrics.text_string_to_metric_families

NAMES = (
    '<script>alert("1")</script>',
    "&lt;b&gt; \" ' ` {{7*7}} ${x} %s %d %%",
    "\x1b[2J\x1b]0;title\x07\x9b31m",
    "line\nkvm_vm_exits_total 666\r\n# EOF\n\ndata: {}\n",
    'a"} 1\n# HELP x y\\z{',
    "\u202eright\u2066\u200b\ufeff\0",
    "\udcff\udc80not UTF-8",
    "…" * 500,
)
PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"


@pytest.fixture
def evil(serve: Any, crafted: Crafted) -> Any:
    """A served host whose VMs have these names, after an interval."""
    samples = [
        crafted.make_sample(
            [crafted.vm(f"{number}{name}", [crafted.vcpu(0, {"exits": at})]) for number, name in enumerate(NAMES)],
            at_s=at,
        )
        for at in range(2)
    ]
    served = serve(samples)
    wait_for(lambda: served.monitor.last)
    return served


def labels_of_text(served: Any) -> list[str]:
    return [sample.labels["name"] for family in parse_text(served.get("/metrics").text) for sample in family.samples
            if sample.name == "kvm_vm_info"]  # fmt: skip


def labels_of_openmetrics(served: Any) -> list[str]:
    text = served.get("/metrics", accept="application/openmetrics-text;version=1.0.0").text
    parsed = list(parse_openmetrics(text))
    return [each.labels["name"] for family in parsed for each in family.samples if each.name == "kvm_vm_info"]


def labels_of_protobuf(served: Any) -> list[str]:
    families = {family.name: family for family in parse_families(served.get("/metrics", accept=PROTOBUF).body)}
    labels = [{pair.name: pair.value for pair in metric.label} for metric in families["kvm_vm_info"].metric]
    return [each["name"] for each in labels]


def labels_of_otlp(served: Any) -> list[str]:
    reading = served.monitor.read()
    body = write_otlp(expose(reading, ExportOptions()), reading.scene.machine, reading.scene.origin, now_ns=1)
    (resource,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    (info,) = (metric for metric in resource.scope_metrics[0].metrics if metric.name == "kvm.vm.info")
    points = [{each.key: each.value.string_value for each in point.attributes} for point in info.gauge.data_points]
    return [point["name"] for point in points]


@pytest.mark.parametrize("door", [labels_of_text, labels_of_openmetrics, labels_of_protobuf, labels_of_otlp])
def test_a_name_is_one_label_with_its_control_characters_written_out(
    evil: Any, door: Callable[[Any], list[str]]
) -> None:
    found = sorted(door(evil))
    assert found == sorted(printable(f"{number}{name}", max_length=128) for number, name in enumerate(NAMES))
    assert not [
        name for name in found if re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", name)
    ]


def test_a_scrape_has_no_line_that_a_name_has_made(evil: Any) -> None:
    lines = evil.get("/metrics").text.splitlines()
    assert not [line for line in lines if "666" in line and not line.startswith("kvm_vm")]
    assert len([line for line in lines if line.startswith("kvm_vm_exits_total{")]) == len(NAMES)


@pytest.mark.parametrize("path", ["vms", "status", "summary", "doctor", "apicv", "read"])
def test_every_answer_is_json_in_ascii_or_utf8_with_the_names_as_they_are(evil: Any, path: str) -> None:
    answer = evil.get(f"/api/v1/{path}")
    assert answer.status == 200
    json.loads(answer.body.decode("utf-8"))
    assert b"\x1b" not in answer.body
    assert b"\n" not in answer.body.strip()


class Tags(HTMLParser):
    """Counts elements, and keeps the attributes that are scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_the_page_has_no_element_that_a_name_has_made(evil: Any, serve: Any, crafted: Crafted) -> None:
    found = []
    for served in (evil, serve()):
        tags = Tags()
        tags.feed(served.get("/").text)
        found.append((tags.scripts, tags.handlers))
    assert found[0] == found[1]
    assert "\x1b" not in evil.get("/").text


def test_an_event_is_one_line_whatever_a_name_has(evil: Any) -> None:
    summary = evil.get("/api/v1/summary").body
    assert b"\n" not in summary.strip()
    assert b"\r" not in summary
