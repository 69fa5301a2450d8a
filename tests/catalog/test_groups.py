"""The groups of groups.toml."""

from __future__ import annotations

from kvmscope.catalog.groups import load_groups
from kvmscope.catalog.metrics import load_metrics


def test_the_rate_of_events_of_a_group_is_a_metric() -> None:
    metrics = {metric.name for metric in load_metrics()}
    rates = {group.rate for group in load_groups().values() if group.rate}
    assert rates
    assert rates <= metrics


def test_a_group_whose_events_have_a_rate_has_their_cost() -> None:
    assert all(group.ns_per_event for group in load_groups().values() if group.rate)
