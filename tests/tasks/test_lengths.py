"""How many intervals a look by rules has."""

from __future__ import annotations

import pytest

from kvmscope.catalog.findings import load_findings
from kvmscope.errors import UsageError
from kvmscope.tasks.lengths import count_intervals


@pytest.mark.parametrize(
    ("look_s", "interval_s", "count"), [(10, 1, 10), (0.3, 0.1, 3), (2.5, 1, 2), (60, 0.7, 85), (2, 1, 2)]
)
def test_a_look_has_the_whole_intervals_that_fit(look_s: float, interval_s: float, count: int) -> None:
    assert count_intervals(look_s, interval_s) == count


def test_a_look_is_too_short_where_the_most_rules_could_never_fire() -> None:
    windows = [rule.windows for rule in load_findings()]
    usual = max(set(windows), key=windows.count)
    assert count_intervals(usual, 1) == usual
    with pytest.raises(UsageError, match=f"too short for {usual} intervals of 1s.*shorten --interval"):
        count_intervals(usual - 0.01, 1)
