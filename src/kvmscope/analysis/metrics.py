"""What a metric of the catalogue comes to in a window: one value a subject, NaN where it is not known.

Rule: a sum over vCPUs of which some are not known is the sum of the others and says how many those are; if none is
known there is no sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..catalog.metrics import Form, Metric
from ..sample import I64Array, Sample
from ..schema import Scope
from .window import F64Array, Window, find_column


@dataclass(frozen=True, slots=True)
class Sums:
    """One value a VM; ``unknown`` is the number of its vCPUs that are not in it."""

    values: F64Array
    unknown: I64Array


def measure(window: Window, metric: Metric) -> F64Array:
    """The metric for each subject of its scope, in the order of the current sample."""
    for names in metric.stats:
        if all(window.has(metric.provider, metric.scope, name) for name in names):
            return sum(
                (_measure_stat(window, metric, name) for name in names[1:]), _measure_stat(window, metric, names[0])
            )
    count = len(window.current.vms if metric.scope is Scope.VM else window.current.vcpus)
    return np.full(count, np.nan)


def sum_by_vm(sample: Sample, values: F64Array) -> Sums:
    """Sums of a value that each vCPU has."""
    count = len(sample.vms)
    known = ~np.isnan(values)
    sums = np.bincount(sample.vcpus.vm, weights=np.where(known, values, 0.0), minlength=count)
    known_of_vm = np.bincount(sample.vcpus.vm[known], minlength=count)
    unknown = np.bincount(sample.vcpus.vm, minlength=count) - known_of_vm
    return Sums(np.where(known_of_vm > 0, sums, np.nan), unknown.astype(np.int64))


def _measure_stat(window: Window, metric: Metric, name: str) -> F64Array:
    stat = (metric.provider, metric.scope, name)
    if metric.form is Form.VALUE:
        return window.value(*stat)
    rate = window.rate(*stat)
    return rate * _scale(window, metric, name) if metric.form is Form.SECONDS_PER_SECOND else rate


def _scale(window: Window, metric: Metric, name: str) -> float:
    column = find_column(window.current, metric.provider, metric.scope, name)
    return 1.0 if column is None else column.descriptor.scale
