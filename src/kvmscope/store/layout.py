"""Where the parts of a recording lie, and what they are called. No I/O.

    DIR/
        kvmscope-recording.json         that it is one, and the version of this layout
        journal/00000007.arrow          scenes that are not in segments yet
        TABLE/host=HOST/date=DATE/00000006.parquet
                                        segment 6 of one of the tables ``scenes``, ``documents``, ``vms``, ``vcpus``

Rule: a segment is there once its file of table ``scenes`` is there, which is moved in place last. A journal whose
segment is there is passed over, so nothing is read twice, whenever a writer was stopped.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from ..errors import RecordingError

VERSION: Final = 1
ABOUT: Final = "kvmscope-recording.json"
JOURNAL: Final = "journal"
_FORMAT: Final = "kvmscope-recording"


class RecordingTable(Enum):
    """The tables of a recording; SCENES is written last."""

    DOCUMENTS = "documents"
    VMS = "vms"
    VCPUS = "vcpus"
    SCENES = "scenes"


@dataclass(frozen=True, slots=True, order=True)
class SegmentPlace:
    """Where a segment lies: its number, which grows over the recording, its host and the UTC day that it begins on."""

    number: int
    host: str
    date: str

    @classmethod
    def of(cls, number: int, host: str, taken_ns: int) -> SegmentPlace:
        return cls(
            number,
            re.sub(r"[^0-9A-Za-z_-]", "_", host) or "unknown",
            f"{datetime.fromtimestamp(taken_ns // 10**9, UTC):%Y-%m-%d}",
        )

    def path(self, table: RecordingTable) -> str:
        """Below the directory of the recording."""
        return f"{table.value}/host={self.host}/date={self.date}/{self.number:08}.parquet"


_SCENES_PATH = re.compile(r"scenes/host=([^/]+)/date=(\d{4}-\d\d-\d\d)/(\d{8})\.parquet")
_TABLE_PATH = re.compile(r"(?:documents|vms|vcpus|scenes)/host=[^/]+/date=[^/]+/(\d{8})\.parquet(?:\.new)?")
_JOURNAL_PATH = re.compile(r"journal/(\d{8})\.arrow")


def segment_of(path: str) -> SegmentPlace | None:
    """The segment whose table ``scenes`` this is; None for another file."""
    found = _SCENES_PATH.fullmatch(path)
    return SegmentPlace(int(found[3]), found[1], found[2]) if found else None


def number_of_file(path: str) -> int | None:
    """The number of the segment that a file is a table of, complete or half written; None for another file."""
    found = _TABLE_PATH.fullmatch(path)
    return int(found[1]) if found else None


def journal_path(number: int) -> str:
    return f"{JOURNAL}/{number:08}.arrow"


def journal_number(path: str) -> int | None:
    """The number of a journal; None for another file."""
    found = _JOURNAL_PATH.fullmatch(path)
    return int(found[1]) if found else None


def about_text() -> str:
    """The content of the file that makes a directory a recording."""
    return json.dumps({"format": _FORMAT, "version": VERSION}) + "\n"


def check_about(text: str, path: str) -> None:
    """Raises RecordingError if a directory with this file is no recording that this version can read."""
    try:
        about = json.loads(text)
        is_one = about["format"] == _FORMAT
        version = about["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        is_one, version = False, None
    if not is_one:
        raise RecordingError(f"{ABOUT} is not that of a recording", path=path)
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION:
        reason = f"the recording has layout {version}; this kvmscope reads layouts up to {VERSION}: use a newer one"
        raise RecordingError(reason, path=path)
