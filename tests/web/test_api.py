"""The API: views with their schemas, events, and what is refused."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from crafted import Crafted
from json_schemas import closed

from kvmscope.scene import Scene, VmIdentity
from kvmscope.view.heat import HeatListView
from kvmscope.view.histories import HistoryView, MeasurandListView, MetricTableView
from kvmscope.view.jsonout import dump, to_value
from kvmscope.view.schemas import json_schema, undescribed
from kvmscope.view.summary import HostSummary, host_summary
from kvmscope.view.timeline import TimelineView
from kvmscope.view.watch import Watch
from kvmscope.web.server.answers import ANSWERS, PREFIX, ApiAnswer, ProblemView

DEADLINE_S = 20.0
QUERIES = {
    "/hist": "?vm=web-1&stat=halt_wait_hist",
    "/history": "?metric=exits_per_s",
    "/doctor": "?vm=web-1",
    "/apicv": "?what_if=true",
    "/stats": "?vm=web-1/0",
    "/explain": "?name=halt_wait_hist",
    "/heat": "?vm=web-1",
}


@pytest.fixture
def watched(serve: Any, crafted: Crafted) -> Any:
    """A server after an interval."""
    later = [
        replace(crafted.after, taken_ns=crafted.after.taken_ns + each, monotonic_ns=crafted.after.monotonic_ns + each)
        for each in range(0, 600 * 10**9, 10**9)
    ]
    running = serve([crafted.before, *later], interval_s=0.05)
    deadline = time.monotonic() + DEADLINE_S
    while running.monitor.last is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return running


def errors(view: Any, value: Any) -> list[str]:
    jsonschema = pytest.importorskip("jsonschema")
    schema = closed(json_schema(view))
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.path)
def test_each_answer_fits_the_schema_of_its_view(watched: Any, answer: ApiAnswer) -> None:
    found = watched.get(PREFIX + answer.path + QUERIES.get(answer.path, ""))
    assert (found.status, found.headers["content-type"]) == (200, "application/json"), found.text
    assert errors(answer.view, json.loads(found.body)) == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/status?vm=nobody", 404),
        ("/hist", 400),
        ("/hist?vm=web-1&stat=nothing", 404),
        ("/history?metric=pf_taken", 404),
        ("/status?vmm=web-1", 400),
        ("/status?vm=", 400),
        ("/status?vm=web-1&vm=web-1", 400),
        ("/status?vm=%00%1b%ff", 404),
        ("/read?stat=%F0%9F%92%A9", 404),
    ],
)
def test_what_is_wrong_is_a_problem_in_json(watched: Any, path: str, status: int) -> None:
    found = watched.get(PREFIX + path)
    assert found.status == status
    assert errors(ProblemView, json.loads(found.body)) == []


def test_before_the_first_interval_there_is_an_answer_that_says_so(serve: Any) -> None:
    found = serve(interval_s=3600.0).get(PREFIX + "/summary")
    assert found.status in (200, 503)


def test_the_description_names_each_path_and_resolves(watched: Any) -> None:
    document = json.loads(watched.get(f"{PREFIX}/openapi.json").body)
    assert set(document["paths"]) == {PREFIX + answer.path for answer in ANSWERS} | {f"{PREFIX}/events"}
    parts = document["components"]["schemas"]
    references = [text for text in json.dumps(document).split('"') if text.startswith("#/")]
    assert references
    assert {text.removeprefix("#/components/schemas/") for text in references} <= set(parts)


def test_events_bring_the_summary_of_each_interval(watched: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", watched.port, timeout=DEADLINE_S)
    with ExitStack() as stack:
        stack.callback(connection.close)
        connection.request("GET", f"{PREFIX}/events")
        answer = connection.getresponse()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        found: list[Any] = []
        while len(found) < 2:
            line = answer.readline()
            if line.startswith(b"data: "):
                found.append(json.loads(line.removeprefix(b"data: ")))
    assert errors(HostSummary, found[0]) == []


def test_history_grows_by_an_interval_and_ends_with_the_vm(watched: Any) -> None:
    def points(query: str) -> list[float | None]:
        return list(json.loads(watched.get(f"{PREFIX}/history?metric=exits_per_s{query}").body)["values"])

    deadline = time.monotonic() + DEADLINE_S
    while not any(value is not None for value in points("")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(points("&vm=web-1")) <= len(points(""))


@pytest.mark.parametrize(
    "view", [HostSummary, HistoryView, HeatListView, MeasurandListView, MetricTableView, TimelineView, ProblemView]
)
def test_every_field_of_a_view_says_what_it_is(view: Any) -> None:
    assert list(undescribed(view)) == []


def test_a_name_with_markup_is_text_in_json_and_escaped_on_the_page(serve: Any, crafted: Crafted) -> None:
    evil = '<script>alert("1")</script>\x1b[31m\n&'
    samples = [
        crafted.make_sample([crafted.vm(evil, [crafted.vcpu(0, {"exits": second})])], at_s=second)
        for second in range(3)
    ]
    running = serve(samples, interval_s=0.05)
    deadline = time.monotonic() + DEADLINE_S
    while running.monitor.last is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert evil in {vm["name"] for vm in json.loads(running.get(f"{PREFIX}/summary").body)["vms"]}
    page = running.get("/").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "\x1b" not in page


def test_the_summary_does_not_grow_with_the_host(crafted: Crafted) -> None:
    watch, view = Watch(), None
    for second in range(3):
        vms = [
            crafted.vm(f"{number:04}-a-vm-with-a-name", [crafted.vcpu(0, {"exits": second * number * 1234567})])
            for number in range(1000)
        ]
        sample = crafted.make_sample(vms, at_s=second)
        names = tuple(VmIdentity(vm.name, None) for vm in vms)
        view = watch.add(Scene(sample, names, crafted.machine, {}))
    assert view is not None
    assert len(dump(to_value(host_summary(view)), one_line=True)) <= 20_000


def test_more_requests_than_are_answered_at_once_wait_and_none_is_refused(watched: Any) -> None:
    """As of pages that open at once."""
    with ThreadPoolExecutor(48) as pool:
        found = list(pool.map(watched.get, [f"{PREFIX}/histories"] * 96))
    assert {answer.status for answer in found} == {200}
