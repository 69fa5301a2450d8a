"""The types of formulas, and what is refused where."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kvmscope.errors import CatalogError
from kvmscope.formula.check import CONDITION, Context, Dimension, Formula, Type, check, constant
from kvmscope.formula.parse import blame_text, parse
from kvmscope.schema import Kind, Scope, Unit


@dataclass(frozen=True)
class FormulaShape:
    kind: Kind
    unit: Unit = Unit.NONE


STATS = {
    (Scope.VCPU, "exits"): FormulaShape(Kind.CUMULATIVE),
    (Scope.VCPU, "halts"): FormulaShape(Kind.CUMULATIVE),
    (Scope.VCPU, "poll_ns"): FormulaShape(Kind.CUMULATIVE, Unit.SECONDS),
    (Scope.VCPU, "wait_hist"): FormulaShape(Kind.LOG_HISTOGRAM, Unit.SECONDS),
    (Scope.VCPU, "blocking"): FormulaShape(Kind.INSTANT, Unit.BOOLEAN),
    (Scope.VCPU, "written"): FormulaShape(Kind.CUMULATIVE, Unit.BYTES),
    (Scope.VM, "flushes"): FormulaShape(Kind.CUMULATIVE),
    (Scope.VM, "longest"): FormulaShape(Kind.PEAK),
}
CONTEXT = Context(
    stats=lambda provider, scope, name: STATS.get((scope, name)) if provider == "kvm" else None,
    metrics={
        "exits_per_s": (Scope.VCPU, Type(dimension=Dimension(seconds=-1))),
        "flushes_per_s": (Scope.VM, Type(dimension=Dimension(seconds=-1))),
    },
    facts={(Scope.VCPU, "never_ran"): CONDITION, (Scope.VM, "age"): Type(dimension=Dimension(seconds=1))},
)


def checked(text: str, scope: Scope = Scope.VCPU) -> Formula:
    return check(parse(text), scope, CONTEXT, blame_text(text))


PER_SECOND = Dimension(seconds=-1)


@pytest.mark.parametrize(
    ("text", "scope", "dimension"),
    [
        ("rate(exits)", Scope.VCPU, PER_SECOND),
        ("delta(exits) + delta(halts)", Scope.VCPU, Dimension()),
        ("delta(poll_ns)", Scope.VCPU, Dimension(seconds=1)),
        ("seconds(poll_ns)", Scope.VCPU, Dimension()),
        ("seconds(of_a_stranger)", Scope.VCPU, Dimension()),
        ("rate(of_a_stranger)", Scope.VCPU, None),
        ("rate(stranger.stat) + rate(exits)", Scope.VCPU, PER_SECOND),
        ("quantile(wait_hist, 0.5)", Scope.VCPU, Dimension(seconds=1)),
        ("share_above(wait_hist, 1ms)", Scope.VCPU, Dimension()),
        ("share_above(wait_hist, 1)", Scope.VCPU, Dimension()),
        ("value(blocking)", Scope.VCPU, Dimension()),
        ("ratio(rate(exits), rate(halts), 0)", Scope.VCPU, Dimension()),
        ("ratio(delta(poll_ns), delta(halts), unknown)", Scope.VCPU, Dimension(seconds=1)),
        ("ratio(1, rate(exits), unknown)", Scope.VCPU, Dimension(seconds=1)),
        ("rate(exits) * 2", Scope.VCPU, PER_SECOND),
        ("rate(exits) * 2s", Scope.VCPU, Dimension()),
        ("value(exits) * 4KiB", Scope.VCPU, Dimension(bytes=1)),
        ("rate(written) / (2 * 3)", Scope.VCPU, Dimension(seconds=-1, bytes=1)),
        ("max2(0, rate(exits) - 5)", Scope.VCPU, PER_SECOND),
        ("-exits_per_s", Scope.VCPU, PER_SECOND),
        ("either(rate(a_stranger), rate(exits))", Scope.VCPU, PER_SECOND),
        ("rate(flushes) + exits_per_s", Scope.VM, PER_SECOND),
        ("sum(rate(exits))", Scope.VM, PER_SECOND),
        ("max(quantile(wait_hist, 0.9))", Scope.VM, Dimension(seconds=1)),
        ("count(fact(never_ran))", Scope.VM, Dimension()),
        ("value(longest)", Scope.VM, Dimension()),
        ("fact(age)", Scope.VM, Dimension(seconds=1)),
    ],
)
def test_a_number_has_the_dimension_of_its_stats(text: str, scope: Scope, dimension: Dimension | None) -> None:
    assert checked(text, scope) == Formula(parse(text), scope, Type(dimension=dimension))


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("rate(exits) > 100", Scope.VCPU),
        ("quantile(wait_hist, 0.99) < 50us and not fact(never_ran)", Scope.VCPU),
        ("exits_per_s > 5 or flushes_per_s > 3", Scope.VM),
        ("count(exits_per_s > 5) >= 1", Scope.VM),
    ],
)
def test_conditions_are_told_from_numbers(text: str, scope: Scope) -> None:
    assert checked(text, scope).type == CONDITION


@pytest.mark.parametrize(
    ("text", "scope", "column", "message"),
    [
        ("rate(flushes)", Scope.VCPU, 1, "expected a stat of vCPUs, found flushes, one of VMs"),
        ("1 + rate(exits)", Scope.VM, 5, r"expected a stat of VMs, or sum\(…\), .*, found exits, one of vCPUs"),
        ("sum(rate(flushes))", Scope.VM, 5, "expected a stat of vCPUs"),
        ("sum(rate(exits))", Scope.VCPU, 1, r"expected a formula of one vCPU, found sum\(…\)"),
        ("sum(sum(rate(exits)))", Scope.VM, 5, "expected a formula of one vCPU"),
        ("rate(blocking)", Scope.VCPU, 1, r"expected a cumulative stat, or value\(blocking\), found blocking, an inst"),
        ("delta(longest)", Scope.VM, 1, "found longest, a peak"),
        ("value(wait_hist)", Scope.VCPU, 1, "expected a stat of one value, found wait_hist, a histogram"),
        ("quantile(exits, 0.5)", Scope.VCPU, 1, "expected a histogram, found exits, a cumulative one"),
        ("rate(poll_ns)", Scope.VCPU, 1, r"expected seconds\(poll_ns\), since it counts time"),
        ("seconds(exits)", Scope.VCPU, 1, "expected a stat that counts time, found exits, which does not"),
        ("share_above(wait_hist, 4KiB)", Scope.VCPU, 24, "expected a bound in seconds, found one in bytes"),
        ("rate(exits) + seconds(poll_ns)", Scope.VCPU, 15, r"expected a number \(number per second\), found a number"),
        ("rate(exits) > delta(exits)", Scope.VCPU, 15, "found a number"),
        ("rate(exits) / rate(halts)", Scope.VCPU, 13, r"a division by a constant that is not 0, or ratio\(a, b, zero"),
        ("rate(exits) / (1 - 1)", Scope.VCPU, 13, "expected a division by a constant that is not 0"),
        ("either(rate(exits), seconds(poll_ns))", Scope.VCPU, 21, "like the first, found a number"),
        ("either(rate(exits), fact(never_ran))", Scope.VCPU, 21, "like the first, found a condition"),
        ("(1 < 2) + 3", Scope.VCPU, 4, "expected a number, found a condition"),
        ("not rate(exits)", Scope.VCPU, 5, "expected a condition, found a number"),
        ("rate(exits) and 1 < 2", Scope.VCPU, 1, "expected a condition, found a number"),
        ("1 < 2 or rate(exits)", Scope.VCPU, 10, "expected a condition, found a number"),
        ("count(rate(exits))", Scope.VM, 7, "expected a condition, found a number"),
        ("mean(1 < 2)", Scope.VM, 8, "expected a number, found a condition"),
        ("flushes_per_s", Scope.VCPU, 1, "expected a metric of vCPUs, found flushes_per_s, one of VMs"),
        ("exitsss_per_s", Scope.VCPU, 1, "expected a metric, found 'exitsss_per_s'"),
        ("fact(age) > 1", Scope.VCPU, 1, "expected a fact of vCPUs, found 'age'"),
        ("fact(nothing)", Scope.VM, 1, "expected a fact of VMs, found 'nothing'"),
    ],
)
def test_what_does_not_fit_together_is_refused_at_its_place(text: str, scope: Scope, column: int, message: str) -> None:
    with pytest.raises(CatalogError, match=message) as raised:
        checked(text, scope)
    assert raised.value.column == column


@pytest.mark.parametrize(
    ("text", "value"),
    [("2 * (3 + 4) - -1", 15.0), ("1 / 4", 0.25), ("1 / 0", None), ("min2(1, 2) + max2(1, 2)", 3.0), ("a", None)],
)
def test_constants_are_worked_out(text: str, value: float | None) -> None:
    assert constant(parse(text)) == value
