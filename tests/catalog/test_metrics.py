"""The metrics file: whole, and strict about what it does not know."""

from __future__ import annotations

import pytest

from kvmscope.catalog.metrics import Form, Metric, MetricUnit, load_metrics, parse_metrics
from kvmscope.schema import Scope

ENTRY = """
[[metric]]
name = "exits_per_s"
title = "exits/s"
unit = "per-second"
scope = "vcpu"
stats = [["exits"], ["sum_exits"]]
form = "rate"
help = "How often."
"""


def test_a_metric_is_read_as_it_stands() -> None:
    assert parse_metrics(ENTRY) == (
        Metric(
            name="exits_per_s",
            title="exits/s",
            unit=MetricUnit.PER_SECOND,
            provider="kvm",
            scope=Scope.VCPU,
            stats=(("exits",), ("sum_exits",)),
            form=Form.RATE,
            help="How often.",
        ),
    )


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        (ENTRY.replace('title = "exits/s"', ""), "missing: title"),
        (ENTRY + 'colour = "red"', "no such field: colour"),
        (ENTRY.replace('"rate"', '"guess"'), "guess"),
        (ENTRY.replace('"vcpu"', '"host"'), "host"),
        (ENTRY + ENTRY, "twice"),
    ],
)
def test_a_spoiled_file_is_refused(spoiled: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_metrics(spoiled)


@pytest.mark.parametrize("metric", load_metrics(), ids=lambda metric: metric.name)
def test_every_metric_has_a_head_that_fits_and_help(metric: Metric) -> None:
    assert 0 < len(metric.title) <= 10
    assert metric.help.endswith((".", "only)."))
    assert metric.stats
    assert all(metric.stats)


@pytest.mark.parametrize("metric", load_metrics(), ids=lambda metric: metric.name)
def test_units_fit_forms(metric: Metric) -> None:
    assert (metric.form is Form.SECONDS_PER_SECOND) == (metric.unit is MetricUnit.CPUS)
    assert (metric.form is Form.RATE) == (metric.unit is MetricUnit.PER_SECOND)
