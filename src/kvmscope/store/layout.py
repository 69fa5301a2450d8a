"""Paths and names of the parts of a recording. No I/O.

    DIR/
        kvmscope-recording.json         marks a recording; the version of this layout
        journal/00000007.arrow          scenes that are not in segments yet
        TABLE/host=HOST/date=DATE/00000006.parquet
                                        segment 6 of one of the tables ``scenes``, ``documents``, ``vms``, ``vcpus``
        TABLE/host=HOST/date=DATE/00000002-00000005-10s.parquet
                                        segments 2 to 5, thinned to a scene every 10 s
        episodes/0007/                  a separate recording (``episodes``)
        fleet-index/                    not part of the recording; derived data only (``fleet_index``)

Rule: a segment exists once its file of table ``scenes`` exists, which is moved into place last. A journal whose segment
exists is skipped, and so is a segment that has a thinned one. So nothing is read twice, whenever a writer was stopped.
Version 1 had no thinned segments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from ..errors import RecordingError

VERSION: Final = 2
ABOUT: Final = "kvmscope-recording.json"
JOURNAL: Final = "journal"
NEW: Final = ".new"
"""Suffix of a file that is being written."""
EPISODES: Final = "episodes"
INDEX: Final = "fleet-index"
_FORMAT: Final = "kvmscope-recording"


class RecordingTable(Enum):
    """The tables of a recording; SCENES is written last."""

    DOCUMENTS = "documents"
    VMS = "vms"
    VCPUS = "vcpus"
    SCENES = "scenes"


PARTS: Final = (JOURNAL, *(table.value for table in RecordingTable))
"""The directories of scenes in a recording."""


@dataclass(frozen=True, slots=True, order=True)
class SegmentPlace:
    """The place of a segment: its numbers, which grow over the recording, its host and the UTC day on which it begins.

    ``number``, ``last``: the first and the last journal that it was made of. ``resolution_s``: seconds between its
    scenes; 0: all recorded scenes.
    """

    number: int
    host: str
    date: str
    last: int
    resolution_s: int = 0

    @classmethod
    def of(cls, number: int, host: str, taken_ns: int, *, resolution_s: int = 0) -> SegmentPlace:
        """The place of the segment that a journal becomes."""
        return cls(
            number,
            re.sub(r"[^0-9A-Za-z_-]", "_", host) or "unknown",
            f"{datetime.fromtimestamp(taken_ns // 10**9, UTC):%Y-%m-%d}",
            number,
            resolution_s,
        )

    @classmethod
    def merged(cls, places: Sequence[SegmentPlace], resolution_s: int) -> SegmentPlace:
        """The place of the thinned segment that these consecutive segments become."""
        first = places[0]
        return cls(first.number, first.host, first.date, places[-1].last, resolution_s)

    @property
    def name(self) -> str:
        """The name of its files."""
        if not self.resolution_s:
            return f"{self.number:08}.parquet"
        return f"{self.number:08}-{self.last:08}-{self.resolution_s}s.parquet"

    def path(self, table: RecordingTable) -> str:
        """The path of a table's file below the directory of the recording."""
        return f"{table.value}/host={self.host}/date={self.date}/{self.name}"

    def holds(self, number: int) -> bool:
        """Whether this journal is among those that it was made of."""
        return self.number <= number <= self.last

    def replaces(self, other: SegmentPlace) -> bool:
        """Whether it was made by thinning the other."""
        is_within = self.host == other.host and self.number <= other.number and other.last <= self.last
        return is_within and self.resolution_s > other.resolution_s


_TABLE_PATH = re.compile(
    r"(documents|vms|vcpus|scenes)/host=([^/]+)/date=(\d{4}-\d\d-\d\d)/(\d{8})(?:-(\d{8})-([1-9]\d{0,8})s)?\.parquet(\.new)?"
)
_JOURNAL_PATH = re.compile(r"journal/(\d{8})\.arrow")


def segment_of(path: str) -> SegmentPlace | None:
    """The segment whose table ``scenes`` this is; None for another file."""
    found = _TABLE_PATH.fullmatch(path)
    return _place(found) if found and found[1] == RecordingTable.SCENES.value and not found[7] else None


def segment_of_file(path: str) -> SegmentPlace | None:
    """The segment whose table this file is, complete or incomplete; None for another file."""
    found = _TABLE_PATH.fullmatch(path)
    return _place(found) if found else None


def _place(found: re.Match[str]) -> SegmentPlace:
    first = int(found[4])
    return SegmentPlace(first, found[2], found[3], int(found[5] or first), int(found[6] or 0))


def current_segments(paths: Iterable[str]) -> list[SegmentPlace]:
    """The segments to read, in order: those that no thinned segment replaces."""
    places = {place for path in paths if (place := segment_of(path))}
    found: dict[str, list[SegmentPlace]] = {}
    for place in sorted(places, key=lambda place: (place.number, -place.last, -place.resolution_s)):
        of_host = found.setdefault(place.host, [])
        if not (of_host and of_host[-1].replaces(place)):
            of_host.append(place)
    return sorted(place for of_host in found.values() for place in of_host)


def journal_path(number: int) -> str:
    return f"{JOURNAL}/{number:08}.arrow"


def journal_number(path: str) -> int | None:
    """The number of a journal; None for another file."""
    found = _JOURNAL_PATH.fullmatch(path)
    return int(found[1]) if found else None


def about_text() -> str:
    """The content of the file that makes a directory a recording."""
    return json.dumps({"format": _FORMAT, "version": VERSION}) + "\n"


def check_about(text: str, path: str) -> int:
    """The version of the layout of a directory with this file. Raises RecordingError if it is not a recording that this
    kvmscope can read."""
    try:
        about = json.loads(text)
        is_one = about["format"] == _FORMAT
        version = about["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        is_one, version = False, None
    if not is_one:
        raise RecordingError(f"{ABOUT} does not describe a recording", path=path)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RecordingError(f"the recording has layout {version!r:.20}, which no kvmscope has written", path=path)
    if version > VERSION:
        reason = f"the recording has layout {version}; this kvmscope reads layouts up to {VERSION}: use a newer one"
        raise RecordingError(reason, path=path)
    return version
