"""The client against servers that answer, refuse, break and are not there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitoring import free_port
from prometheus_server import serving

from kvmscope.engines.prometheus.client import PrometheusStore, StoreAccess, StoreSample, read_answer
from kvmscope.errors import FormatError, PermissionNeeded, SourceError, Unavailable, UsageError

VECTOR = {"resultType": "vector", "result": [{"metric": {"vm": "a"}, "value": [12.5, "3"]}]}
GOOD = json.dumps({"status": "success", "data": VECTOR, "warnings": ["one store did not answer"]}).encode()


@dataclass
class ScriptedStore:
    """What a server answers, and what it was asked."""

    status: int = 200
    body: bytes = GOOD
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    forms: list[dict[str, list[str]]] = field(default_factory=list)


@contextmanager
def answering(script: ScriptedStore) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            script.paths.append(self.path)
            script.headers.append(dict(self.headers.items()))
            script.forms.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(script.status)
            self.send_header("Content-Length", str(len(script.body)))
            self.end_headers()
            self.wfile.write(script.body)

        def log_message(self, *args: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_an_answer_has_samples_and_warnings() -> None:
    script = ScriptedStore()
    with answering(script) as url:
        answer = PrometheusStore(StoreAccess(f"{url}/prometheus/")).query("up", at_s=5)
    assert answer.samples == (StoreSample({"vm": "a"}, 12.5, 3.0),)
    assert answer.warnings == ("one store did not answer",)
    assert script.paths == ["/prometheus/api/v1/query"]
    assert script.forms == [{"query": ["up"], "time": ["5.000"]}]


@pytest.mark.parametrize(
    ("access", "header"),
    [
        ({"bearer_token": "secret"}, "Bearer secret"),
        ({"username": "me", "password": "p:w"}, "Basic bWU6cDp3"),
    ],
)
def test_who_asks_is_told(access: dict[str, str], header: str) -> None:
    script = ScriptedStore()
    with answering(script) as url:
        PrometheusStore(StoreAccess(url, headers={"X-Scope-OrgID": "t"}, **access)).query("up")  # type: ignore[arg-type]
    assert script.headers[0]["Authorization"] == header
    assert script.headers[0]["X-Scope-Orgid"] == "t" or script.headers[0]["X-scope-orgid"] == "t"


def test_a_user_of_the_url_is_told_and_not_shown() -> None:
    script = ScriptedStore(status=500, body=b"no")
    with answering(script) as url, pytest.raises(Unavailable) as error:
        PrometheusStore(StoreAccess(url.replace("//", "//me:p%3Aw@"))).query("up")
    assert script.headers[0]["Authorization"] == "Basic bWU6cDp3"
    assert "p%3Aw" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        (401, PermissionNeeded, "token"),
        (403, PermissionNeeded, "token"),
        (404, Unavailable, "/api/v1"),
        (503, Unavailable, ""),
    ],
)
def test_a_refusal_says_why_and_what_would_help(status: int, kind: type[SourceError], remedy: str) -> None:
    body = json.dumps({"status": "error", "errorType": "x", "error": "not today"}).encode()
    with answering(ScriptedStore(status, body)) as url, pytest.raises(kind) as error:
        PrometheusStore(StoreAccess(url)).query("up")
    assert str(status) in str(error.value)
    assert remedy in error.value.remedy


def test_a_store_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot be reached") as error:
        PrometheusStore(StoreAccess(f"http://127.0.0.1:{free_port()}")).query("up")
    assert "curl" in error.value.remedy


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"status": "success"}',
        b'{"status": "success", "data": {"resultType": "streams", "result": []}}',
        b'{"status": "success", "data": {"resultType": "vector", "result": [{"value": [1, "x"]}]}}',
        b'{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1]}]}}',
        b'{"status": "success", "data": {"resultType": "matrix", "result": 7}}',
    ],
)
def test_a_broken_answer_is_a_format_error(body: bytes) -> None:
    with pytest.raises(FormatError):
        read_answer(body)


def body_of(result: object) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


VALUES = st.recursive(st.none() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each))


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=60) | VALUES.map(body_of))
def test_any_bytes_are_an_answer_or_a_format_error(body: bytes) -> None:
    try:
        read_answer(body)
    except FormatError as error:
        assert error.expected


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://x", "http://", "http://x:0", "http://[", ""])
def test_what_is_no_url_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="not a URL"):
        PrometheusStore(StoreAccess(url))


def test_a_file_of_certificates_that_is_none_is_named(tmp_path: Path) -> None:
    place = tmp_path / "ca.pem"
    place.write_text("none", encoding="utf-8")
    for path in (place, tmp_path / "missing"):
        with pytest.raises(SourceError, match=path.name):
            PrometheusStore(StoreAccess("https://x", ca_file=path))


def test_a_real_prometheus_takes_the_queries(tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        store = PrometheusStore(StoreAccess(url))
        assert store.query("vector(7)").samples[0].value == 7
        assert len(store.query_range("time()", begin_s=100, end_s=160, step_s=30).samples) == 3
        with pytest.raises(Unavailable, match="400"):
            store.query("sum(")
