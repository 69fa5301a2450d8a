"""``/metrics`` over HTTP: what is read for a scrape, and what becomes of one that cannot be read."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from crafted import Crafted
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kvmscope.errors import Unavailable
from kvmscope.sample import Sample

Values = dict[tuple[str, ...], float]


def values(text: str, name: str) -> Values:
    found = (sample for family in parse_text(text) for sample in family.samples)
    return {tuple(sample.labels.values()): sample.value for sample in found if sample.name == name}


def test_each_scrape_reads_the_host(serve: Any, crafted: Crafted) -> None:
    running = serve([crafted.before, crafted.middle, crafted.after])
    assert len(values(running.get("/metrics").text, "kvm_vm_info")) == 4
    second = running.get("/metrics").text
    assert sorted(values(second, "kvm_vm_exits_total").values()) == [0, 5, 507, 41_700]


def test_a_vm_that_has_ended_is_gone_at_the_next_scrape(serve: Any, crafted: Crafted) -> None:
    running = serve([crafted.before, crafted.before, crafted.after])
    names = [{labels[2] for labels in values(running.get("/metrics").text, "kvm_vm_info")} for _ in range(2)]
    assert names[0] - names[1] == {"gone"}


def test_the_format_is_that_of_the_accept_header(serve: Any) -> None:
    running = serve()
    assert running.get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")
    openmetrics = running.get("/metrics", accept="application/openmetrics-text;version=1.0.0")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.text.endswith("# EOF\n")
    accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
    assert "protobuf" in running.get("/metrics", accept=accept).headers["content-type"]


class FailingSource:
    """A source that fails when it is told to."""

    name = "test"
    schemas = ()

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.is_broken = False

    def read(self) -> Sample:
        if self.is_broken:
            raise Unavailable("the source is gone")
        return self.sample

    def close(self) -> None:
        pass


def test_a_host_that_cannot_be_read_is_down_and_has_no_numbers(serve: Any, crafted: Crafted) -> None:
    source = FailingSource(crafted.after)
    running = serve(source=source)
    source.is_broken = True
    answer = running.get("/metrics")
    assert answer.status == 200
    assert values(answer.text, "kvmscope_up") == {(): 0}
    assert "kvm_vm" not in answer.text
    source.is_broken = False
    assert values(running.get("/metrics").text, "kvmscope_up") == {(): 1}


def test_two_scrapers_at_once_both_get_all(serve: Any) -> None:
    running = serve()
    with ThreadPoolExecutor(2) as pool:
        bodies = list(pool.map(lambda _: running.get("/metrics").text, range(20)))
    assert {body.count("\nkvm_vm_exits_total{") for body in bodies} == {4}


class WaitingSource(FailingSource):
    """A source whose reads wait."""

    def __init__(self, sample: Sample) -> None:
        super().__init__(sample)
        self.go_on = threading.Event()
        self.go_on.set()

    def read(self) -> Sample:
        self.go_on.wait(20)
        return self.sample


def test_a_source_that_hangs_does_not_take_the_server_along(serve: Any, crafted: Crafted) -> None:
    source = WaitingSource(crafted.after)
    running = serve(source=source)
    source.go_on.clear()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(running.get, "/metrics") for _ in range(6)]
        try:
            assert running.get("/-/healthy").status == 200
        finally:
            source.go_on.set()
        statuses = sorted(each.result().status for each in waiting)
    assert set(statuses) <= {200, 503}
    assert statuses[0] == 200


def test_scrapers_that_hang_up_take_no_slot_along(serve: Any, crafted: Crafted) -> None:
    source = WaitingSource(crafted.after)
    running = serve(source=source)
    source.go_on.clear()
    with ExitStack() as clients:
        for _ in range(8):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", running.port), 20))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        assert running.get("/-/healthy").status == 200, "their requests were there before this one"
    source.go_on.set()
    deadline = time.monotonic() + 20
    while running.get("/metrics").status != 200:
        assert time.monotonic() < deadline
    assert [running.get("/metrics").status for _ in range(8)] == [200] * 8


@pytest.mark.parametrize(
    ("wanted", "is_packed"),
    [("gzip", True), ("br;q=1.0, gzip;q=0.8, *;q=0.1", True), ("*", True), ("", False), ("gzip;q=0", False)],
)
def test_who_asks_for_gzip_gets_it(serve: Any, wanted: str, is_packed: bool) -> None:
    running = serve()
    plain, answer = running.get("/metrics"), running.get("/metrics", accept_encoding=wanted)
    assert ("content-encoding" in answer.headers) == is_packed
    assert answer.headers["vary"] == "Accept-Encoding"
    text = gzip.decompress(answer.body) if is_packed else answer.body
    assert values(text.decode(), "kvm_vm_exits_total") == values(plain.text, "kvm_vm_exits_total")
    assert not is_packed or len(answer.body) < len(text) / 3


def test_only_reading_is_possible(serve: Any) -> None:
    running = serve()
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert running.get("/metrics", method).status == 405
    assert running.get("/metrics", "HEAD").status == 200
    assert running.get("/nothing").status == 404
