"""A report as one HTML file: the template, and its input besides the view: texts of numbers and times, charts.

Text from elsewhere (names, reasons, places) is escaped by the template and made legible by ``printable``. The
Content-Security-Policy allows scripts by their hash alone, so text that got past both still cannot run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any, Final

from ...errors import Unavailable
from ...host.text import printable
from ...units import format_bytes, format_count, format_seconds, rfc3339, time_of_day
from ...view.heat import HeatMap
from ...view.report import ReportMetric, ReportSeries, ReportView
from ...view.text import format_metric
from ...view.values import Moment
from .charts import LEFT, RIGHT, WIDTH, bar, heat_chart, line_chart

_TEMPLATE: Final = "report.html.j2"
_LONGEST: Final = 2000
_VMS_SHOWN: Final = 100
"""Rows of the table of VMs that are shown at first; the others are folded, as browsers are slow with large tables."""


def render(view: ReportView) -> str:
    """The page. Raises Unavailable without jinja2."""
    script, style = _asset("report.js"), _asset("report.css")
    return str(
        _environment()
        .get_template(_TEMPLATE, globals={"view": view})
        .render(
            metrics={metric.name: metric for metric in view.metrics},
            slugs={rule.rule: rule for rule in view.rules},
            script=script,
            style=style,
            policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'",
        )
    )


@cache
def _environment() -> Any:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ModuleNotFoundError:
        raise Unavailable("HTML reports need jinja2", remedy="pip install 'kvmscope[report]'") from None
    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "printable": _printable,
        "clock": _clock,
        "date": _date,
        "iso": _iso,
        "seconds": format_seconds,
        "count": format_count,
        "nth": lambda values, place: values[place],
    }
    environment.globals |= {
        "line_chart": line_chart,
        "heat_chart": heat_chart,
        "bar": bar,
        "metric_text": _metric_text,
        "base_text": _base_text,
        "bucket_texts": _bucket_texts,
        "summary": _summary,
        "WIDTH": WIDTH,
        "LEFT": LEFT,
        "RIGHT": RIGHT,
        "VMS_SHOWN": _VMS_SHOWN,
    }
    return environment


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _printable(text: str | None) -> str:
    return "" if text is None else printable(text, max_length=_LONGEST)


def _clock(moment: Moment) -> str:
    return time_of_day(moment.ns)


def _date(moment: Moment) -> str:
    return f"{rfc3339(moment.ns, has_ms=False)[:-1].replace('T', ' ')} UTC"


def _iso(moment: Moment) -> str:
    return rfc3339(moment.ns, has_ms=False)


def _metric_text(metric: ReportMetric, value: float | None) -> str:
    return format_metric(metric.unit, value)


def _base_text(unit: str, value: float | None) -> str:
    """The text of a bound or quantile in a base unit; "∞" for no bound."""
    if value is None:
        return "∞"
    return {"seconds": format_seconds, "bytes": format_bytes}.get(unit, format_count)(value)


def _bucket_texts(heat: HeatMap) -> Sequence[str]:
    """The text of each row's range, the lowest first."""
    texts = [_base_text(heat.unit, bound) for bound in heat.bounds]
    return [f"{low} to {high}" for low, high in pairwise(texts)]


def _summary(series: ReportSeries, metrics: Mapping[str, ReportMetric]) -> str:
    metric = metrics[series.metric]
    return f"mean {_metric_text(metric, series.mean)}, most {_metric_text(metric, series.most)}"
