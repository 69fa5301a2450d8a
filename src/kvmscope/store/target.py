"""The target of a recorder: a directory, or an object store with a spool for pending uploads."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from .storage import Storage, local_directory

_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class RecordingTarget:
    """``directory``: of the recording, or the spool for the object store ``upload_to``."""

    name: str
    directory: Path
    upload_to: Storage | None


def choose_target(place: str, spool: Path | None) -> RecordingTarget:
    """Raises UsageError for a URI that pyarrow does not know, and for a spool with a directory."""
    directory = local_directory(place)
    if directory is None:
        remote = Storage(place)
        return RecordingTarget(remote.place, spool or _default_spool(remote.place), remote)
    if spool is not None:
        raise UsageError("--spool is for a recording in an object store; a directory needs none")
    return RecordingTarget(str(directory), directory, None)


def _default_spool(place: str) -> Path:
    """A directory for each place: below /var/lib for root, else in the user's state directory."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    base = Path("/var/lib") if os.geteuid() == 0 else state
    name = re.sub(r"[^0-9A-Za-z.-]+", "_", place)[:_LONGEST_NAME]
    return base / "kvmscope" / "spool" / f"{name}-{hashlib.blake2b(place.encode(), digest_size=4).hexdigest()}"
