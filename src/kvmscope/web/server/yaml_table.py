"""A file of YAML as tables of text, in which a mistake is named by its place.

Scalars stay the text that stands there, as Go's reader gives it to fields of text: ``X-XSS-Protection: 1`` is "1".
Rule: a name that is not known, or appears twice, is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from ...errors import UsageError

_BLANK: Final = ("", "~", "null")
_FLAGS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

T = TypeVar("T")


def read_table(path: Path) -> YamlTable:
    """The file at ``path``. Raises UsageError if it cannot be read, or is no YAML."""
    import yaml

    class StrictLoader(yaml.BaseLoader):
        """Refuses keys that stand there twice, of which the last would win."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value]
            twice = [key for place, key in enumerate(keys) if key in keys[:place]]
            if twice:
                raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} appears twice", node.start_mark)
            return super().construct_mapping(node, deep)

    try:
        return YamlTable(path, "", yaml.load(path.read_text(encoding="utf-8"), StrictLoader))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from error


class YamlTable:
    """A mapping of the file. ``name``: its place; "" for the whole file."""

    def __init__(self, file: Path, name: str, content: Any) -> None:
        """Raises UsageError if it is no mapping."""
        self._file = file
        self._name = name
        if content is None or content in _BLANK:
            content = {}
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise UsageError(f"{file}: {name or 'the file'}: expected names with values")
        self._content: dict[str, Any] = content

    def error(self, key: str, text: str) -> UsageError:
        """What is wrong with ``key``."""
        return UsageError(f"{self._file}: {f'{self._name}.' if self._name else ''}{key}: {text}")

    def allow(self, *keys: str) -> None:
        """Raises UsageError if there are others."""
        for key in self._content:
            if key not in keys:
                raise self.error(key, f"not known; there are {', '.join(keys)}")

    def has(self, key: str) -> bool:
        """Whether it is there and not blank."""
        return self._content.get(key) not in (None, *_BLANK)

    def table(self, key: str) -> YamlTable:
        """The mapping ``key``; an empty one if it is not there."""
        return YamlTable(self._file, key, self._content.get(key))

    def text(self, key: str) -> str:
        """The scalar ``key``; "" if it is not there."""
        found = self._content.get(key)
        if found is None or found in _BLANK:
            return ""
        if not isinstance(found, str):
            raise self.error(key, "expected one value")
        return found

    def texts(self) -> dict[str, str]:
        """Every name with its scalar."""
        return {key: self.text(key) for key in self._content}

    def strings(self, key: str) -> list[str]:
        """The list ``key``; empty if it is not there."""
        found = self._content.get(key) if self.has(key) else []
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise self.error(key, "expected a list of words")
        return found

    def flag(self, key: str, *, default: bool) -> bool:
        text = self.text(key)
        if text and text.lower() not in _FLAGS:
            raise self.error(key, f"expected true or false, found {text!r}")
        return _FLAGS[text.lower()] if text else default

    def choice(self, key: str, choices: Mapping[str, T], default: str) -> T:
        """What ``choices`` has for the word."""
        word = self.text(key) or default
        if word not in choices:
            raise self.error(key, f"{word!r} is not possible here; there are {', '.join(choices)}")
        return choices[word]

    def path(self, key: str) -> Path:
        """A path as seen from the file's folder."""
        text = self.text(key)
        if not text:
            raise self.error(key, "is missing")
        return self._file.parent / text
