"""How long a command looks at a host, in intervals."""

from __future__ import annotations

from ..catalog.windows import USUAL_WINDOWS
from ..errors import UsageError


def count_intervals(look_s: float, interval_s: float) -> int:
    """The number of intervals of a look that rules judge. Raises UsageError if rules need more."""
    count = int(look_s / interval_s + 1e-6)
    if count < USUAL_WINDOWS:
        raise UsageError(
            f"--for {look_s:g}s is too short for {USUAL_WINDOWS} intervals of {interval_s:g}s, which rules need; "
            f"shorten --interval or lengthen --for"
        )
    return count
