"""The cost of counting events, in CPUs: their number per second, counted or estimated, times the cost of one.

Rule: unknown values are None; NaN ends here.
"""

from __future__ import annotations

import numpy as np

from ..schema import Scope
from .evaluate import Evaluator
from .events import rates
from .window import Window


def counted_cost(window: Window, provider: str, ns_per_event: int) -> float | None:
    """The cost of the events that a group counted in the window, on the whole host; None if it counted nothing yet."""
    schemas = {block.schema for block in window.current.blocks if block.schema.provider == provider}
    previous = {block.schema for block in window.previous.blocks if block.schema.provider == provider}
    if not schemas & previous:
        return None
    evaluator = Evaluator(window, {})
    per_s = 0.0
    for schema in schemas:
        per_s += float(np.nansum(evaluator.all_of(rates(schema))))
    return per_s * ns_per_event / 1e9


def expected_cost(evaluator: Evaluator, metric: str, ns_per_event: int) -> float | None:
    """The expected cost of counting as many events as ``metric`` gives for all VMs; None if no VM has the metric."""
    per_s = evaluator.of(metric, Scope.VM)
    if not len(per_s) or bool(np.isnan(per_s).all()):
        return None
    return float(np.nansum(per_s)) * ns_per_event / 1e9
