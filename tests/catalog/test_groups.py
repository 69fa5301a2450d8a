"""The groups of groups.toml."""

from __future__ import annotations

from kvmscope.catalog.groups import load_groups
from kvmscope.catalog.metrics import load_metrics
from kvmscope.catalog.stats import load_stats
from kvmscope.schema import Kind


def test_the_rate_of_events_of_a_group_is_a_metric() -> None:
    metrics = {metric.name for metric in load_metrics()}
    rates = {group.rate for group in load_groups().values() if group.rate}
    assert rates
    assert rates <= metrics


def test_what_a_group_counts_is_said_to_count_only_since_it_was_attached() -> None:
    counts = [stat for stat in load_stats() if stat.provider in load_groups() and stat.kind is not Kind.INSTANT]
    assert {stat.provider for stat in counts} == set(load_groups()) - {"apic"}
    without = [f"{stat.provider}.{stat.name}" for stat in counts if "counted-since-attach" not in stat.caveats]
    assert without == [], "`every` of caveat counted-since-attach lacks the group"


def test_a_group_whose_events_have_a_rate_has_their_cost() -> None:
    assert all(group.ns_per_event for group in load_groups().values() if group.rate)
