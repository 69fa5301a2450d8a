"""How metrics are put into words."""

from __future__ import annotations

import pytest

from kvmscope.catalog.metrics import MetricUnit
from kvmscope.view.text import format_metric


@pytest.mark.parametrize(
    ("unit", "value", "text", "partial"),
    [
        (MetricUnit.PER_SECOND, 15300.0, "15.3k", "≥15.3k"),
        (MetricUnit.COUNT, 2.0, "2", "≥2"),
        (MetricUnit.CPUS, 0.5, "0.5 CPU", "≥0.5 CPU"),
        (MetricUnit.VCPUS, 0.5, "0.5 vCPU", "≥0.5 vCPU"),
        (MetricUnit.BYTES, 4096.0, "4 KiB", "≥4 KiB"),
        (MetricUnit.SHARE, 0.125, "12.5 %", "~12.5 %"),
        (MetricUnit.SECONDS, 2e-5, "20 µs", "~20 µs"),
        (MetricUnit.RATIO, 1.5, "1.5", "~1.5"),
    ],
)
def test_a_metric_is_written_in_its_unit_and_one_that_lacks_some_says_so(
    unit: MetricUnit, value: float, text: str, partial: str
) -> None:
    assert format_metric(unit, value) == text
    assert format_metric(unit, value, partial=True) == partial


@pytest.mark.parametrize("unit", MetricUnit)
def test_what_is_not_known_is_a_dash(unit: MetricUnit) -> None:
    assert format_metric(unit, None) == format_metric(unit, None, partial=True) == "–"
