"""What must hold for a condition to hold, without the parts that are costly to read.

A query over many hosts asks this first, and the condition itself only where it may hold.
Rule: wherever the condition holds, what is returned holds. The other way round nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .tree import Expression, Join, Junction


def necessary(condition: Expression, is_left_out: Callable[[Expression], bool]) -> Expression | None:
    """The condition without the parts that are left out; None if nothing follows from it without them.

    ``is_left_out``: asked of what ``and`` and ``or`` connect.
    """
    if not isinstance(condition, Join):
        return None if is_left_out(condition) else condition
    left, right = necessary(condition.left, is_left_out), necessary(condition.right, is_left_out)
    if left is not None and right is not None:
        return replace(condition, left=left, right=right)
    return None if condition.junction is Junction.OR else left or right
