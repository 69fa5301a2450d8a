"""How much an episode keeps, how often one begins, and what its groups may cost."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

from ..catalog.findings import Severity
from ..sample import VmId

HOUR_NS: Final = 3600 * 10**9
_FIRST_PAUSE_NS: Final = HOUR_NS // 6
_LONGEST_PAUSE_NS: Final = 24 * HOUR_NS
_AN_HOUR_AT_MOST: Final = 12
_SHARE_OF_ONE: Final = 4


@dataclass(frozen=True, slots=True)
class EpisodeLimits:
    """``before_s``, ``after_s``: time to keep before the first finding begins and after the last one ends.

    ``longest_s``: from the first finding on. ``memory_bytes``: of the scenes held for ``before_s``. ``most``,
    ``size_bytes``: number and size of all episodes of a recording. ``level``: of the least severe finding that begins
    one. ``groups``: groups to count in an episode. ``budget_cpus``: limit for their total cost.
    """

    before_s: float = 120.0
    after_s: float = 60.0
    longest_s: float = 600.0
    memory_bytes: int = 256 << 20
    most: int = 100
    size_bytes: int = 2 << 30
    level: Severity = Severity.WARNING
    groups: tuple[str, ...] = ()
    budget_cpus: float = 0.05

    @property
    def size_of_one(self) -> int:
        """Size limit of one episode in bytes; without it, a long episode would displace all others."""
        return self.size_bytes // _SHARE_OF_ONE


TriggerKey: TypeAlias = tuple[str, VmId]
"""A rule and a VM."""


@dataclass(slots=True)
class _Pause:
    length_ns: int
    until_ns: int


class EpisodePauses:
    """Which findings may begin an episode: a recurring finding only after increasing pauses.

    The same rule on the same VM begins no other episode for 10 minutes, and the pause doubles whenever the finding
    recurs within the pause that follows. At most 12 episodes begin in an hour. Times are CLOCK_BOOTTIME nanoseconds.
    """

    def __init__(self) -> None:
        self._pauses: dict[TriggerKey, _Pause] = {}
        self._begun: deque[int] = deque()

    def may_begin(self, key: TriggerKey, now_ns: int) -> bool:
        while self._begun and self._begun[0] <= now_ns - HOUR_NS:
            self._begun.popleft()
        pause = self._pauses.get(key)
        return len(self._begun) < _AN_HOUR_AT_MOST and (pause is None or now_ns >= pause.until_ns)

    def note_episode(self, now_ns: int) -> None:
        """Note that an episode has begun."""
        self._begun.append(now_ns)

    def note_finding(self, key: TriggerKey, now_ns: int) -> None:
        """Note that the finding is part of an episode."""
        self._forget(now_ns)
        last = self._pauses.get(key)
        if last is not None and now_ns < last.until_ns:
            return
        length_ns = _FIRST_PAUSE_NS if last is None else min(2 * last.length_ns, _LONGEST_PAUSE_NS)
        self._pauses[key] = _Pause(length_ns, now_ns + length_ns)

    def _forget(self, now_ns: int) -> None:
        """Forget findings that did not recur for as long as their pause."""
        over = [key for key, pause in self._pauses.items() if now_ns >= pause.until_ns + pause.length_ns]
        for key in over:
            del self._pauses[key]
