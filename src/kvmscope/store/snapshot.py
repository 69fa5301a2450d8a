"""A snapshot: one file with some scenes of a host, to attach to a report. ``--from`` of every reading command takes it.

A ZIP archive, so that what it reveals can be inspected without kvmscope:

    kvmscope-snapshot.json      format, version, what made it and when, whether it is anonymised
    scenes/0001.scene           the scenes in their order (``scene.encoding``)
    episode.json                the note of an episode, if it is of one
    *.txt, *.json               output of commands for these scenes, for readers; never read back

Rule: needs only the standard library. A file is read as a whole and checked by its CRCs; anything else is a
RecordingError, and reading never decompresses more bytes than the archive declares.
"""

from __future__ import annotations

import io
import json
import struct
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..codec import plain
from ..errors import FormatError, RecordingError
from ..scene import Scene
from ..scene.encoding import decode, encode
from .episode_note import EpisodeNote, note_text, parse_note
from .replay import SceneMoment

VERSION: Final = 1
MAGIC: Final = b"PK\x03\x04"
_FORMAT: Final = "kvmscope-snapshot"
_ABOUT: Final = "kvmscope-snapshot.json"
_EPISODE: Final = "episode.json"
_SCENES: Final = "scenes/"
_LARGEST: Final = 4 << 30
"""Limit for the bytes of all members: bounds what a damaged or hostile archive makes a reader allocate."""
_DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,  # encrypted
    ValueError,
)


@dataclass(frozen=True, slots=True)
class SnapshotAbout:
    """``made_by``: version of kvmscope. ``made_ns``: CLOCK_REALTIME."""

    made_by: str
    made_ns: int
    anonymised: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``texts``: other files of the archive, by name. ``episode``: the note, if the snapshot is of an episode."""

    about: SnapshotAbout
    scenes: Sequence[Scene]
    episode: EpisodeNote | None = None
    texts: Mapping[str, str] = field(default_factory=dict)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        head = {"format": _FORMAT, "version": VERSION, **plain.dump(SnapshotAbout, snapshot.about)}
        members: dict[str, str | bytes] = {_ABOUT: json.dumps(head, indent=2) + "\n", **snapshot.texts}
        if snapshot.episode is not None:
            members[_EPISODE] = note_text(snapshot.episode)
        members |= {f"{_SCENES}{place:04}.scene": encode(scene) for place, scene in enumerate(snapshot.scenes, start=1)}
        when = time.gmtime(max(snapshot.about.made_ns // 10**9, 315_532_800))[:6]  # times in ZIP files begin in 1980
        for name, data in members.items():
            info = zipfile.ZipInfo(name, when)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, data)
    return content.getvalue()


def is_snapshot(place: str) -> bool:
    """Whether a file starts like a snapshot; False if there is no such file."""
    try:
        with Path(place).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


class SnapshotFile:
    """A snapshot, opened for reading as a recording is."""

    can_grow = False

    def __init__(self, path: Path) -> None:
        """Raises RecordingError."""
        self.damage: list[RecordingError] = []
        self._path = str(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RecordingError(f"it cannot be read: {error.strerror}", path=self._path) from None
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                self._members = self._read_all(archive)
        except _DAMAGE as error:
            raise RecordingError(f"it is not a complete archive: {error!s:.120}", path=self._path) from None
        self.about = self._read_about()
        self._scenes = [self._scene(name) for name in sorted(self._members) if name.startswith(_SCENES)]

    @property
    def episode(self) -> EpisodeNote | None:
        """The note of its episode, if any. Raises RecordingError if the note is damaged."""
        data = self._members.get(_EPISODE)
        return None if data is None else parse_note(data.decode("utf-8", "replace"), f"{self._path}/{_EPISODE}")

    def text(self, name: str) -> str | None:
        """The text with this file name; None if there is none."""
        data = self._members.get(name)
        return None if data is None else data.decode("utf-8", "replace")

    def moments(self) -> Sequence[SceneMoment]:
        return [SceneMoment.of(scene, place=place) for place, scene in enumerate(self._scenes)]

    def scene(self, moment: SceneMoment) -> Scene:
        return self._scenes[moment.place]

    def _read_all(self, archive: zipfile.ZipFile) -> dict[str, bytes]:
        members = archive.infolist()
        if sum(info.file_size for info in members) > _LARGEST:
            raise ValueError("it says that it has more than 4 GiB")
        return {info.filename: _read(archive, info) for info in members}

    def _read_about(self) -> SnapshotAbout:
        place = f"{self._path}/{_ABOUT}"
        try:
            found: Any = json.loads(self._members.get(_ABOUT, b""))
            if not isinstance(found, dict) or found.get("format") != _FORMAT:
                raise RecordingError("the archive is not a snapshot of kvmscope", path=self._path)
            if found.get("version") != VERSION:
                reason = f"the snapshot has version {found.get('version')!r:.20}; this kvmscope reads {VERSION}"
                raise RecordingError(f"{reason}: use a newer one", path=self._path)
            about: SnapshotAbout = plain.load(SnapshotAbout, found, what="about")
        except (ValueError, RecursionError, FormatError) as error:
            is_there = _ABOUT in self._members
            reason = f"it is damaged: {error!s:.120}" if is_there else "the archive is not a snapshot of kvmscope"
            raise RecordingError(reason, path=place if is_there else self._path) from None
        return about

    def _scene(self, name: str) -> Scene:
        try:
            return decode(self._members[name])
        except FormatError as error:
            raise RecordingError(str(error), path=f"{self._path}/{name}", offset=error.offset) from None


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member, limited to its declared size."""
    with archive.open(info) as file:
        data = file.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise ValueError(f"{info.filename[:60]!r} is not as long as it says")
    return data
