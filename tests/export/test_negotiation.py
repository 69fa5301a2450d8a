"""Formats by Accept header, as Prometheus and browsers send them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.export.negotiation import FORMATS, OPENMETRICS, PROMETHEUS, PROTOBUF, MetricsFormat, negotiate

# As Prometheus 2.42 sends it with --enable-feature=native-histograms, without, and as 3.x sends it.
NATIVE = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PLAIN = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
THREE = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (NATIVE, PROTOBUF),
        (PLAIN, OPENMETRICS),
        (THREE, OPENMETRICS),
        ("", PROMETHEUS),
        ("*/*", PROMETHEUS),
        ("text/html,application/xhtml+xml,*/*;q=0.8", PROMETHEUS),
        ("text/plain", PROMETHEUS),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;version=9.0.0", PROMETHEUS),
        ("application/vnd.google.protobuf;encoding=text", PROMETHEUS),
        ("application/openmetrics-text;q=0,text/plain", PROMETHEUS),
    ],
)
def test_a_client_gets_the_format_that_it_likes_best(accept: str, form: MetricsFormat) -> None:
    assert negotiate(accept) is form


@given(st.text() | st.from_regex(r"[a-z/*;=q0-9., ]*", fullmatch=True))
def test_any_header_gets_some_format(accept: str) -> None:
    assert negotiate(accept) in FORMATS
