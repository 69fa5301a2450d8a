"""Data that seldom changes, written once: schemas, machines, identities, gaps. A document is JSON by the hash of its
text.

Rule: equal values have the same key, so a reader needs no order and no history; a missing key is damage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ..codec import plain
from ..errors import FormatError, RecordingError
from ..host.facts import Machine
from ..sample import Gap
from ..scene import Scene, VmIdentity
from ..schema import Schema

T = TypeVar("T")

GAPS = tuple[Gap, ...]
WHY_NOT = Mapping[str, str]

_SCHEMAS_AT_MOST = 256


class DocumentWriter:
    """Gives each value a key, and keeps the documents that have not been written yet."""

    def __init__(self) -> None:
        self._keys: dict[Any, str] = {}
        self._identities: dict[str, tuple[VmIdentity, str]] = {}
        self._schemas: dict[int, tuple[Schema, str]] = {}
        self._machine: Machine | None = None
        self._machine_key = ""
        self.new: dict[str, str] = {}
        self.texts: dict[str, str] = {}

    def key(self, hint: Any, value: Any, *, cached_by: Any = None) -> str:
        """The key of a value. ``cached_by``: a hashable object that is equal only for equal values."""
        if cached_by is not None and cached_by in self._keys:
            return self._keys[cached_by]
        text = json.dumps(plain.dump(hint, value), separators=(",", ":"), allow_nan=False)
        key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        if key not in self.texts:
            self.texts[key] = self.new[key] = text
        if cached_by is not None:
            self._keys[cached_by] = key
        return key

    def take_new(self) -> dict[str, str]:
        """The documents since the last call."""
        new, self.new = self.new, {}
        return new

    def identity(self, identity: VmIdentity) -> str:
        """The key of an identity without ``silent_s``, which changes all the time and is stored elsewhere.

        Scenes share the same process and XML objects until they change; hashing them would cost more than the rest of a
        scene.
        """
        last = self._identities.get(identity.name)
        if last is not None and last[0].process is identity.process and last[0].domain_xml is identity.domain_xml:
            return last[1]
        kept = identity if identity.silent_s is None else replace(identity, silent_s=None)
        key = self.key(VmIdentity, kept, cached_by=kept)
        self._identities[identity.name] = (kept, key)
        return key

    def schema(self, schema: Schema) -> str:
        last = self._schemas.get(id(schema))
        if last is not None:
            return last[1]
        key = self.key(Schema, schema, cached_by=schema)
        if len(self._schemas) >= _SCHEMAS_AT_MOST:
            self._schemas.clear()
        self._schemas[id(schema)] = (schema, key)  # keeps a reference, so no other schema gets its id
        return key

    def scene(self, scene: Scene) -> tuple[str, str, str]:
        """The keys of a scene's machine, of its gaps, and of the reasons why better sources were not used."""
        gaps = self.key(GAPS, scene.sample.gaps, cached_by=scene.sample.gaps)
        why_not = self.key(WHY_NOT, scene.why_not, cached_by=(WHY_NOT, tuple(scene.why_not.items())))
        if scene.machine is not self._machine:
            self._machine, self._machine_key = scene.machine, self.key(Machine, scene.machine)
        return self._machine_key, gaps, why_not


class DocumentReader:
    """Looks up values by key, and parses each once."""

    def __init__(self, texts: Mapping[str, str], path: str) -> None:
        self._texts = texts
        self._path = path
        self._values: dict[tuple[Any, str], Any] = {}

    def get(self, hint: Any, key: str) -> Any:
        """The value of a key. Raises RecordingError if the document is missing or does not match its key."""
        if (hint, key) not in self._values:
            self._values[hint, key] = self._load(hint, key)
        return self._values[hint, key]

    def _load(self, hint: Any, key: str) -> Any:
        text = self._texts.get(key)
        if text is None:
            raise RecordingError(f"document {key} is missing", path=self._path)
        try:
            return plain.load(hint, json.loads(text), what=f"document {key}")
        except (ValueError, RecursionError, FormatError) as error:
            raise RecordingError(f"document {key} is damaged: {error}", path=self._path) from None
