"""The data of one scrape as OpenTelemetry metrics, to push to a collector by OTLP over HTTP.

Semantic conventions do not cover VMs, so names are kvmscope's: ``kvm.vm.exits``, with the attributes of the Prometheus
series. The resource is the host, by ``host.*``. Log histograms are exponential histograms in nanoseconds.

An exponential histogram of scale 0 has the buckets (2**i, 2**(i+1)]. KVM counts whole nanoseconds in [2**(k-1), 2**k):
bucket k is index k - 1, bucket 0 counts zeros. Values that are a power of two are one bucket too high. KVM's last
bucket, which has no upper bound, is sent as the bucket of its number. The start time of counts is omitted, as it
is not known for every VM.

Source: opentelemetry-proto, metrics/v1/metrics.proto; OpenTelemetry, "Metrics Data Model".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from ..analysis.bucket_bounds import bucket_bounds
from ..catalog.series_names import Family, FamilyType, native_family
from ..host.facts import Machine
from ..sample import Origin
from .labels import LabelSets, encodable
from .numbers import value_floats
from .protobuf import is_native
from .series import HistogramSeries, NumberSeries, Series, StatSeries

if TYPE_CHECKING:
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

CONTENT_TYPE: Final = "application/x-protobuf"
_CUMULATIVE: Final = 2
"""AGGREGATION_TEMPORALITY_CUMULATIVE."""
_UNITS: Final = {"seconds": "s", "nanoseconds": "ns", "bytes": "By", "cycles": "{cycle}"}


def load_what_writing_needs() -> None:
    """Import the modules for writing now, for a process that may be unable to read their files later."""
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2  # noqa: F401

    _version()


@cache
def _version() -> str:
    return version("kvmscope")


def write_otlp(series: Iterable[Series], machine: Machine, origin: Origin | None, *, now_ns: int) -> bytes:
    """An ExportMetricsServiceRequest. ``now_ns``: CLOCK_REALTIME when the host was read."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    _add_attributes(resource.resource.attributes, _host(machine, origin))
    scope = resource.scope_metrics.add()
    scope.scope.name, scope.scope.version = "kvmscope", _version()
    metrics: dict[str, Metric] = {}
    for each in series:
        family = native_family(each.family) if is_native(each) else each.family
        name = otlp_name(family)
        if name not in metrics:
            metrics[name] = scope.metrics.add(name=name, description=family.help, unit=_UNITS.get(family.unit, "1"))
        _add_points(metrics[name], family, each, now_ns)
    return bytes(request.SerializeToString())


def otlp_name(family: Family) -> str:
    """``kvm_vm_halt_wait_seconds`` -> ``kvm.vm.halt_wait``: OTLP has a separate field for the unit."""
    stem = family.name.removesuffix(f"_{family.unit}") if family.unit else family.name
    parts = stem.split("_", 2)
    depth = 2 if parts[0] == "kvm" and parts[1] in ("vm", "vcpu", "host") else 1
    return ".".join(stem.split("_", depth))


def _host(machine: Machine, origin: Origin | None) -> dict[str, str]:
    facts = {
        "service.name": "kvmscope",
        "host.name": machine.hostname.value,
        "host.id": None if origin is None else origin.host,
        "host.arch": machine.architecture.value,
        "os.type": "linux",
        "os.version": machine.kernel_release.value,
    }
    return {name: value for name, value in facts.items() if value}


def _add_attributes(into: Any, attributes: dict[str, str]) -> None:
    for name, value in attributes.items():
        added = into.add(key=name)
        added.value.string_value = encodable(value)


def _add_points(metric: Metric, family: Family, series: Series, now_ns: int) -> None:
    if isinstance(series, HistogramSeries):
        _add_histograms(metric, series, now_ns)
        return
    is_count = family.type is FamilyType.COUNTER
    if is_count:
        summed: Any = metric.sum
        summed.aggregation_temporality, summed.is_monotonic = _CUMULATIVE, True
    points: Any = metric.sum.data_points if is_count else metric.gauge.data_points
    for attributes, value in zip(_attributes(series.subjects, series.rows.tolist()), _values(series), strict=True):
        point = points.add(time_unix_nano=now_ns)
        if isinstance(value, int) and abs(value) < 2**63:
            point.as_int = value
        else:
            point.as_double = float(value)
        _add_attributes(point.attributes, attributes)


def _values(series: StatSeries | NumberSeries) -> Sequence[float | int]:
    if isinstance(series, NumberSeries):
        return series.numbers
    values: list[float | int] = value_floats(series.descriptor, series.words).tolist()
    is_whole = series.descriptor.exponent == 0 and series.family.type is FamilyType.COUNTER
    return series.words.tolist() if is_whole else values


def _add_histograms(metric: Metric, series: HistogramSeries, now_ns: int) -> None:
    native = is_native(series)
    points: Any = metric.exponential_histogram.data_points if native else metric.histogram.data_points
    holder: Any = metric.exponential_histogram if native else metric.histogram
    holder.aggregation_temporality = _CUMULATIVE
    sums = _sums(series, native)
    rows = zip(_attributes(series.subjects, series.rows.tolist()), series.words.tolist(), sums, strict=True)
    for attributes, counts, sum_ in rows:
        point = points.add(time_unix_nano=now_ns, count=sum(counts))
        if sum_ is not None:
            point.sum = sum_
        if native:
            point.scale, point.zero_count = 0, counts[0]
            point.positive.offset = 0
            point.positive.bucket_counts.extend(counts[1:])
        else:
            point.bucket_counts.extend(counts)
            point.explicit_bounds.extend(float(bound) for bound in bucket_bounds(series.descriptor)[:-1])
        _add_attributes(point.attributes, attributes)


def _sums(series: HistogramSeries, native: bool) -> Sequence[float | None]:
    if series.sums is None or series.sum_descriptor is None:
        return [None] * len(series.rows)
    sums: list[float | None] = value_floats(series.sum_descriptor, series.sums).tolist()
    return series.sums.tolist() if native else sums


def _attributes(subjects: LabelSets, rows: Sequence[int]) -> Iterable[dict[str, str]]:
    for row in rows:
        yield {name: value for name, value in zip(subjects.names, subjects.rows[row], strict=True) if value}
