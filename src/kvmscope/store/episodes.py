"""Episodes of a recording: scenes recorded around findings. Each is a separate recording with a note.

    DIR/episodes/0007/
        kvmscope-episode.json           the note (``episode_note``)
        kvmscope-recording.json, …      a recording like any other

Rule: the oldest episodes are deleted as a whole, never the one that is being written.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ..errors import RecordingError, UsageError
from ..scene import Scene
from . import layout
from .episode_note import EpisodeNote, note_text, parse_note
from .recording import Recording
from .storage import Storage
from .writer import RecordingWriter

NOTE: Final = "kvmscope-episode.json"

_NUMBER = re.compile(rf"{layout.EPISODES}/(\d{{4,8}})/(.+)")


@dataclass(frozen=True, slots=True)
class Episode:
    """An existing episode. ``place``: argument for ``--from``. ``size_bytes``: of all its files."""

    number: int
    place: str
    size_bytes: int
    note: EpisodeNote


@dataclass(frozen=True, slots=True)
class EpisodeListing:
    """The episodes of a recording, oldest first, and what could not be read."""

    episodes: tuple[Episode, ...]
    damage: tuple[RecordingError, ...]


class EpisodeWriter:
    """Writes one new episode of the recording in ``directory``. Close when done."""

    def __init__(self, directory: Path, note: EpisodeNote) -> None:
        """Raises OSError."""
        number = max(_numbers(directory), default=0) + 1
        self.number = number
        self._place = directory / layout.EPISODES / f"{number:04}"
        self._writer = RecordingWriter(self._place)
        self.note = note
        self.write_note(note)

    def append(self, scene: Scene) -> None:
        """Append a scene. Raises OSError if writing fails."""
        self._writer.append(scene)

    def write_note(self, note: EpisodeNote) -> None:
        """Replace the note. Raises OSError."""
        self.note = note
        text = note_text(note).encode()
        Storage(str(self._place)).write(NOTE, lambda sink: sink.write(text))

    @property
    def size_bytes(self) -> int:
        """The size of all files so far."""
        return _size(self._place)

    def close(self) -> None:
        """Raises OSError."""
        self._writer.close()


def trim_episodes(directory: Path, *, most: int, size_bytes: int, but: int) -> None:
    """Delete the oldest episodes beyond a number or a size, but not the one numbered ``but``. Raises OSError."""
    numbers = sorted(_numbers(directory))
    sizes = {number: _size(_place(directory, number)) for number in numbers}
    while numbers and (len(numbers) > most or sum(sizes[number] for number in numbers) > size_bytes):
        oldest = numbers.pop(0)
        if oldest == but:
            return
        shutil.rmtree(_place(directory, oldest))


def list_episodes(place: str) -> EpisodeListing:
    """The episodes of a recording, or the one that ``place`` itself is. Raises RecordingError, UsageError."""
    storage = Storage(place)
    _check_recording(storage)
    if storage.has(NOTE):
        sizes = storage.files()
        return _listed([(int(n) if (n := Path(place).name).isdecimal() else 0, "", sum(sizes.values()))], storage)
    found: dict[int, tuple[str, int]] = {}
    for path, size in storage.files().items():
        match = _NUMBER.fullmatch(path)
        if match:
            number = int(match[1])
            found[number] = f"{layout.EPISODES}/{match[1]}/", found.get(number, ("", 0))[1] + size
    listing = _listed([(number, *found[number]) for number in sorted(found)], storage)
    return replace(listing, damage=(*storage.unfollowed([layout.EPISODES]), *listing.damage))


def open_episode(place: str) -> tuple[list[Scene], EpisodeNote]:
    """All scenes of an episode, and its note. Raises RecordingError, UsageError if ``place`` is not an episode."""
    found = list_episodes(place)
    if found.damage:
        raise found.damage[0]
    if len(found.episodes) != 1 or found.episodes[0].place.rstrip("/") != place.rstrip("/"):
        raise UsageError(f"{place} is not an episode; `kvmscope episodes {place}` lists those of a recording")
    scenes = list(Recording(place).scenes())
    if not scenes:
        raise UsageError(f"the episode {place} has no scenes")
    return scenes, found.episodes[0].note


def note_of(place: str) -> EpisodeNote | None:
    """The note of an episode; None if ``place`` is not one. Raises RecordingError if its note is damaged."""
    storage = Storage(place)
    return _read_note(storage, NOTE) if storage.has(NOTE) else None


def _check_recording(storage: Storage) -> None:
    if not storage.has():
        raise RecordingError("there is no such directory", path=storage.place)
    if not storage.has(layout.ABOUT):
        raise RecordingError(f"it is not a recording of kvmscope: it has no {layout.ABOUT}", path=storage.place)
    layout.check_about(storage.read(layout.ABOUT).decode("utf-8", "replace"), storage.name(layout.ABOUT))


def _listed(found: Sequence[tuple[int, str, int]], storage: Storage) -> EpisodeListing:
    episodes, damage = [], []
    for number, below, size in found:
        try:
            note = _read_note(storage, below + NOTE)
        except RecordingError as error:
            damage.append(error)
            continue
        place = storage.name(below).rstrip("/") if below else storage.place
        episodes.append(Episode(number, place, size, note))
    return EpisodeListing(tuple(episodes), tuple(damage))


def _read_note(storage: Storage, path: str) -> EpisodeNote:
    try:
        text = storage.read(path).decode("utf-8", "replace")
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise RecordingError(f"its note cannot be read: {reason}", path=storage.name(path)) from None
    return parse_note(text, storage.name(path))


def _place(directory: Path, number: int) -> Path:
    return directory / layout.EPISODES / f"{number:04}"


def _numbers(directory: Path) -> list[int]:
    try:
        return [int(path.name) for path in (directory / layout.EPISODES).iterdir() if path.name.isdecimal()]
    except FileNotFoundError:
        return []


def _size(place: Path) -> int:
    total = 0
    for path in place.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a journal became a segment
            total += path.stat().st_size if path.is_file() else 0
    return total
