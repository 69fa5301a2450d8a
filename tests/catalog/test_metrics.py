"""The metrics file: whole, strict about what it does not know, and right about the stats that it names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvmscope.catalog.metrics import Metric, MetricUnit, formulas, load_metrics, metric_context, parse_metrics
from kvmscope.catalog.stats import load_stats
from kvmscope.errors import CatalogError
from kvmscope.formula.check import no_stats
from kvmscope.formula.parse import parse
from kvmscope.formula.text import write
from kvmscope.formula.tree import Either, Expression, OverVcpus, QuantileTerm, ShareTerm, StatTerm, children, walk
from kvmscope.schema import Scope

ENTRY = """
[[metric]]
name = "exits_per_s"
title = "exits/s"
unit = "per-second"
scope = "vcpu"
formula = "either(rate(exits), rate(sum_exits))"
help = "How often."
good = "Few."
bad = "Many."
column = true
"""
OTHER = ENTRY.replace("exits_per_s", "other")


def parsed(text: str) -> tuple[Metric, ...]:
    return parse_metrics(text, "mine.toml", load_stats().find)


def test_a_metric_is_read_as_it_stands() -> None:
    [metric] = parsed(ENTRY)
    assert (metric.name, metric.title, metric.unit) == ("exits_per_s", "exits/s", MetricUnit.PER_SECOND)
    assert (metric.scope, metric.column) == (Scope.VCPU, True)
    assert metric.formula.expression == parse("either(rate(exits), rate(sum_exits))")
    assert (metric.help, metric.good, metric.bad) == ("How often.", "Few.", "Many.")
    assert formulas([metric]) == {"exits_per_s": metric.formula}


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        (
            ENTRY.replace('title = "exits/s"\n', ""),
            "mine.toml:2: metric exits_per_s: expected a key 'title', found none",
        ),
        (ENTRY + 'colour = "red"', "mine.toml:12: metric exits_per_s: colour: expected one of .*, found 'colour'"),
        (
            ENTRY.replace('"per-second"', '"percent"'),
            "mine.toml:5: .*unit: expected one of per-second, cpus, .*percent",
        ),
        (ENTRY.replace('"per-second"', '"bytes"'), "mine.toml:5: .*one for a number in number per second, .*'bytes'"),
        (ENTRY.replace('"vcpu"', '"host"'), "mine.toml:6: .*scope: expected one of vm, vcpu, found 'host'"),
        (ENTRY.replace("column = true", 'column = "yes"'), "mine.toml:11: .*expected true or false"),
        (ENTRY + ENTRY, "mine.toml:14: .*expected a unique name, found 'exits_per_s', which line 2 has"),
        (ENTRY.replace("sum_exits))", "sum_exits)"), r"mine.toml:7:47: .*: formula: expected '\)', found the end"),
        (ENTRY.replace("rate(exits)", "rate(halt_wait_ns)"), r"mine.toml:7:19: .*expected seconds\(halt_wait_ns\)"),
        (ENTRY.replace("rate(sum", "rate(exits) < rate(sum"), "mine.toml:7:44: .*like the first, found a condition"),
        (
            ENTRY.replace("either(rate(exits), rate(sum_exits))", "1 < 2"),
            "formula: expected a number, found a condition",
        ),
        (ENTRY.replace("rate(sum_exits)", "others"), "mine.toml:7:32: .*expected a metric, found 'others'"),
        ("[[metrics]]", r"mine.toml:1: metrics: expected \[\[metric\]\], found 'metrics'"),
        ("[[metric]\n", "mine.toml:1:9: expected TOML, found expected ']]'"),
    ],
)
def test_a_spoiled_file_is_refused_at_its_place(spoiled: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        parsed(spoiled)


def test_a_formula_may_name_metrics_that_come_later() -> None:
    first, second = parsed(ENTRY.replace("rate(sum_exits)", "other * 2") + OTHER)
    assert first.formula.type == second.formula.type


def test_metrics_that_need_each_other_are_refused() -> None:
    ring = ENTRY.replace("rate(sum_exits)", "other") + OTHER.replace("rate(sum_exits)", "exits_per_s")
    with pytest.raises(
        CatalogError, match=r"mine.toml:18:32: .*expected a metric that does not need this one, found 'ex"
    ):
        parsed(ring)
    with pytest.raises(CatalogError, match="found 'exits_per_s'"):
        parsed(ENTRY.replace("rate(sum_exits)", "exits_per_s"))


def test_a_stat_that_no_catalogue_knows_is_taken_as_it_is_meant() -> None:
    [metric] = parse_metrics(ENTRY, "mine.toml", no_stats)
    assert metric.formula.type.dimension is None


# --- the file itself --------------------------------------------------------------------------------------------------

METRICS = load_metrics()


def each(metrics: tuple[Metric, ...] = METRICS) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("metric", metrics, ids=lambda metric: metric.name)


@each()
def test_every_metric_says_what_it_is_and_what_is_good_and_bad(metric: Metric) -> None:
    assert 0 < len(metric.title) <= 14
    for text in (metric.help, metric.good, metric.bad):
        assert text.endswith((".", "only).", "later)."))
        assert text[0].isupper() or text[0].isdigit() or text.startswith("vCPUs")


@each()
def test_the_name_ends_as_the_unit_asks(metric: Metric) -> None:
    ending = {
        MetricUnit.PER_SECOND: "_per_s",
        MetricUnit.CPUS: "_cpus",
        MetricUnit.SHARE: "_share",
        MetricUnit.SECONDS: "_s",
        MetricUnit.BYTES: "_bytes",
    }.get(metric.unit, "")
    assert metric.name.endswith(ending)
    if metric.unit is MetricUnit.COUNT:
        assert not metric.name.endswith(("_per_s", "_cpus", "_share", "_s", "_bytes")) or metric.name.endswith("vcpus")


def leaves(metric: Metric) -> Iterator[tuple[StatTerm | QuantileTerm | ShareTerm, Scope]]:
    for part, scope in walk(metric.formula.expression, metric.scope):
        if isinstance(part, StatTerm | QuantileTerm | ShareTerm):
            yield part, scope


@each()
def test_every_stat_of_a_metric_is_in_the_catalogue(metric: Metric) -> None:
    for leaf, scope in leaves(metric):
        assert load_stats().find(leaf.stat.provider, scope, leaf.stat.name), write(leaf)


@each()
def test_some_architecture_has_all_that_a_metric_needs(metric: Metric) -> None:
    assert architectures(metric.formula.expression, metric.scope)


def architectures(expression: Expression, scope: Scope) -> set[str]:
    """Those whose newest kernels have every stat that the expression needs."""
    everywhere = {"x86", "arm64", "riscv", "s390", "powerpc", "mips", "loongarch"}
    if isinstance(expression, StatTerm | QuantileTerm | ShareTerm):
        entry = load_stats().find(expression.stat.provider, scope, expression.stat.name)
        assert entry is not None
        return set(entry.since)
    parts = [
        architectures(part, Scope.VCPU if isinstance(expression, OverVcpus) else scope) for part in children(expression)
    ]
    if isinstance(expression, Either):
        return set().union(*parts)
    return everywhere.intersection(*parts)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exits_per_s", {"x86", "arm64", "riscv", "powerpc"}),
        ("halts_per_s", {"x86", "arm64", "riscv", "loongarch", "mips", "s390"}),
        ("signals_per_s", {"x86", "arm64", "riscv", "s390", "powerpc", "mips", "loongarch"}),
        ("halt_poll_cpus", {"x86", "arm64", "riscv", "s390", "powerpc", "mips", "loongarch"}),
        ("mmio_exits_per_s", {"x86", "arm64", "riscv", "powerpc"}),
        ("large_pages", {"x86", "powerpc", "loongarch"}),
        ("pf_fast_share", {"x86"}),
    ],
)
def test_a_metric_is_there_on_the_architectures_that_count_it(name: str, expected: set[str]) -> None:
    [metric] = [metric for metric in METRICS if metric.name == name]
    assert architectures(metric.formula.expression, metric.scope) == expected


@each(tuple(metric for metric in METRICS if metric.column))
def test_a_column_of_the_status_screen_adds_up_and_has_a_head_that_fits(metric: Metric) -> None:
    assert metric.unit.adds_up
    assert len(metric.title) <= 10


def test_the_columns_of_the_status_screen_come_first() -> None:
    columns = [metric.column for metric in METRICS]
    assert columns == sorted(columns, reverse=True)


def test_the_context_of_other_formulas_has_every_metric() -> None:
    assert set(metric_context().metrics) == {metric.name for metric in METRICS}
