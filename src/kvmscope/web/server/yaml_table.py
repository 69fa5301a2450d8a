"""A YAML file as tables of text, with errors that name the place of a mistake.

Scalars stay the text of the file, as Go's reader assigns them to string fields: ``X-XSS-Protection: 1`` is "1".
Rule: an unknown or repeated key is an error.
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
    """The file at ``path``. Raises UsageError if it cannot be read or is not YAML."""
    import yaml

    class StrictLoader(yaml.BaseLoader):
        """Refuses repeated keys, of which YAML would take the last."""

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
        """Raises UsageError if ``content`` is not a mapping."""
        self._file = file
        self._name = name
        if content is None or content in _BLANK:
            content = {}
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise UsageError(f"{file}: {name or 'the file'}: expected names with values")
        self._content: dict[str, Any] = content

    def error(self, key: str, text: str) -> UsageError:
        """An error about ``key``."""
        return UsageError(f"{self._file}: {f'{self._name}.' if self._name else ''}{key}: {text}")

    def allow(self, *keys: str) -> None:
        """Raises UsageError if there are other keys."""
        for key in self._content:
            if key not in keys:
                raise self.error(key, f"not known; there are {', '.join(keys)}")

    def has(self, key: str) -> bool:
        """Whether the key exists and is not blank."""
        return self._content.get(key) not in (None, *_BLANK)

    def table(self, key: str) -> YamlTable:
        """The mapping ``key``; empty if it is missing."""
        return YamlTable(self._file, key, self._content.get(key))

    def text(self, key: str) -> str:
        """The scalar ``key``; "" if it is missing."""
        found = self._content.get(key)
        if found is None or found in _BLANK:
            return ""
        if not isinstance(found, str):
            raise self.error(key, "expected one value")
        return found

    def texts(self) -> dict[str, str]:
        """Every key with its scalar."""
        return {key: self.text(key) for key in self._content}

    def strings(self, key: str) -> list[str]:
        """The list ``key``; empty if it is missing."""
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
        """The value in ``choices`` for the word at ``key``."""
        word = self.text(key) or default
        if word not in choices:
            raise self.error(key, f"{word!r} is not possible here; there are {', '.join(choices)}")
        return choices[word]

    def path(self, key: str) -> Path:
        """The path at ``key``, relative to the file's directory."""
        text = self.text(key)
        if not text:
            raise self.error(key, "is missing")
        return self._file.parent / text
