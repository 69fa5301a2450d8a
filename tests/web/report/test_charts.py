"""Coordinates of charts: gaps where nothing is known, axes that hold all values, cells for each count."""

from __future__ import annotations

import re

from kvmscope.view.heat import HeatColumn
from kvmscope.web.report.charts import LEFT, RIGHT, SHADES, WIDTH, bar, heat_chart, line_chart


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_a_line_goes_from_the_left_to_the_right_and_up_for_more() -> None:
    chart = line_chart([0.0, 50.0, 100.0], height=120)
    assert chart is not None
    found = points(chart.line)
    assert [x for x, _ in found] == [LEFT, LEFT + (WIDTH - LEFT - RIGHT) / 2, WIDTH - RIGHT]
    assert [y for _, y in found] == sorted((y for _, y in found), reverse=True)
    assert chart.top == 100.0
    assert [tick.value for tick in chart.ticks] == [0.0, 50.0, 100.0]


def test_an_unknown_value_is_a_gap_in_the_line() -> None:
    chart = line_chart([1.0, None, 3.0, 4.0], height=120)
    assert chart is not None
    assert chart.line.count("M") == 2
    assert "h0" in chart.line  # the value alone between gaps is a dot
    assert line_chart([None, None], height=120) is None


def test_the_axis_ends_at_a_round_number_that_holds_all_values() -> None:
    for most, top in ((3.0, 5.0), (0.0023, 0.0025), (10.0, 10.0), (1234.0, 2000.0), (0.0, 1.0)):
        chart = line_chart([0.0, most], height=100)
        assert chart is not None
        assert abs(chart.top - top) < 1e-12


def test_a_heat_map_has_a_cell_for_each_count_and_none_for_zero() -> None:
    columns = [
        HeatColumn(counts=(0, 1, 100), p50=None, p99=None),
        HeatColumn(counts=None, p50=None, p99=None),
        HeatColumn(counts=(4, 0, 0), p50=None, p99=None),
    ]
    chart = heat_chart(columns, [0.0, 1.0, 2.0, None], row_height=10)
    assert sum(shade.count("M") for shade in chart.shades) == 3
    assert (chart.shades[0].count("M"), chart.shades[SHADES - 1].count("M")) == (1, 1)
    assert chart.unknown.count("M") == 1
    assert (chart.height, chart.most) == (30, 100)


def test_a_short_time_is_still_seen() -> None:
    assert bar(0, 1, 0, 10**12).width >= 3
    assert bar(0, 10**12, 0, 10**12).width == WIDTH - LEFT - RIGHT
