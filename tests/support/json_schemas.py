"""Holds JSON that commands write to the schemas of docs/schemas."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"


def check_json(arguments: tuple[str, ...], text: str) -> None:
    """Whether each line, or the whole, is what the schema of the command says; no key may be undocumented."""
    validator = validator_of(_command(arguments))
    if validator is None:
        return
    for answer in _answers(text):
        errors = [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(answer)]
        assert errors == []


@cache
def validator_of(command: str) -> Any:
    """Of jsonschema's own; None if the command has no schema."""
    path = FOLDER / f"{command}.json"
    if not path.exists():
        return None
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: make setup")
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(closed(schema))


def closed(schema: Any) -> Any:
    """The same schema, under which an object may have no key that it does not name."""
    schema = copy.deepcopy(schema)
    for part in (schema, *schema.get("$defs", {}).values()):
        if part.get("type") == "object" and "properties" in part:
            part.setdefault("additionalProperties", False)
    return schema


def _answers(text: str) -> Iterator[Any]:
    """One JSON text, or one a line."""
    decoder, at = json.JSONDecoder(), 0
    text = text.strip()
    while at < len(text):
        answer, at = decoder.raw_decode(text, at)
        yield answer
        at += len(text[at:]) - len(text[at:].lstrip())


def _command(arguments: tuple[str, ...]) -> str:
    """The command's words joined by a hyphen, if there is a schema of that name; else its first word."""
    if arguments[0] == "doctor" and {"--rules", "--explain"} & set(arguments):
        return "doctor-rules"
    words = [word for word in arguments[:2] if not word.startswith("-")] if arguments[0][:1] != "-" else ["status"]
    return next((name for name in ("-".join(words), words[0]) if (FOLDER / f"{name}.json").exists()), words[0])
