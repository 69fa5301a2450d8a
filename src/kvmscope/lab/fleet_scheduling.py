"""The scheduler's and cgroups' statistics of the VMs on a fleet's host: the providers ``sched`` and ``cgroup``.

It has only values, as rates per second: those of a healthy VM, overridden by ``Trouble.scheduled``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from ..codec import cgroup, sched
from ..codec.snapshot import Feature
from ..sample import U64Array
from ..schema import Kind, Schema
from .behaviours import FloatArray

_HEALTHY: Final[Mapping[str, float]] = {
    "sched.run_ns": 300e6,
    "sched.run_delay_ns": 4e6,
    "sched.timeslices": 250,
    "sched.vmm_run_ns": 40e6,
    "sched.main_run_ns": 25e6,
    "sched.main_run_delay_ns": 1e6,
    "sched.iothread_run_ns": 10e6,
    "sched.iothread_run_delay_ns": 1e6,
}


def scheduling_schemas() -> Iterator[Schema]:
    """The schemas of both providers, on a kernel that keeps all of these statistics."""
    features = Feature.SCHED_INFO | Feature.CPU_QUOTA
    for schema in (sched.vm_schema(features), sched.vcpu_schema(features), cgroup.vm_schema(features)):
        assert schema is not None
        yield schema


def scheduling_words(schema: Schema, subjects: Sequence[Mapping[str, float]], elapsed_s: FloatArray) -> U64Array:
    """The words, shape (moments, subjects, words). ``subjects``: values that a VM's trouble overrides."""
    words = np.zeros((len(elapsed_s), len(subjects), schema.words), dtype=np.uint64)
    for stat in schema.descriptors:
        name = f"{schema.provider}.{stat.name}"
        per_s = np.array([scheduled.get(name, _HEALTHY.get(name, 0.0)) for scheduled in subjects])
        is_counted = stat.kind is Kind.CUMULATIVE
        words[:, :, stat.offset // 8] = np.floor(np.outer(elapsed_s, per_s)) if is_counted else per_s
    return words
