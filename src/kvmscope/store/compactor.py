"""Makes segments of complete journals, thins old segments, and deletes the oldest parts of a ring.

Rule: the sources of a segment, a journal or finer segments, are deleted only after the segment is stored. Journals
become segments in order; if the disk or the object store refuses one, it is retried later, and until then the journal
is read. A damaged file in the place of a journal stays for inspection until the ring exceeds its limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pyarrow as pa

from ..errors import RecordingError
from . import layout
from .columns import tables_of
from .copies import PartSpan, SceneKey, find_copies
from .epochs import EpochTracker
from .journal import read_journal
from .layout import RecordingTable, SegmentPlace
from .ring import DatedSegment, RingLimits, on_one_clock, runs_to_thin, thinning_steps
from .segment import read_heads, read_tables, scene_keys, write_segment
from .storage import Storage
from .thinning import FOLLOWED_COLUMNS, SegmentThinner


class Compactor:
    """For one thread at a time. ``trouble``: what the last run failed to do; empty if it succeeded.

    ``journals``: storage of the journals. ``segments``: storage of the segments; the same, unless it is an object
    store.
    """

    def __init__(
        self, journals: Storage, segments: Storage, limits: RingLimits | None = None, *, segment_bytes: int = 64 << 20
    ) -> None:
        """Picks up the journals of earlier writers. Raises RecordingError, OSError."""
        self._journals = journals
        self._segments = segments
        self._limits = limits or RingLimits()
        self._segment_bytes = segment_bytes
        self._epochs = EpochTracker()
        self._pending: list[int] = []
        self._damaged: list[int] = []
        self._unreadable: set[SegmentPlace] = set()
        self._times: dict[SegmentPlace, DatedSegment] = {}
        self._host: str | None = None
        self.trouble = ""
        self._take_up()

    @property
    def waiting(self) -> int:
        """The number of complete journals that are not segments yet."""
        return len(self._pending)

    def add(self, number: int) -> None:
        """Add the journal of this number, which is complete."""
        self._pending.append(number)

    def run(self) -> None:
        """Compact pending journals, thin and trim, as far as the disk allows; ``trouble`` says what failed."""
        is_ring = self._limits != RingLimits()
        steps = [self._compact_pending, *([self._thin, self._trim] if is_ring else [])]
        troubles = [_attempt(step) for step in steps]  # run every step: a full disk is a reason to delete
        self.trouble = next(filter(None, troubles), "")

    def _compact_pending(self) -> None:
        while self._pending:
            self._compact(self._pending[0])
            self._pending.pop(0)

    def _take_up(self) -> None:
        """Queue the journals without a segment; delete the others, and the remains of incomplete segments."""
        files = self._segments.files()
        current = layout.current_segments(files)
        is_remote = self._segments.directory is None
        for path in sorted(self._journals.files()):
            number = layout.journal_number(path)
            if number is None:
                continue
            if is_remote or not any(place.holds(number) for place in current):
                self._pending.append(number)  # upload again: the object store may have a part of it
            else:
                self._journals.delete(path)
        if not is_remote:  # other hosts may be writing to an object store
            for path in sorted(files, key=lambda path: not path.startswith(RecordingTable.SCENES.value)):
                place = layout.segment_of_file(path)
                if place is not None and (place not in current or path.endswith(layout.NEW)):
                    self._segments.delete(path)

    def _compact(self, number: int) -> None:
        path = layout.journal_path(number)
        try:
            scenes = read_journal(self._journals.local(path)).scenes
        except FileNotFoundError:
            return  # deleted concurrently
        except RecordingError:
            self._damaged.append(number)
            return
        if scenes:
            first = scenes[0].sample
            place = SegmentPlace.of(number, first.origin.host if first.origin else "unknown", first.taken_ns)
            write_segment(self._segments, place, tables_of(scenes, self._epochs))
            moments = [(scene.sample.taken_ns, scene.sample.monotonic_ns) for scene in scenes]
            self._times[place] = _dated(place, moments, {each.origin.boot if each.origin else None for each in scenes})
            self._host = place.host
        self._journals.delete(path)

    # --- thinning -----------------------------------------------------------------------------------------------------

    def _thin(self) -> None:
        for step in thinning_steps(self._limits):
            found = [place for place in self._current(self._segments.files()) if place not in self._unreadable]
            copies = self._copies(found)
            places = [place for place in found if place not in copies]
            segments = on_one_clock([self._dated(place) for place in places])
            newest_ns = max((segment.end_ns for segment in segments), default=0)
            apart = [*self._damaged, *(place.number for place in (*self._unreadable, *copies))]
            before: dict[SegmentPlace, SegmentPlace | None] = dict(zip(places, [None, *places], strict=False))
            for run in list(runs_to_thin(segments, step, newest_ns, apart)):
                merged = self._merge(run, step.resolution_s, before[run[0]])
                before = {place: merged if its == run[-1] else its for place, its in before.items()}

    def _copies(self, places: Sequence[SegmentPlace]) -> list[SegmentPlace]:
        """The segments that share scenes with others. They are not thinned, or a thinned segment would have scenes
        twice."""
        spans = [
            PartSpan(self._name(place), place.host, its.begin_ns, its.end_ns, partial(self._keys, place))
            for place, its in zip(places, map(self._dated, places), strict=True)
        ]
        return [places[number] for number in find_copies(spans)]

    def _keys(self, place: SegmentPlace) -> Sequence[SceneKey]:
        try:
            return scene_keys(self._segments, place)
        except (RecordingError, FileNotFoundError):
            return []

    def _merge(
        self, run: Sequence[SegmentPlace], resolution_s: int, before: SegmentPlace | None
    ) -> SegmentPlace | None:
        """Make thinned segments of a run, each of as many of its segments as fill one. Returns the last of them."""
        thinner, taken = self._thinner(resolution_s, before), list[SegmentPlace]()
        for place in run:
            try:
                thinner.add(read_tables(self._segments, place), self._name(place), is_last=place == run[-1])
            except (RecordingError, FileNotFoundError):
                self._unreadable.add(place)  # it stays until it is deleted by age
                return self._merge(taken, resolution_s, before)
            taken.append(place)
            if thinner.nbytes >= self._segment_bytes or place == run[-1]:
                before = self._replace(taken, thinner, resolution_s)
                taken = []
        return before

    def _thinner(self, resolution_s: int, before: SegmentPlace | None) -> SegmentThinner:
        """A thinner that continues after a segment, as far as that can be read."""
        if before is not None:
            thinner = SegmentThinner(resolution_s)
            with suppress(RecordingError, FileNotFoundError):
                tables = read_tables(self._segments, before, of_subjects=FOLLOWED_COLUMNS)
                thinner.follow(tables, self._name(before))
                return thinner
        return SegmentThinner(resolution_s)

    def _replace(self, taken: Sequence[SegmentPlace], thinner: SegmentThinner, resolution_s: int) -> SegmentPlace:
        merged = SegmentPlace.merged(taken, resolution_s)
        write_segment(self._segments, merged, thinner.take())
        for place in taken:
            self._delete(place)
        return merged

    def _name(self, place: SegmentPlace) -> str:
        return self._segments.name(place.path(RecordingTable.SCENES))

    # --- deleting -----------------------------------------------------------------------------------------------------

    def _trim(self) -> None:
        """Delete the oldest parts that are beyond the limits; the newest segment stays."""
        files = self._segments.files()
        places = self._current(files)
        if not places:
            return
        ends_ns = {each.place: each.end_ns for each in on_one_clock([self._dated(place) for place in places])}
        newest_ns = max(ends_ns.values())
        others = f"{layout.EPISODES}/", f"{layout.INDEX}/"
        left = sum(size for path, size in files.items() if not path.startswith(others))
        for part in self._oldest_first(places):
            is_journal = isinstance(part, int)
            end_ns = self._journal_end_ns(part) if isinstance(part, int) else ends_ns[part]
            if part == places[-1] or not self._is_beyond(end_ns, left, newest_ns):
                if is_journal:
                    continue  # its age is that of the file only, which does not bound the segments after it
                return
            left -= self._delete_journal(part, files) if isinstance(part, int) else self._delete(part, files)

    def _oldest_first(self, places: Sequence[SegmentPlace]) -> list[SegmentPlace | int]:
        """The segments, and the numbers of the journals that cannot become one."""
        parts: list[SegmentPlace | int] = [*places, *self._damaged]
        return sorted(parts, key=lambda part: part if isinstance(part, int) else part.number)

    def _is_beyond(self, end_ns: int, total: int, newest_ns: int) -> bool:
        after_s, size_bytes = self._limits.deleted_after_s, self._limits.size_bytes
        is_old = after_s is not None and end_ns < newest_ns - round(after_s * 1e9)
        return is_old or (size_bytes is not None and total > size_bytes)

    def _delete(self, place: SegmentPlace, files: Mapping[str, int] | None = None) -> int:
        """Delete the files of a segment. Returns their size in bytes."""
        self._times.pop(place, None)
        for table in reversed(RecordingTable):  # SCENES first: a segment without it is not one
            with suppress(FileNotFoundError):
                self._segments.delete(place.path(table))
        return sum((files or {}).get(place.path(table), 0) for table in RecordingTable)

    def _delete_journal(self, number: int, files: Mapping[str, int]) -> int:
        path = layout.journal_path(number)
        self._damaged.remove(number)
        with suppress(FileNotFoundError):
            self._journals.delete(path)
        return files.get(path, 0)

    def _journal_end_ns(self, number: int) -> int:
        try:
            return self._journals.local(layout.journal_path(number)).stat().st_mtime_ns
        except OSError:
            return time.time_ns()

    # --- listing ------------------------------------------------------------------------------------------------------

    def _current(self, files: Mapping[str, int]) -> list[SegmentPlace]:
        """The segments that this compactor manages: in an object store, those of this host."""
        places = layout.current_segments(files)
        if self._segments.directory is not None:
            return places
        return [place for place in places if place.host == self._host]

    def _dated(self, place: SegmentPlace) -> DatedSegment:
        """A segment with its times; they are 0 if it is damaged, so it is deleted first."""
        if place not in self._times:
            rows: Sequence[Mapping[str, Any]] = []
            with suppress(FileNotFoundError, RecordingError):
                rows = read_heads(self._segments, place)
            moments = [(row["time"], row["boottime_ns"]) for row in rows]
            self._times[place] = _dated(place, moments, {row["boot"] for row in rows})
        return self._times[place]


def _dated(place: SegmentPlace, moments: Sequence[tuple[int, int]], boots: Collection[str | None]) -> DatedSegment:
    """A segment with scenes of these boots at these times: CLOCK_REALTIME and CLOCK_BOOTTIME."""
    if not moments:
        return DatedSegment(place, 0, 0)
    times, since_boot = zip(*moments, strict=True)
    boot = next(iter(boots)) if len(boots) == 1 else None
    return DatedSegment(place, min(times), max(times), min(since_boot), max(since_boot), boot)


def _attempt(step: Callable[[], None]) -> str:
    """Run a step. Returns why it failed, "" if it succeeded."""
    try:
        step()
    except (OSError, pa.ArrowException) as error:
        return _first_line(error)
    except RecordingError as error:
        return str(error)
    except MemoryError:
        return "no memory"
    return ""


def _first_line(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return reason.partition("\n")[0][:200]
