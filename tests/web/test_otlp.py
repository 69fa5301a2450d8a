"""OTLP: what a collector receives has the numbers of the scrape, read by OpenTelemetry's own messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from crafted import Crafted
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from kvmscope.errors import UsageError
from kvmscope.export.exposition import ExportOptions
from kvmscope.export.stats import Detail
from kvmscope.web.server.otlp_push import OtlpPusher, collector_url


@pytest.fixture
def collector() -> Iterator[tuple[str, list[ExportMetricsServiceRequest]]]:
    """A URL, and what was posted to it."""
    received: list[ExportMetricsServiceRequest] = []

    class CollectorHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/x-protobuf"
            received.append(ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - its name in the base class
            pass

    with HTTPServer(("127.0.0.1", 0), CollectorHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", received
        server.shutdown()


def test_a_collector_receives_the_last_counts_with_the_host_as_resource(
    serve: Any, crafted: Crafted, collector: tuple[str, list[ExportMetricsServiceRequest]]
) -> None:
    url, received = collector
    running = serve([crafted.before, crafted.after])
    OtlpPusher(running.monitor, ExportOptions(Detail.FULL), collector_url(url)).push()
    (resource,) = received[0].resource_metrics
    assert {each.key: each.value.string_value for each in resource.resource.attributes}["host.name"] == "host-7"
    metrics = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    exits = metrics["kvm.vm.exits"].sum
    assert (exits.is_monotonic, exits.aggregation_temporality) == (True, 2)
    assert sorted(point.as_int for point in exits.data_points) == [0, 5, 507, 41_700]
    assert metrics["kvm.vm.halt_poll_fail"].unit == "s"
    polled = [point.as_double for point in metrics["kvm.vm.halt_poll_fail"].sum.data_points]
    assert max(polled) == 0.05


def test_a_log_histogram_is_exponential_in_nanoseconds(
    serve: Any, crafted: Crafted, collector: tuple[str, list[ExportMetricsServiceRequest]]
) -> None:
    url, received = collector
    running = serve([crafted.after, crafted.after])
    OtlpPusher(running.monitor, ExportOptions(), collector_url(url)).push()
    metrics = {metric.name: metric for metric in received[0].resource_metrics[0].scope_metrics[0].metrics}
    waits = metrics["kvm.vm.halt_wait_hist"]
    assert waits.unit == "ns"
    point = max(waits.exponential_histogram.data_points, key=lambda each: each.count)
    assert (point.scale, point.positive.offset, point.count) == (0, 0, 1503 + 907 + 92 + 1)
    # Bucket 20 of KVM is [2**19, 2**20) ns, and index 19 is (2**19, 2**20].
    assert point.positive.bucket_counts[19] == 1504
    assert not point.HasField("sum"), "this kernel has no sum of it"
    sizes = metrics["kvm.vm.disk_read_size"].histogram.data_points[0]
    assert list(sizes.bucket_counts) == [3, 0, 0, 9]


def test_a_collector_that_is_not_there_is_an_error_and_no_end(serve: Any) -> None:
    pusher = OtlpPusher(serve().monitor, ExportOptions(), "http://127.0.0.1:9/v1/metrics")
    with pytest.raises(OSError, match="refused"):
        pusher.push()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://a:4318", "http://a:4318/v1/metrics"),
        ("https://a/", "https://a/v1/metrics"),
        ("http://a/otlp/v1/metrics", "http://a/otlp/v1/metrics"),
    ],
)
def test_the_path_of_metrics_is_added_where_there_is_none(text: str, url: str) -> None:
    assert collector_url(text) == url


@pytest.mark.parametrize("text", ["", "a:4318", "file:///etc/passwd", "http://", "http://a:x", "ftp://a"])
def test_what_is_not_a_url_of_http_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        collector_url(text)
