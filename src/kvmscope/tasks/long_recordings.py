"""The last interval of a recording with all findings up to it, as ``doctor`` shows it.

numpy judges a recording interval by interval, at a cost for each that hardly depends on its size. For a long recording,
DuckDB determines where rules hold, one piece of time after the other, and ``analysis.rule_history`` follows their
states. Output needs evidence and texts, so numpy replays the windows that are shown: the last one, those in which
findings ended, and those that DuckDB leaves undecided (``engines.rule_flags``). The result is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from ..analysis.rule_history import RuleHistory
from ..analysis.rule_states import RuleStates
from ..catalog.findings import Rule, load_findings
from ..collect import RecordedHost, SceneHost
from ..errors import QueryError, RecordingError, Unavailable
from ..sample import I64Array, Sample, U64Array, VmId
from ..scene import Scene
from ..schema import Scope
from ..store.replay import SceneMoment
from ..view.values import Moment
from ..view.watch import GoneVm, HostView, PastWindows, Watch
from .watching import read_views

if TYPE_CHECKING:
    from ..engines.recording_pieces import LeavingVm
    from ..engines.rule_flags import FlaggedRecording
    from ..store.recording import Recording

LONG: Final = 200_000
"""The number of vCPUs, summed over all intervals, from which a recording is long."""
_FEW: Final = 100
"""A recording with fewer intervals is judged one by one, however large the host."""
_PIECE_ROWS: Final = 400_000
"""Approximate number of vCPUs in all scenes of a piece, for which DuckDB needs a few hundred MiB."""
_PIECE_SCENES: Final = 2000
_MEMORY_BYTES: Final = 1 << 30


@dataclass(frozen=True)
class JudgedHost:
    """The views of the last interval. ``note``: how a long recording was judged, else empty."""

    view: HostView
    note: str = ""


def judge_host(host: SceneHost, interval_s: float, *, first: Scene, count: int | None) -> JudgedHost:
    """Look at ``count`` intervals, or at all of a recording, and keep the findings that ended in them."""
    note = ""
    if isinstance(host, RecordedHost) and (recording := _local_recording(host)) is not None:
        moments = [host.moments[0], *host.path(interval_s)]
        if _is_long(len(moments) - 1, first):
            try:
                return _judged(recording, moments, first)
            except (QueryError, RecordingError, Unavailable) as error:
                note = f"{len(moments) - 1:,} intervals are judged one by one: {error}"
    *_, view = read_views(host, interval_s, first=first, count=count, keeps_ended=True)
    return JudgedHost(view, note)


def _local_recording(host: RecordedHost) -> Recording | None:
    """The recording behind a host; None for a snapshot, a file with a scene or an object store."""
    from ..store.recording import Recording  # pyarrow

    series = host.series
    return series if isinstance(series, Recording) and series.can_grow else None


def _is_long(windows: int, first: Scene) -> bool:
    is_long = windows >= _FEW and windows * len(first.sample.vcpus) >= LONG
    return is_long and not any(rule.scope is Scope.VCPU for rule in load_findings())


def _judged(recording: Recording, moments: Sequence[SceneMoment], first: Scene) -> JudgedHost:
    from ..engines.recordings import open_recordings
    from ..engines.rule_flags import FlaggedRecording  # both load pyarrow

    windows = _RecordedWindows(recording, moments, first)
    decided = _Replay(windows)  # for windows that DuckDB leaves undecided
    with open_recordings([recording.place], memory_bytes=_MEMORY_BYTES, keeps_order=False) as store:
        if store.damage:
            raise store.damage[0]
        flagged = FlaggedRecording(store, moments, decided.rules)
        windows.vms = flagged.vms
        history = _follow(windows, flagged, decided)
    last = len(moments) - 1
    shown, replay = sorted({*history.ends(), last - 1, last}), _Replay(windows)
    views = [replay.judge(number, history.before(number)) for number in shown if number > 1]
    judged = len({*shown, *decided.numbers})
    return JudgedHost(views[-1], f"{last:,} intervals were judged in DuckDB, and {judged:,} of them replayed")


def _follow(windows: _RecordedWindows, flagged: FlaggedRecording, decided: _Replay) -> RuleHistory:
    """The states of the rules after all windows. ``decided`` judges windows that the flags leave undecided."""
    history = RuleHistory(np.array([rule.windows for rule in decided.rules]), len(flagged.vms))
    history.put(decided.states(windows.scene(1).sample))
    last = len(windows.moments) - 1
    step = max(1, min(_PIECE_SCENES, _PIECE_ROWS // max(1, len(windows.first.sample.vcpus))))
    for begin in range(0, last, step):
        found = flagged.windows(begin, min(begin + step, last), history.states.held > 0)
        windows.gone += found.leaving
        for at, is_unsure in enumerate(found.unsure.tolist()):
            number = begin + at + 1
            if number == 1:
                continue
            if is_unsure or bool((~found.known & (history.states.held > 0)).any()):
                view = decided.judge(number, history.states)
                history.put(decided.states(view.scene.sample))
                continue
            is_there = found.present[at + 1]
            history.move(
                found.holds[at],
                found.stays[at],
                began_ns=windows.moments[number - 1].boottime_ns,
                came=is_there & ~found.present[at],
                gone=~is_there,
            )
    return history


class _RecordedWindows:
    """The windows between consecutive scenes of these. ``gone``: the VMs that ended, by the scene that lacks them."""

    def __init__(self, recording: Recording, moments: Sequence[SceneMoment], first: Scene) -> None:
        lasted = ((after.boottime_ns - before.boottime_ns) / 1e9 for before, after in pairwise(moments))
        self.watched_s = list(accumulate(lasted, initial=0.0))
        self.moments = moments
        self.first = first
        self.vms: U64Array = first.sample.vms.id
        self.gone: list[LeavingVm] = []
        self._recording = recording

    def scene(self, place: int) -> Scene:
        return self._recording.scene(self.moments[place]) if place else self.first

    def past(self, number: int, sample: Sample, states: RuleStates) -> PastWindows:
        """The state before a window. ``sample``: at its beginning. ``states``: of all VMs."""
        gone = {
            VmId(each.vm): GoneVm(each.name, Moment(self.moments[each.place].taken_ns))
            for each in self.gone
            if each.place < number
        }
        return PastWindows(number - 1, self.watched_s[number - 1], gone, states.aligned(self.columns(sample)))

    def columns(self, sample: Sample) -> I64Array:
        """For each VM of a sample, its column among all VMs."""
        return np.searchsorted(self.vms, sample.vms.id).astype(np.int64)

    def spread(self, sample: Sample, states: RuleStates) -> RuleStates:
        """The states of all VMs, from the states of a sample's VMs."""
        rows = np.full(len(self.vms), -1, dtype=np.int64)
        rows[self.columns(sample)] = np.arange(len(sample.vms))
        return states.aligned(rows)


class _Replay:
    """Windows as numpy judges them: first the first window, which determines the rules, then the requested ones, in
    order. ``numbers``: the windows judged so far."""

    def __init__(self, windows: _RecordedWindows) -> None:
        self._windows = windows
        self._watch = Watch(keeps_ended=True)
        self._watch.add(windows.first)
        self._watch.add(windows.scene(1))
        self.numbers = [1]

    @property
    def rules(self) -> Sequence[Rule]:
        """The judged rules of VMs."""
        return self._watch.examiner.watcher.rules_of_vms

    def judge(self, number: int, before: RuleStates) -> HostView:
        """Judge the window with this number. ``before``: the states of all VMs at its beginning."""
        if self.numbers[-1] != number - 1:
            scene = self._windows.scene(number - 1)
            self._watch.leap(scene, self._windows.past(number, scene.sample, before))
        view = self._watch.add(self._windows.scene(number))
        assert view is not None  # it is not the first scene
        self.numbers.append(number)
        return view

    def states(self, sample: Sample) -> RuleStates:
        """The states of all VMs after the last judged window, which ended with this sample."""
        return self._windows.spread(sample, self._watch.examiner.watcher.states_of_vms)
