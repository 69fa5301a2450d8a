"""The data kept for each interval of the watched host: a row of history, a scene in memory, an event for open pages."""

from __future__ import annotations

from ...view.jsonout import dump, to_value
from ...view.summary import host_summary
from ...view.watch import HostView
from .events import EventHub
from .history import MetricHistory
from .scene_memory import SceneMemory


class IntervalLog:
    """Takes the views of a host in order, in one thread; any thread may read the kept data."""

    def __init__(self) -> None:
        self.history = MetricHistory()
        self.memory = SceneMemory()
        self.hub = EventHub()

    def add(self, view: HostView) -> None:
        """Add an interval."""
        self.history.add(view)
        self.memory.add(view.scene)
        self.hub.publish(dump(to_value(host_summary(view)), one_line=True))
