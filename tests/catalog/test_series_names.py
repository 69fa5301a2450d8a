"""Names of series: by rule, for every stat of the catalogue and for any word that a publisher has."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.catalog.metrics import load_metrics
from kvmscope.catalog.series_names import FamilyType, metric_family, native_family, stat_family, sum_of
from kvmscope.catalog.stats import load_stats
from kvmscope.schema import Descriptor, Kind, Scope, Unit

WAIT = Descriptor("halt_wait_ns", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9)
WAITS = Descriptor("halt_wait_hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32)


@pytest.mark.parametrize(
    ("provider", "stat", "scope", "level", "name"),
    [
        ("kvm", Descriptor("exits", Kind.CUMULATIVE), Scope.VCPU, None, "kvm_vcpu_exits_total"),
        ("kvm", Descriptor("exits", Kind.CUMULATIVE), Scope.VCPU, Scope.VM, "kvm_vm_exits_total"),
        ("kvm", WAIT, Scope.VCPU, None, "kvm_vcpu_halt_wait_seconds_total"),
        ("kvm", WAITS, Scope.VCPU, Scope.VM, "kvm_vm_halt_wait_hist_seconds"),
        ("kvm", Descriptor("pages_4k", Kind.INSTANT), Scope.VM, None, "kvm_vm_pages_4k"),
        ("kvm", Descriptor("max_mmu_rmap_size", Kind.PEAK), Scope.VM, None, "kvm_vm_max_mmu_rmap_size"),
        ("kvm", Descriptor("depth", Kind.PEAK), Scope.VM, None, "kvm_vm_depth_max"),
        ("disk", Descriptor("read-bytes", Kind.CUMULATIVE, Unit.BYTES), Scope.VM, None, "kvm_vm_disk_read_bytes_total"),
        ("disk", Descriptor("sent_total", Kind.CUMULATIVE), Scope.VM, None, "kvm_vm_disk_sent_total"),
    ],
)  # fmt: skip
def test_a_name_has_the_kernels_word_its_unit_and_its_level(
    provider: str, stat: Descriptor, scope: Scope, level: Scope | None, name: str
) -> None:
    assert stat_family(provider, stat, scope, level=level).sample_name == name


def test_no_two_stats_of_the_catalogue_share_a_name() -> None:
    names = []
    for entry in load_stats():
        stat = Descriptor(
            entry.name.replace("{reason}", "x"), entry.kind, entry.unit, exponent=entry.exponent, size=entry.size
        )
        levels = {entry.scope, Scope.VM} if stat.kind is Kind.CUMULATIVE or stat.is_histogram else {entry.scope}
        names += [stat_family(entry.provider, stat, entry.scope, level=level).name for level in levels]
    names += [metric_family(metric, Scope.VM).name for metric in load_metrics()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"kvm_(vm|vcpu)_[a-zA-Z0-9_]+", name) for name in names)


@given(st.text(), st.text(), st.sampled_from(Kind), st.sampled_from(Unit))
def test_any_word_of_a_publisher_makes_a_name_that_prometheus_takes(
    provider: str, name: str, kind: Kind, unit: Unit
) -> None:
    family = stat_family(provider, Descriptor(name, kind, unit, size=2), Scope.VM)
    assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", family.sample_name)
    assert not family.unit or family.name.removesuffix("_max").endswith(f"_{family.unit}")


def test_a_metric_of_the_catalogue_has_base_units() -> None:
    names = {metric.name: metric_family(metric, Scope.VM).name for metric in load_metrics()}
    assert names["exits_per_s"] == "kvm_vm_metric_exits_per_second"
    assert names["halt_wait_p99_s"] == "kvm_vm_metric_halt_wait_p99_seconds"
    assert names["mapped_bytes"] == "kvm_vm_metric_mapped_bytes"


def test_a_histogram_of_powers_of_two_is_in_nanoseconds() -> None:
    native = native_family(stat_family("kvm", WAITS, Scope.VCPU, level=Scope.VM))
    assert (native.name, native.unit, native.type) == (
        "kvm_vm_halt_wait_hist_nanoseconds", "nanoseconds", FamilyType.HISTOGRAM
    )  # fmt: skip


def test_the_sum_of_a_histogram_is_the_kernels_stat_of_the_same_stem() -> None:
    assert sum_of("halt_wait_hist", ("halt_wait_ns", "halt_wait_hist")) == "halt_wait_ns"
    assert sum_of("halt_wait_hist", ("halt_poll_fail_ns",)) is None
    assert sum_of("sizes", ("_ns",)) is None
