"""Formulas over windows: by hand-made samples whose answers can be worked out in the head, and by laws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loads import simulated_scenes

from kvmscope.analysis import histogram
from kvmscope.analysis.difference_sides import only_vms
from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.window import F64Array, Window
from kvmscope.catalog.metrics import formulas, load_metrics
from kvmscope.errors import UsageError
from kvmscope.formula.check import CONDITION, Context, Formula, Type, check
from kvmscope.formula.parse import blame_text, parse
from kvmscope.formula.tree import (
    HOST,
    Either,
    Expression,
    Level,
    OverVcpus,
    QuantileTerm,
    Reference,
    ShareTerm,
    StatTerm,
    children,
    walk,
)
from kvmscope.lab.simulated_kvm import stat_sets
from kvmscope.sample import Sample, VmId
from kvmscope.schema import Base, Descriptor, Kind, Schema, Scope, Unit, Unknown
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

BUCKETS = 4
VCPU = Schema(
    "kvm",
    Scope.VCPU,
    (
        Descriptor("exits", Kind.CUMULATIVE, offset=0),
        Descriptor("halts", Kind.CUMULATIVE, offset=8),
        Descriptor("poll_ns", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9, offset=16),
        Descriptor("busy", Kind.INSTANT, Unit.BOOLEAN, offset=24),
        Descriptor("longest", Kind.PEAK, offset=32),
        Descriptor("hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=BUCKETS, offset=40),
    ),
    72,
)
VM = Schema(
    "kvm",
    Scope.VM,
    (
        Descriptor("flushes", Kind.CUMULATIVE, offset=0),
        Descriptor("pages", Kind.INSTANT, Unit.BYTES, Base.POW2, exponent=12, offset=8),
    ),
    16,
)
NONE = [0] * 9
HIST = [0, 0, 0, 0]


def vcpu(exits: int = 0, halts: int = 0, poll_ns: int = 0, busy: int = 0, longest: int = 0) -> list[int]:
    return [exits, halts, poll_ns, busy, longest, *HIST]


def with_hist(counts: Sequence[int]) -> list[int]:
    return [0, 0, 0, 0, 0, *counts]


def sample(
    at_s: int,
    vms: Mapping[int, Sequence[list[int] | None]],
    *,
    of_vms: Mapping[int, list[int]] | None = None,
    schema: Schema = VCPU,
) -> Sample:
    """VMs by number, with the words of each vCPU, None for one that cannot be read; ``of_vms``: the words of VMs."""
    made = [
        VmStats(
            VmId(number),
            [StatsOf(VM, np.array((of_vms or {})[number], dtype=np.uint64))] if number in (of_vms or {}) else [],
            [
                VcpuStats(i, [] if words is None else [StatsOf(schema, np.array(words, dtype=np.uint64))])
                for i, words in enumerate(vcpus)
            ],
        )
        for number, vcpus in vms.items()
    ]
    return assemble(made, source="test", taken_ns=0, monotonic_ns=at_s * 10**9)


def window(
    before: Mapping[int, Sequence[list[int] | None]], after: Mapping[int, Sequence[list[int] | None]], seconds: int = 1
) -> Window:
    return Window(sample(0, before), sample(seconds, after))


def formula(text: str, scope: Scope = Scope.VCPU, metrics: Mapping[str, Formula] | None = None) -> Formula:
    facts = {(of, name): kind for of in Scope for name, kind in (("idle", CONDITION), ("age", Type()))}
    known = {name: (metric.scope, metric.type) for name, metric in (metrics or {}).items()}
    return check(parse(text), scope, Context(metrics=known, facts=facts), blame_text(text))


def value(text: str, on: Window, at: Level = Scope.VCPU, *, scope: Scope = Scope.VCPU) -> list[float | None]:
    return plain(Evaluator(on, {}).of(formula(text, scope), at))


def plain(values: F64Array) -> list[float | None]:
    return [None if math.isnan(number) else number for number in values.tolist()]


TWO = window({1: [vcpu(), vcpu(100, 10)], 2: [vcpu()]}, {1: [vcpu(20, 5), vcpu(140, 10)], 2: [vcpu(6, 3)]}, seconds=2)


# --- leaves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "vcpus", "vms", "host"),
    [
        ("rate(exits)", [10, 20, 3], [30, 3], [33]),
        ("delta(exits)", [20, 40, 6], [60, 6], [66]),
        ("value(exits)", [20, 140, 6], [160, 6], [166]),
        ("rate(exits) + 2 * delta(halts) - -1", [21, 21, 10], [41, 10], [50]),
        ("7", [7, 7, 7], [7, 7], [7]),
        ("rate(no_such_stat)", [None] * 3, [None] * 2, [None]),
        ("rate(apicv.exits)", [None] * 3, [None] * 2, [None]),
    ],
)
def test_counts_are_had_for_vcpus_vms_and_the_host(
    text: str, vcpus: list[float], vms: list[float], host: list[float]
) -> None:
    assert value(text, TWO) == vcpus
    assert value(text, TWO, Scope.VM) == vms
    assert value(text, TWO, HOST) == host


def test_times_are_in_seconds_for_each_second() -> None:
    moved = window({1: [vcpu(poll_ns=0)]}, {1: [vcpu(poll_ns=5 * 10**8)]}, seconds=2)
    assert value("seconds(poll_ns)", moved) == pytest.approx([0.25])
    assert value("delta(poll_ns)", moved) == pytest.approx([0.5])
    assert value("value(poll_ns) > 400ms", moved) == [1]


def test_sizes_are_in_bytes() -> None:
    samples = [sample(at_s, {1: []}, of_vms={1: [5 * at_s, 3]}) for at_s in (0, 1)]
    assert value("value(pages)", Window(*samples), Scope.VM, scope=Scope.VM) == [3 * 4096]
    assert value("rate(flushes)", Window(*samples), HOST, scope=Scope.VM) == [5]


def test_a_boolean_of_a_vm_is_the_number_of_its_vcpus_for_which_it_holds() -> None:
    moved = window({1: [vcpu(), vcpu(), vcpu()]}, {1: [vcpu(busy=1), vcpu(), vcpu(busy=1)]})
    assert value("value(busy)", moved) == [1, 0, 1]
    assert value("value(busy)", moved, Scope.VM) == [2]


def test_a_peak_of_a_vm_is_the_largest_of_its_vcpus() -> None:
    moved = window({1: [vcpu(), vcpu()]}, {1: [vcpu(longest=3), vcpu(longest=8)]})
    assert value("value(longest)", moved, Scope.VM) == [8]


def test_a_count_that_went_down_is_not_known_and_leaves_its_vcpu_out() -> None:
    moved = window({1: [vcpu(9, 1), vcpu(0, 1)]}, {1: [vcpu(5, 3), vcpu(4, 2)]})
    assert value("rate(exits)", moved) == [None, 4]
    assert value("rate(exits)", moved, Scope.VM) == [4]
    assert value("rate(halts)", moved, Scope.VM) == [3]
    assert value("ratio(rate(exits), rate(halts), 0)", moved, Scope.VM) == [4], "4 / 1, not 4 / 3"


def test_a_subject_that_came_has_values_and_no_rates() -> None:
    moved = window({1: [vcpu()]}, {1: [vcpu(5), vcpu(7)], 2: [vcpu(9)]})
    assert value("rate(exits)", moved) == [5, None, None]
    assert value("rate(exits)", moved, Scope.VM) == [5, None]
    assert value("value(exits)", moved, Scope.VM) == [12, 9]


def test_a_vm_without_vcpus_has_no_number() -> None:
    moved = window({1: [], 2: [vcpu()], 3: []}, {1: [], 2: [vcpu(5)], 3: []})
    assert value("rate(exits)", moved, Scope.VM) == [None, 5, None]
    assert value("max(rate(exits))", moved, Scope.VM, scope=Scope.VM) == [None, 5, None]
    assert value("rate(exits)", window({}, {}), Scope.VM) == []
    assert value("rate(exits)", window({}, {}), HOST) == [None]
    assert value("quantile(hist, 0.5)", window({1: []}, {1: []}), Scope.VM) == [None]


def test_a_stat_of_another_kind_than_the_formula_takes_it_for_is_unknown() -> None:
    kinds = {
        "exits": Descriptor("exits", Kind.INSTANT, offset=0),
        "halts": Descriptor("halts", Unknown(9), offset=8),
        "poll_ns": Descriptor("poll_ns", Kind.CUMULATIVE, offset=16),
    }
    descriptors = tuple(kinds.get(stat.name, stat) for stat in VCPU.descriptors)
    schema = Schema("kvm", Scope.VCPU, descriptors, VCPU.data_size)
    samples = [sample(at_s, {1: [vcpu(at_s, at_s, at_s)]}, schema=schema) for at_s in (0, 1)]
    for text in ("rate(exits)", "value(halts)", "seconds(poll_ns)", "value(hist)", "quantile(exits, 0.5)"):
        assert value(text, Window(*samples)) == [None], text
    assert value("either(rate(exits), value(exits) * 10)", Window(*samples)) == [10]


# --- histograms -------------------------------------------------------------------------------------------------------


def test_quantiles_are_of_what_the_window_added_and_of_a_vm_those_of_all_its_vcpus() -> None:
    before, after = [5, 5, 5, 5], [5, 7, 5, 5]
    moved = window({1: [with_hist(before), with_hist(before)]}, {1: [with_hist(after), with_hist([5, 5, 13, 5])]})
    stat = VCPU["hist"]
    for q in (0.0, 0.1, 0.5, 1.0):
        expected = histogram.quantiles(stat, np.array([[0, 2, 0, 0], [0, 0, 8, 0]]), (q,)).estimate[:, 0]
        assert value(f"quantile(hist, {q})", moved) == expected.tolist()
        of_both = histogram.quantile(stat, [0, 2, 8, 0], q)
        assert of_both is not None
        assert value(f"quantile(hist, {q})", moved, Scope.VM) == [of_both.estimate]
        assert value(f"quantile(hist, {q})", moved, HOST) == [of_both.estimate]


def test_rates_of_histograms_count_their_values() -> None:
    moved = window({1: [with_hist([1, 0, 0, 0])]}, {1: [with_hist([2, 3, 0, 4])]}, seconds=2)
    assert value("delta(hist)", moved) == [8]
    assert value("rate(hist)", moved, Scope.VM) == [4]


def test_shares_are_of_what_the_window_added() -> None:
    moved = window({1: [with_hist(HIST), with_hist(HIST)]}, {1: [with_hist([1, 1, 2, 0]), with_hist([0, 0, 0, 4])]})
    assert value("share_below(hist, 2ns)", moved) == [0.5, 0]
    assert value("share_above(hist, 2ns)", moved) == [0.5, 1]
    assert value("share_above(hist, 2ns)", moved, Scope.VM) == [0.75]


def test_a_histogram_that_counted_nothing_or_was_cleared_has_no_quantile_and_no_share() -> None:
    moved = window(
        {1: [with_hist([1, 1, 1, 1]), with_hist([5, 0, 0, 0])]}, {1: [with_hist([1] * 4), with_hist([2] * 4)]}
    )
    for text in ("quantile(hist, 0.5)", "share_above(hist, 1ns)"):
        assert value(text, moved) == [None, None]
        assert value(text, moved, Scope.VM) == [None]


# --- ratio, either, facts ---------------------------------------------------------------------------------------------


def test_a_ratio_of_a_vm_is_the_ratio_of_the_sums() -> None:
    assert value("ratio(rate(exits), rate(halts), unknown)", TWO) == [4, None, 2]
    assert value("ratio(rate(exits), rate(halts), unknown)", TWO, Scope.VM) == [12, 2]
    assert value("ratio(rate(exits), rate(halts), unknown)", TWO, HOST) == [pytest.approx(66 / 8)]


def test_a_ratio_is_at_zero_what_it_says() -> None:
    assert value("ratio(rate(exits), rate(halts), -1)", TWO) == [4, -1, 2]
    assert value("ratio(rate(nothing), 0, 1)", TWO) == [None] * 3, "of what is unknown it is unknown"


def test_the_first_option_that_the_sample_has_is_taken() -> None:
    assert value("either(rate(sum_exits), rate(exits), rate(halts))", TWO) == [10, 20, 3]
    assert value("either(rate(exits) + rate(sum_exits), rate(halts)) * 2", TWO, Scope.VM) == [5, 3]
    assert value("either(either(rate(a), rate(b)), rate(halts))", TWO, HOST) == [4]
    assert value("either(rate(a), rate(b))", TWO, Scope.VM) == [None, None]


def test_facts_are_those_that_were_brought() -> None:
    facts: dict[tuple[Level, str], F64Array] = {
        (Scope.VCPU, "age"): np.array([1.0, np.nan, 3.0]),
        (Scope.VM, "idle"): np.array([1.0, 0.0]),
    }
    evaluator = Evaluator(TWO, {}, facts)
    assert plain(evaluator.of(formula("fact(age) * 2"), Scope.VCPU)) == [2, None, 6]
    assert plain(evaluator.of(formula("sum(fact(age))", Scope.VM), Scope.VM)) == [1, 3]
    assert plain(evaluator.of(formula("not fact(idle)", Scope.VM), Scope.VM)) == [0, 1]
    assert plain(evaluator.of(formula("either(fact(age), rate(exits))"), Scope.VCPU)) == [1, None, 3]
    assert plain(Evaluator(TWO, {}).of(formula("fact(age)"), Scope.VCPU)) == [None] * 3


# --- over vCPUs -------------------------------------------------------------------------------------------------------

PARTLY = window(
    {1: [vcpu(), None, vcpu()], 2: [None], 3: [vcpu()]}, {1: [vcpu(4), None, vcpu(10)], 2: [None], 3: [vcpu(1)]}
)


@pytest.mark.parametrize(
    ("text", "vms", "host"),
    [
        ("sum(rate(exits))", [14, None, 1], [15]),
        ("max(rate(exits))", [10, None, 1], [10]),
        ("mean(rate(exits))", [7, None, 1], [5]),
        ("count(rate(exits) > 3)", [2, None, 0], [2]),
        ("max(-rate(exits))", [-4, None, -1], [-1]),
        ("sum(rate(exits)) - max(rate(exits))", [4, None, 0], [5]),
    ],
)
def test_vcpus_are_folded_and_the_unknown_left_out(text: str, vms: list[float], host: list[float]) -> None:
    assert value(text, PARTLY, Scope.VM, scope=Scope.VM) == vms
    assert value(text, PARTLY, HOST, scope=Scope.VM) == host


def test_how_many_lack_is_told() -> None:
    evaluator = Evaluator(PARTLY, {"exits": formula("rate(exits)"), "none": formula("rate(none)")})
    of_vms = formula("sum(rate(exits)) > 3 and sum(rate(exits)) < 4", Scope.VM)
    assert evaluator.missing("exits", Scope.VCPU).tolist() == [0] * 5
    assert evaluator.missing("exits", Scope.VM).tolist() == [1, 1, 0]
    assert evaluator.missing("exits", HOST).tolist() == [2]
    assert evaluator.missing("none", Scope.VM).tolist() == [3, 1, 1]
    assert evaluator.missing(of_vms, Scope.VM).tolist() == [1, 1, 0]
    assert evaluator.missing(formula("either(rate(none), 2 * rate(exits)) + 1"), HOST).tolist() == [2]
    assert evaluator.missing(formula("1 + 2"), Scope.VM).tolist() == [0, 0, 0]


# --- conditions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("rate(exits) >= 10", [1, 1, 0]),
        ("rate(exits) < 10", [0, 0, 1]),
        ("rate(exits) <= 10", [1, 0, 1]),
        ("rate(exits) == 10", [1, 0, 0]),
        ("rate(exits) != 10", [0, 1, 1]),
        ("rate(exits) > 10", [0, 1, 0]),
        ("not rate(exits) > 10", [1, 0, 1]),
        ("min2(rate(exits), 5) + max2(rate(exits), 15) > 15", [1, 1, 1]),
        ("rate(exits) > rate(unknown_one)", [None] * 3),
        ("not rate(unknown_one) > 0", [None] * 3),
        ("rate(exits) >= 10 and rate(unknown_one) > 0", [None, None, 0]),
        ("rate(unknown_one) > 0 or rate(exits) >= 10", [1, 1, None]),
        ("rate(unknown_one) > 0 and rate(unknown_one) > 0", [None] * 3),
        ("rate(exits) > 5 and rate(exits) < 15", [1, 0, 0]),
        ("rate(exits) > 15 or rate(exits) < 5", [0, 1, 1]),
    ],
)
def test_conditions_hold_or_not_or_cannot_be_told(text: str, holds: list[float | None]) -> None:
    assert value(text, TWO) == holds


def test_each_side_of_a_comparison_is_summed_by_itself() -> None:
    moved = window({1: [vcpu(9, 0), vcpu(0, 0)]}, {1: [vcpu(5, 3), vcpu(4, 2)]})
    assert value("rate(exits) == 4 and rate(halts) == 5", moved, Scope.VM) == [1]


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_may_refer_to_metrics() -> None:
    metrics = {"exits": formula("rate(exits)")}
    metrics["twice"] = formula("exits * 2", metrics=metrics)
    metrics["of_vm"] = formula("twice + max(exits)", Scope.VM, metrics)
    evaluator = Evaluator(TWO, metrics)
    assert plain(evaluator.of("twice", Scope.VCPU)) == [20, 40, 6]
    assert plain(evaluator.of("of_vm", Scope.VM)) == [80, 9]
    assert plain(evaluator.of("of_vm", HOST)) == [86]


def test_a_metric_within_a_formula_leaves_out_whom_the_formula_leaves_out() -> None:
    metrics = {"exits": formula("rate(exits)"), "halts": formula("rate(halts)")}
    moved = window({1: [vcpu(9, 0), vcpu(0, 0)]}, {1: [vcpu(5, 3), vcpu(4, 2)]})
    evaluator = Evaluator(moved, metrics)
    assert plain(evaluator.of(formula("ratio(exits, halts, 0)", metrics=metrics), Scope.VM)) == [2]
    assert plain(evaluator.of("halts", Scope.VM)) == [5]


def test_what_cannot_be_asked_is_a_usage_error() -> None:
    evaluator = Evaluator(TWO, {"of_vm": formula("rate(flushes)", Scope.VM)})
    with pytest.raises(UsageError, match=r"rate\(flushes\) belongs to VMs"):
        evaluator.of("of_vm", Scope.VCPU)
    with pytest.raises(UsageError, match="there is no metric 'nothing'"):
        evaluator.of("nothing", Scope.VM)


def test_what_overflows_is_unknown() -> None:
    assert value("rate(exits) * 1e308 * 1e308", TWO) == [None] * 3
    assert value("1e308 * 10 - 1e308 * 10 + rate(exits)", TWO) == [None] * 3


# --- laws -------------------------------------------------------------------------------------------------------------

_counts = st.integers(min_value=0, max_value=2**40)
_vcpus = st.none() | st.lists(_counts, min_size=9, max_size=9)
_vms = st.dictionaries(st.integers(1, 5), st.lists(_vcpus, max_size=4), max_size=4)
windows = st.builds(window, _vms, _vms)


def by_vm(on: Window, values: F64Array) -> list[float | None]:
    """Sums of what is known, by a plain loop."""
    found = []
    for row in range(len(on.current.vms)):
        own = [v for v in values[on.current.vcpus_of_vm[row]].tolist() if not math.isnan(v)]
        found.append(sum(own) if own else None)
    return found


@settings(max_examples=60, deadline=None)
@given(windows)
def test_a_linear_metric_of_a_vm_is_the_sum_of_its_vcpus(on: Window) -> None:
    evaluator = Evaluator(on, {})
    linear = formula("rate(exits) + 2 * rate(halts) - seconds(poll_ns)")
    of_vcpus = evaluator.of(linear, Scope.VCPU)
    of_vms = evaluator.of(linear, Scope.VM)
    by_hand = [math.nan if total is None else total for total in by_vm(on, of_vcpus)]
    np.testing.assert_allclose(of_vms, by_hand, atol=1e-3)
    folded = evaluator.of(formula("sum(rate(exits) + 2 * rate(halts) - seconds(poll_ns))", Scope.VM), Scope.VM)
    np.testing.assert_allclose(of_vms, folded, atol=1e-3)
    unknown = [int(np.isnan(of_vcpus[rows]).sum()) for rows in on.current.vcpus_of_vm]
    assert evaluator.missing(linear, Scope.VM).tolist() == unknown


@settings(max_examples=60, deadline=None)
@given(windows)
def test_a_ratio_of_a_vm_is_that_of_the_sums_over_the_vcpus_of_which_both_are_known(on: Window) -> None:
    evaluator = Evaluator(on, {})
    above = evaluator.of(formula("delta(exits) + 0 * delta(halts)"), Scope.VCPU)
    below = evaluator.of(formula("delta(halts) + 0 * delta(exits)"), Scope.VCPU)
    expected = [
        None if not denominator else pytest.approx((numerator or 0) / denominator)
        for numerator, denominator in zip(by_vm(on, above), by_vm(on, below), strict=True)
    ]
    assert plain(evaluator.of(formula("ratio(delta(exits), delta(halts), unknown)"), Scope.VM)) == expected


@settings(max_examples=60, deadline=None)
@given(windows)
def test_shares_on_both_sides_of_a_bound_are_all_and_fit_the_quantile(on: Window) -> None:
    evaluator = Evaluator(on, {})
    for at in (Scope.VCPU, Scope.VM, HOST):
        below = evaluator.of(formula("share_below(hist, 3ns)"), at)
        above = evaluator.of(formula("share_above(hist, 3ns)"), at)
        known = ~np.isnan(below)
        np.testing.assert_allclose(below[known] + above[known], 1)
        median = evaluator.of(formula("quantile(hist, 0.5)"), at)
        assert not (np.isnan(median) & known).any()
        assert (median[known & (below == 1)] < 3e-9).all()
        assert (median[known & (below == 0)] >= 3e-9).all()


@settings(max_examples=30, deadline=None)
@given(windows)
def test_every_metric_has_a_number_or_none_for_any_window_at_any_level(on: Window) -> None:
    metrics = load_metrics()
    evaluator = Evaluator(on, formulas(metrics))
    sizes: dict[Level, int] = {Scope.VCPU: len(on.current.vcpus), Scope.VM: len(on.current.vms), HOST: 1}
    for metric in metrics:
        for at, size in sizes.items():
            if not (metric.scope is Scope.VM and at is Scope.VCPU):
                values = evaluator.of(metric.name, at)
                assert values.shape == evaluator.missing(metric.name, at).shape == (size,)
                assert not np.isinf(values).any()


# --- kernels ----------------------------------------------------------------------------------------------------------


def without(name: str | None) -> Evaluator:
    """A window in which every stat of an x86 kernel moves, on a kernel that lacks one of them."""
    schemas = {
        scope: Schema("kvm", scope, tuple(stat for stat in of.descriptors if stat.name != name), of.data_size)
        for scope, of in stat_sets().items()
    }
    samples = []
    for at_s in (0, 1):
        vm, vcpus = (
            StatsOf(schemas[scope], np.arange(7, 7 + schemas[scope].words, dtype=np.uint64) * np.uint64(at_s + 1))
            for scope in (Scope.VM, Scope.VCPU)
        )
        made = [VmStats(VmId(1), [vm], [VcpuStats(0, [vcpus]), VcpuStats(1, [vcpus])])]
        samples.append(assemble(made, source="test", taken_ns=0, monotonic_ns=at_s * 10**9))
    return Evaluator(Window(*samples), formulas(load_metrics()))


def needed(expression: Expression, scope: Scope) -> set[str]:
    """The stats without which an expression is unknown, if everything else is there."""
    if isinstance(expression, StatTerm | QuantileTerm | ShareTerm):
        return {expression.stat.name}
    if isinstance(expression, Reference):
        metric = formulas(load_metrics())[expression.name]
        return needed(metric.expression, metric.scope)
    inner = Scope.VCPU if isinstance(expression, OverVcpus) else scope
    parts = [needed(part, inner) for part in children(expression)]
    return set.intersection(*parts) if isinstance(expression, Either) else set().union(*parts)


def named(formula: Formula) -> set[str]:
    """The stats that a formula reads, those of the metrics that it refers to included."""
    parts = [part for part, _ in walk(formula.expression, formula.scope)]
    found = {str(part.stat) for part in parts if isinstance(part, StatTerm)}
    metrics = formulas(load_metrics())
    return found.union(*(named(metrics[part.name]) for part in parts if isinstance(part, Reference)))


@pytest.mark.parametrize("name", [stat.name for of in stat_sets().values() for stat in of.descriptors])
def test_a_kernel_that_lacks_a_stat_leaves_unknown_what_needs_it_and_nothing_else(name: str) -> None:
    whole, lacking = without(None), without(name)
    for metric in load_metrics():
        before, after = (plain(evaluator.of(metric.name, Scope.VM)) for evaluator in (whole, lacking))
        if name in needed(metric.formula.expression, metric.scope):
            assert after == [None], metric.name
        elif name not in named(metric.formula):
            assert after == before, metric.name


def test_a_vm_has_among_many_the_values_that_it_has_among_few() -> None:
    """With some thousand vCPUs, steps take their rows one by one."""
    random = np.random.default_rng(3)

    def vms(numbers: range, more: int) -> dict[int, list[list[int] | None]]:
        words = random.integers(0, 50, (len(numbers), 3, 9)) + more * (random.random((len(numbers), 3, 1)) < 0.9)
        is_read = random.random((len(numbers), 3)) < 0.9
        return {
            vm: [row.tolist() if seen else None for row, seen in zip(of_vm, seen_of_vm, strict=True)][: vm % 30]
            for vm, of_vm, seen_of_vm in zip(numbers, words, is_read, strict=True)
        }

    many = window(vms(range(800), 0), vms(range(20, 850), 60))
    vcpus_of_vm = many.current.vcpus_of_vm
    assert len(many.current.vcpus) > 2_048
    formulas_ = [formula(text) for text in OF_VCPUS] + [formula(text, Scope.VM) for text in OF_VMS]
    of_many = Evaluator(many, {})
    for first in range(0, 780, 60):
        rows = range(first, first + 60)
        parts = only_vms(many.previous, [row + 20 for row in rows]), only_vms(many.current, rows)
        of_few = Evaluator(Window(*parts), {})
        places = {
            Scope.VM: slice(rows.start, rows.stop),
            Scope.VCPU: slice(vcpus_of_vm[rows.start].start, vcpus_of_vm[rows.stop - 1].stop),
        }
        for each, (level, place) in product(formulas_, places.items()):
            if level is Scope.VM or each.scope is Scope.VCPU:
                assert plain(of_many.of(each, level)[place]) == plain(of_few.of(each, level)), (str(each), level)
                assert of_many.missing(each, level)[place].tolist() == of_few.missing(each, level).tolist()


OF_VCPUS = (
    "rate(exits)",
    "ratio(rate(exits), rate(halts), 1)",
    "ratio(rate(exits) - 3, delta(halts), unknown) * -2",
    "seconds(poll_ns) >= 5e-9 and not rate(exits) > rate(halts)",
    "rate(exits) < 10 or rate(halts) != 3",
    "quantile(hist, 0.5)",
    "share_above(hist, 3ns)",
)
OF_VMS = (
    "max(rate(exits)) - min2(sum(rate(halts)), 40)",
    "mean(ratio(rate(exits), rate(halts), unknown))",
    "count(rate(exits) == rate(halts))",
)


def test_threads_that_ask_one_window_get_the_numbers_that_one_thread_gets() -> None:
    before, after = simulated_scenes(2)
    metrics = formulas(load_metrics())
    alone = Evaluator(Window(before, after), metrics)
    expected = {name: alone.of(name, HOST).tolist() for name in metrics}
    for _ in range(20):
        together = Evaluator(Window(before, after), metrics)
        orders = [(name, at) for name in metrics for at in (HOST, Scope.VM)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda asked, host=together: host.of(*asked).tolist(), orders))
        answers = {name: numbers for (name, at), numbers in zip(orders, found, strict=True) if at is HOST}
        assert str(answers) == str(expected)  # as text, since NaN differs from itself
