"""What a formula becomes where certain stats are there: the tree as text, and as a value."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from kvmscope.catalog.metrics import formulas, load_metrics
from kvmscope.errors import UsageError
from kvmscope.formula.check import Formula, Type
from kvmscope.formula.parse import parse
from kvmscope.formula.resolve import resolve
from kvmscope.formula.resolved import (
    Cohort,
    Constant,
    Operation,
    Presence,
    Quantity,
    ResolvedFormula,
    ScopedStat,
    StatColumn,
    StatTotal,
    Unresolved,
    walk_resolved,
)
from kvmscope.formula.tree import HOST, Level, Operator
from kvmscope.lab.simulated_kvm import stat_sets
from kvmscope.schema import Descriptor, Kind, Scope, Unit
from kvmscope.schema import Unknown as UnknownCode

DESCRIPTORS = {
    ("kvm", scope, stat.name): stat
    for scope, stats in {
        Scope.VCPU: (
            Descriptor("exits", Kind.CUMULATIVE),
            Descriptor("halts", Kind.CUMULATIVE),
            Descriptor("poll_ns", Kind.CUMULATIVE, Unit.SECONDS, exponent=-9),
            Descriptor("depth", Kind.INSTANT),
            Descriptor("longest", Kind.PEAK),
            Descriptor("odd", UnknownCode(9)),
            Descriptor("pair", Kind.CUMULATIVE, size=2),
            Descriptor("hist", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=4),
        ),
        Scope.VM: (Descriptor("flushes", Kind.CUMULATIVE),),
    }.items()
    for stat in stats
}
METRICS = {
    "exits_per_s": Formula(parse("rate(exits)"), Scope.VCPU, Type()),
    "per_halt": Formula(parse("ratio(exits_per_s, rate(halts), unknown)"), Scope.VCPU, Type()),
}


def resolved(text: str, level: Level, *, scope: Scope = Scope.VCPU) -> ResolvedFormula:
    formula = Formula(parse(text), scope, Type())
    return resolve(formula, level, DESCRIPTORS, metrics=METRICS, facts=[(Scope.VM, "age")])


@pytest.mark.parametrize(
    ("text", "of_vcpus", "of_vms"),
    [
        ("rate(exits)", "rate(kvm.exits@vcpu)", "sum[vm](rate(kvm.exits@vcpu) where change(kvm.exits@vcpu))"),
        ("value(longest)", "now(kvm.longest@vcpu)", "max[vm](now(kvm.longest@vcpu) where now(kvm.longest@vcpu))"),
        (
            "seconds(poll_ns)",
            "rate(kvm.poll_ns@vcpu)",
            "sum[vm](rate(kvm.poll_ns@vcpu) where change(kvm.poll_ns@vcpu))",
        ),
        (
            "quantile(hist, 0.5)",
            "quantile(buckets(kvm.hist@vcpu), 0.5)",
            "quantile(sum[vm](buckets(kvm.hist@vcpu) where change(kvm.hist@vcpu)), 0.5)",
        ),
        (
            "share_above(hist, 1ms) * 2",
            "(share_above(buckets(kvm.hist@vcpu), 0.001) * 2.0)",
            "(share_above(sum[vm](buckets(kvm.hist@vcpu) where change(kvm.hist@vcpu)), 0.001) * 2.0)",
        ),
        ("either(rate(absent), delta(exits))", "change(kvm.exits@vcpu)", None),
        ("either(either(rate(absent)), fact(age), value(depth))", "unknown[no fact age]", "fact[vm](age)"),
        ("-min2(1, 2ms)", "-(min2(1.0, 0.002))", "-(min2(1.0, 0.002))"),
        ("not delta(exits) < 1", "not ((change(kvm.exits@vcpu) < 1.0))", None),
        ("fact(age)", "unknown[no fact age]", "fact[vm](age)"),
    ],
)
def test_a_formula_has_everything_that_it_needs_in_its_text(text: str, of_vcpus: str, of_vms: str | None) -> None:
    assert str(resolved(text, Scope.VCPU)) == of_vcpus
    if of_vms is not None:
        assert str(resolved(text, Scope.VM)) == of_vms


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rate(absent)", "no stat kvm.absent@vcpu"),
        ("rate(apicv.exits)", "no stat apicv.exits@vcpu"),
        ("rate(depth)", "kvm.depth@vcpu is not cumulative"),
        ("seconds(exits)", "kvm.exits@vcpu does not count time"),
        ("value(hist)", "kvm.hist@vcpu is a histogram"),
        ("value(pair)", "kvm.pair@vcpu has 2 words"),
        ("value(odd)", "kvm.odd@vcpu has a kind or unit that is not known"),
        ("quantile(exits, 0.5)", "kvm.exits@vcpu is not a histogram"),
        (
            "either(rate(absent), rate(depth))",
            "none of 2 options: no stat kvm.absent@vcpu; kvm.depth@vcpu is not cumulat",
        ),
    ],
)
def test_what_is_not_here_is_a_node_with_its_reason(text: str, reason: str) -> None:
    for level in (Scope.VCPU, Scope.VM, HOST):
        node = resolved(text, level).node
        assert isinstance(node, Unresolved)
        assert node.reason.startswith(reason)
        assert node.scope is Scope.VCPU


def test_leaves_of_one_expression_are_summed_over_the_same_vcpus_those_of_metrics_included() -> None:
    totals = [
        node for node in walk_resolved(resolved("per_halt + value(depth)", HOST).node) if isinstance(node, StatTotal)
    ]
    assert len(totals) == 3
    expected = "change(kvm.exits@vcpu) and change(kvm.halts@vcpu) and now(kvm.depth@vcpu)"
    assert {str(total.cohort) for total in totals} == {expected}


def test_sides_of_a_comparison_and_metrics_of_another_scope_have_their_own_vcpus() -> None:
    of_sides = resolved("rate(exits) > rate(halts)", Scope.VM)
    assert str(of_sides) == (
        "(sum[vm](rate(kvm.exits@vcpu) where change(kvm.exits@vcpu))"
        " > sum[vm](rate(kvm.halts@vcpu) where change(kvm.halts@vcpu)))"
    )
    of_scopes = resolved("delta(flushes) + exits_per_s", Scope.VM, scope=Scope.VM)
    assert str(of_scopes) == ("(change(kvm.flushes@vm) + sum[vm](rate(kvm.exits@vcpu) where change(kvm.exits@vcpu)))")


def test_an_expression_with_an_unknown_leaf_sums_nothing() -> None:
    assert str(resolved("rate(exits) + rate(absent)", Scope.VM)) == (
        "(unknown[no stat kvm.absent@vcpu] + unknown[no stat kvm.absent@vcpu])"
    )


def test_folds_are_of_the_values_of_vcpus() -> None:
    assert str(resolved("count(per_halt > 5)", HOST, scope=Scope.VM)) == (
        "count[host]((ratio(rate(kvm.exits@vcpu), rate(kvm.halts@vcpu), unknown) > 5.0))"
    )


def test_a_resolved_formula_is_a_value() -> None:
    stat = ScopedStat("kvm", Scope.VCPU, "exits")
    column = StatColumn(stat, Quantity.RATE, DESCRIPTORS[stat])
    total = StatTotal(column, Scope.VM, Cohort((Presence(stat, is_change=True),)))
    by_hand = ResolvedFormula(Operation(Operator.ADD, total, Constant(1.0)), Scope.VM)
    found = resolved("exits_per_s + 1", Scope.VM)
    assert found == by_hand
    assert hash(found) == hash(by_hand)
    assert {found: "kept"}[by_hand] == "kept"
    assert found != resolved("exits_per_s + 2", Scope.VM)


def test_a_resolved_formula_is_found_again_by_another_process() -> None:
    """Strings hash differently there, so a hash that was computed here must not be taken along."""
    found = resolved("per_halt > 1", Scope.VM)
    hash(found)
    again = "import pickle, sys; a, b = pickle.load(sys.stdin.buffer); b = type(b)(b.node, b.level); print({a: 1}[b])"
    fresh = resolved("per_halt > 1", Scope.VM)
    done = subprocess.run(
        [sys.executable, "-c", again], input=pickle.dumps((found, fresh)), capture_output=True, check=True
    )
    assert done.stdout == b"1\n"


def test_what_cannot_be_asked_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"delta\(flushes\) belongs to VMs"):
        resolved("delta(flushes)", Scope.VCPU, scope=Scope.VM)
    with pytest.raises(UsageError, match="there is no metric 'nothing'"):
        resolved("nothing * 2", Scope.VM)


def test_every_metric_of_the_catalogue_reads_only_stats_that_are_there() -> None:
    descriptors = {
        ("kvm", scope, stat.name): stat for scope, stats in stat_sets().items() for stat in stats.descriptors
    }
    metrics = formulas(load_metrics())
    for name, formula in metrics.items():
        for level in (formula.scope, HOST):
            tree = resolve(formula, level, descriptors, metrics=metrics)
            columns = [node for node in walk_resolved(tree.node) if isinstance(node, StatColumn)]
            assert all(descriptors[column.stat] == column.descriptor for column in columns), name
            assert str(tree) == str(resolve(formula, level, descriptors, metrics=metrics))
