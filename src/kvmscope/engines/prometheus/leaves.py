"""One exported count over one window, as PromQL: its increase and its rate per second.

The window is defined as in numpy: from one scrape to a later one, last minus first over the time between the two.
``rate`` and ``increase`` are not used. They extrapolate to the borders of the range, and count a counter's value after
a reset as its increase. Instead:

- ``x - x offset W`` are two real samples, and ``timestamp`` says when each was scraped. A failed or late scrape makes
  the window longer, not the rate wrong.
- A count that fell from one end to the other (``>= 0``) or in between (``resets``) is unknown.
- A series is unknown if it is new or has no newer sample than at the beginning of the window.
- A sum over vCPUs is unknown where the number of vCPUs has changed.

What remains: a counter in seconds is a float, so a difference has an error of 2**-52 of the counter's whole value.
Source: Prometheus, "Querying basics" (offset, staleness), "Query functions" (timestamp, resets), and
extrapolatedRate in promql/functions.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...catalog.series_names import VM_VCPUS


@dataclass(frozen=True, slots=True)
class ExportedCount:
    """A cumulative series. ``is_sum``: over the vCPUs of a VM. ``has_bounds``: one series for each bucket, label
    ``le``."""

    series: str
    is_sum: bool = False
    has_bounds: bool = False


class Leaves:
    """Leaves that are printed in place. ``window``: a duration of PromQL such as ``1m``."""

    def __init__(self, window: str) -> None:
        self.window = window

    def change(self, count: ExportedCount, matcher: str = "") -> str:
        """The increase. ``matcher``: as between braces."""
        x = _selector(count, matcher)
        is_newer = f"timestamp({x}) > timestamp({x} offset {self.window})"
        return f"({x} - {x} offset {self.window} >= 0 and {is_newer}{self._guards(count, x)})"

    def rate(self, count: ExportedCount, matcher: str = "") -> str:
        """The increase per second."""
        x = _selector(count, matcher)
        elapsed = f"(timestamp({x}) - timestamp({x} offset {self.window}) > 0)"
        return f"(({x} - {x} offset {self.window} >= 0) / {elapsed}{self._guards(count, x)})"

    def _guards(self, count: ExportedCount, x: str) -> str:
        """Conditions that drop counts that fell within the window and sums over a changed number of vCPUs."""
        fell = f" unless resets({x}[{self.window}]) > 0"
        if not count.is_sum:
            return fell
        by = " ignoring (le)" if count.has_bounds else ""
        vcpus = VM_VCPUS.sample_name
        return f"{fell} and{by} {vcpus} == {vcpus} offset {self.window}"


def _selector(count: ExportedCount, matcher: str) -> str:
    return f"{count.series}{{{matcher}}}" if matcher else count.series
