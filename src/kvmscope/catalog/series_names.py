"""Names, types, units and help of the series that ``serve`` exports: one rule for every format and every query.

The stem of a name is the kernel's name: the stat ``halt_wait_ns`` of a vCPU is ``kvm_vcpu_halt_wait_seconds_total``.
A count of vCPUs has another name if it is summed for a VM (``kvm_vm_…``), so sums over one name never count twice.
Stats of publishers are prefixed with the publisher's name, as publishers choose names freely.

Rule: a name follows from the descriptor alone, and is the same for every kernel, source, VM and run.
Source: Prometheus, "Writing exporters" and "Metric and label naming"; OpenMetrics 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache, lru_cache
from typing import Final

from ..schema import Descriptor, Kind, Scope, Unit
from .metrics import Metric, MetricUnit
from .stats import load_stats

PREFIX: Final = "kvm"
"""The prefix of all series about KVM."""

OWN_PREFIX: Final = "kvmscope"
"""The prefix of series about kvmscope itself."""


class FamilyType(Enum):
    """The type of a family, as OpenMetrics names it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Family:
    """Series of one name. ``name``: without ``_total``. ``unit``: a base unit, the ending of the name, or ""."""

    name: str
    type: FamilyType
    help: str
    unit: str = ""

    @property
    def sample_name(self) -> str:
        """The name of its series in Prometheus; those of a histogram have an additional suffix."""
        return f"{self.name}_total" if self.type is FamilyType.COUNTER else self.name


VM_INFO: Final = Family(
    f"{PREFIX}_vm_info",
    FamilyType.GAUGE,
    "Who a VM is; the value is 1. Label vm is its UUID, else its name and the time of its creation.",
)
VM_CREATED: Final = Family(
    f"{PREFIX}_vm_created_timestamp_seconds", FamilyType.GAUGE, "When a VM was created, as Unix time.", "seconds"
)
VM_VCPUS: Final = Family(f"{PREFIX}_vm_vcpus", FamilyType.GAUGE, "Number of vCPUs of a VM.")
VM_VMM_SILENT: Final = Family(
    f"{PREFIX}_vm_vmm_silent_seconds",
    FamilyType.GAUGE,
    "For how long the VMM of a VM has not answered who it is; 0 if it answers.",
    "seconds",
)
VM_FINDING: Final = Family(
    f"{PREFIX}_vm_finding",
    FamilyType.GAUGE,
    "1 while a rule of kvmscope doctor fires for a VM or one of its vCPUs, and 0 for 15 minutes after that.",
)
VM_APICV_STATE: Final = Family(
    f"{PREFIX}_vm_apicv_state",
    FamilyType.GAUGE,
    "Whether the interrupts of a VM are accelerated by APICv or AVIC, as label state; the value is 1.",
)
VM_APICV_REASON: Final = Family(
    f"{PREFIX}_vm_apicv_reason",
    FamilyType.GAUGE,
    "Why the interrupts of a VM are not accelerated; the value is 1. Label certainty says how certain that is.",
)
HOST_INFO: Final = Family(f"{PREFIX}_host_info", FamilyType.GAUGE, "The host and its KVM; the value is 1.")
HOST_APICV: Final = Family(
    f"{PREFIX}_host_apicv", FamilyType.GAUGE, "What this host has of APICv or AVIC, by label fact: 1 for yes, 0 for no."
)
HOST_PARAMETER: Final = Family(
    f"{PREFIX}_host_parameter",
    FamilyType.GAUGE,
    "A parameter of KVM's modules that decides about interrupts, polling or paging; the value is 1.",
)
SIMULATED: Final = Family(
    f"{OWN_PREFIX}_simulated", FamilyType.GAUGE, "1 if a simulated host stands behind the numbers, and not a kernel."
)
HOST_LABELS: Final = ("name", "kernel", "architecture", "kvm_module", "cpu", "lockdown")
"""The labels of ``HOST_INFO``."""


