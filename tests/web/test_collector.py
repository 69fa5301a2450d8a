"""OTLP to receivers that are not ours: oteltap, and the collector rotel, with what it passes on to the next one."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.resources import files
from typing import Any

import pytest
from crafted import Crafted
from monitoring import free_port, running, wait_for
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kvmscope.export.exposition import ExportOptions
from kvmscope.web.server.otlp_push import OtlpPusher, collector_url

DEADLINE_S = 30.0
LAST = "kvmscope.interval_age"
"""The metric that is sent after all others."""

Metrics = dict[str, Any]
Send = Callable[[Callable[[str], None]], Metrics]
"""Calls a function with the URL of a receiver, and gives what it received."""


def through_oteltap(push: Callable[[str], None]) -> Metrics:
    oteltap = pytest.importorskip("oteltap")
    port = free_port()
    found: Metrics = {}

    def is_last(metric: Any) -> bool:
        found[metric.name] = metric
        return bool(metric.name == LAST)

    async def receive() -> None:
        settings = oteltap.OtelTapHttpProtobufReceiverSettings(http_port=port)
        async with oteltap.OtelTapHttpProtobufReceiver(settings) as receiver:
            arriving = asyncio.ensure_future(receiver.await_metric(is_last, DEADLINE_S))
            await asyncio.sleep(0)  # what arrives before somebody waits is not kept
            await asyncio.to_thread(push, f"http://127.0.0.1:{port}")
            await arriving

    asyncio.run(receive())
    return found


def through_rotel(push: Callable[[str], None]) -> Metrics:
    rotel = pytest.importorskip("rotel")
    port = free_port()
    with next_receiver() as (behind, received):
        command = [
            str(files(rotel) / "rotel-agent"),
            "start",
            f"--otlp-http-endpoint=127.0.0.1:{port}",
            f"--otlp-grpc-endpoint=127.0.0.1:{free_port()}",
            "--exporter=otlp",
            "--otlp-exporter-protocol=http",
            f"--otlp-exporter-endpoint=http://127.0.0.1:{behind}",
        ]
        with running(command, f"http://127.0.0.1:{port}/", any_answer=True):
            push(f"http://127.0.0.1:{port}")
            wait_for(lambda: LAST in received)
    return received


@contextmanager
def next_receiver() -> Iterator[tuple[int, Metrics]]:
    """A port, and the metrics that are posted to it in any number of requests."""
    received: Metrics = {}

    class ReceivingHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = ExportMetricsServiceRequest.FromString(
                gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
            )
            for resource in request.resource_metrics:
                received.update({metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics})
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - its name in the base class
            pass

    with HTTPServer(("127.0.0.1", 0), ReceivingHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], received
        server.shutdown()


@pytest.fixture(params=[through_oteltap, through_rotel])
def received(request: pytest.FixtureRequest, serve: Any, crafted: Crafted) -> tuple[Metrics, list[Any]]:
    """What was pushed, as it arrived, and the families of a scrape of the same host."""
    send: Send = request.param
    served = serve([crafted.before, crafted.after])
    wait_for(lambda: served.monitor.last)
    arrived = send(lambda url: OtlpPusher(served.monitor, ExportOptions(), collector_url(url)).push())
    return arrived, list(parse_text(served.get("/metrics").text))


def test_totals_that_arrive_are_those_of_the_last_count(received: tuple[Metrics, list[Any]]) -> None:
    arrived, families = received
    sums = {
        name: sorted(point.as_int or point.as_double for point in metric.sum.data_points)
        for name, metric in arrived.items()
        if metric.WhichOneof("data") == "sum"
    }
    counters = {
        family.name: sorted(sample.value for sample in family.samples)
        for family in families
        if family.type == "counter"
    }
    assert len(sums) == len(counters) > 10
    assert sums["kvm.vm.exits"] == counters["kvm_vm_exits"] == [0, 5, 507, 41_700]
    assert sorted(sums.values()) == sorted(counters.values())


def test_histograms_arrive_with_every_count(received: tuple[Metrics, list[Any]]) -> None:
    arrived, families = received
    points = arrived["kvm.vm.halt_wait_hist"].exponential_histogram.data_points
    samples = [sample for family in families for sample in family.samples]
    counts = [sample.value for sample in samples if sample.name == "kvm_vm_halt_wait_hist_seconds_count"]
    assert sorted(point.count for point in points) == sorted(counts)
    assert max(counts) == 1503 + 907 + 92 + 1
    for point in points:
        assert point.zero_count + sum(point.positive.bucket_counts) == point.count