@lru_cache(maxsize=2048)  # every scrape looks up every stat
def stat_family(provider: str, descriptor: Descriptor, scope: Scope, *, level: Scope | None = None) -> Family:
    """The family of a stat of ``provider`` and ``scope``; ``level``: VM if it is summed over vCPUs."""
    level = level or scope
    unit = _UNITS.get(descriptor.unit, "") if isinstance(descriptor.unit, Unit) else ""
    kind = family_type(descriptor)
    if not descriptor.is_understood:
        unit = ""
    stem = sanitized(descriptor.name if provider in own_providers() else f"{provider}_{descriptor.name}")
    name = _with_unit(stem.removesuffix("_total"), unit)
    if descriptor.kind is Kind.PEAK and "max" not in name.split("_"):
        name += "_max"
    return Family(f"{PREFIX}_{level.value}_{name}", kind, _stat_help(provider, descriptor, scope, level), unit)


def native_family(family: Family) -> Family:
    """The same histogram with buckets at powers of two: in nanoseconds, as KVM's bounds are not such powers in seconds.

    Source: 10**-9 is not a power of two, so KVM's bounds in seconds do not fit native or exponential histograms.
    """
    if family.unit != "seconds":
        return family
    name = family.name.removesuffix("_seconds") + "_nanoseconds"
    return replace(family, name=name, unit="nanoseconds")


@cache
def metric_family(metric: Metric, level: Scope) -> Family:
    """The family of a metric of metrics.toml, for VMs or vCPUs."""
    unit = _METRIC_UNITS.get(metric.unit, "")
    stem = re.sub(r"_(s|bytes)$", "", metric.name) if unit else re.sub(r"_per_s$", "_per_second", metric.name)
    name = _with_unit(f"metric_{stem}", unit)
    return Family(f"{PREFIX}_{level.value}_{name}", FamilyType.GAUGE, f"{metric.help} Metric {metric.name}.", unit)


def family_type(descriptor: Descriptor) -> FamilyType:
    """The type of a stat's series; UNKNOWN if this version of kvmscope does not understand its descriptor."""
    if not descriptor.is_understood:
        return FamilyType.UNKNOWN
    if descriptor.is_histogram:
        return FamilyType.HISTOGRAM
    return FamilyType.COUNTER if descriptor.kind is Kind.CUMULATIVE else FamilyType.GAUGE


def sum_of(histogram: str, names: Sequence[str]) -> str | None:
    """The stat with the sum of a histogram's values, from these ``names`` of its provider; None if there is none.

    Source: virt/kvm/kvm_main.c updates ``halt_wait_hist`` and ``halt_wait_ns`` in one place, and kvmscope's groups do
    the same.
    """
    found = histogram.removesuffix("_hist") + "_ns"
    return found if histogram.endswith("_hist") and found in names else None


def sanitized(name: str) -> str:
    """A name of ASCII letters, digits and ``_``, which every reader accepts; other characters become ``_``."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


@cache
def own_providers() -> frozenset[str]:
    """The providers of the catalogue, whose stat names are unique."""
    return frozenset(entry.provider for entry in load_stats())


_UNITS: Final = {Unit.SECONDS: "seconds", Unit.BYTES: "bytes", Unit.CYCLES: "cycles"}
_METRIC_UNITS: Final = {MetricUnit.SECONDS: "seconds", MetricUnit.BYTES: "bytes"}
_SMALLER: Final = re.compile(r"_(ns|us|ms|s)$")


def _with_unit(stem: str, unit: str) -> str:
    """The stem with the unit as suffix, once; the kernel's suffix for a smaller unit is dropped."""
    if unit == "seconds":
        stem = _SMALLER.sub("", stem)
    return stem if not unit or stem.endswith(f"_{unit}") else f"{stem}_{unit}"


def _stat_help(provider: str, descriptor: Descriptor, scope: Scope, level: Scope) -> str:
    entry = load_stats().find(provider, scope, descriptor.name)
    meaning = f"{entry.meaning} " if entry else ""
    owner = "KVM" if provider == "kvm" else provider
    whose = (
        f"Sum over the vCPUs of statistic {descriptor.name}" if level is not scope else f"Statistic {descriptor.name}"
    )
    return f"{meaning}{whose} of {owner}."
