"""Writes docs/schemas/, the JSON Schema of what each command answers with ``--json``, and docs/reference/json.md, the
same keys for people. Both are made from the views' types.

    python tools/schemas.py

tests/view/test_schemas.py holds the files to the types, and what the commands write to the files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kvmscope.view.schemas import VIEWS, json_schema

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "schemas"
PAGES = DOCS / "reference"

_MADE = "<!-- Made by tools/schemas.py from the views; not edited by hand. -->"
_ABOUT = """
Every key of what commands write with `--json`. A key in *italics* may be missing; `null` is unknown. Later versions may
add keys, so readers must ignore those that they do not know. [commands.md](commands.md) has what holds for all
commands. The files in docs/schemas have the same as JSON Schema (draft 2020-12).
"""


def texts() -> Mapping[str, str]:
    """The text of each schema by the name of its file."""
    return {f"{command}.json": json.dumps(json_schema(view), indent=2) + "\n" for command, view in VIEWS.items()}


def pages() -> Mapping[str, str]:
    """The page for people by its name."""
    schemas: Mapping[str, Any] = {command: json_schema(view) for command, view in VIEWS.items()}
    objects = {name: shape for schema in schemas.values() for name, shape in schema.get("$defs", {}).items()}
    lines = ["# JSON", "", _MADE, "", _ABOUT.strip(), ""]
    for command in sorted(schemas):
        lines += _answer(command, schemas[command])
    lines += ["## Objects", "", "What several answers have in common, by the name of its type.", ""]
    for name in sorted(objects):
        lines += [f"### {name}", "", objects[name].get("description", ""), "", *_keys(objects[name])]
    return {"json.md": "\n".join(lines).rstrip() + "\n"}


def _answer(command: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {command}"
    yield ""
    yield f"As JSON Schema: [{command}.json](../schemas/{command}.json)."
    yield ""
    if "anyOf" in schema:
        yield f"{_type(schema)}."
        yield ""
    else:
        yield schema.get("description", "")
        yield ""
        yield from _keys(schema)


def _keys(shape: Mapping[str, Any]) -> Iterator[str]:
    if "properties" not in shape:
        if "enum" in shape or "anyOf" in shape:
            yield f"{_type(shape)}."
            yield ""
        return
    yield "| key | type | |"
    yield "|---|---|---|"
    required = shape.get("required", ())
    for key, about in shape["properties"].items():
        name = f"`{key}`" if key in required else f"*`{key}`*"
        meaning = about.get("description", "").replace("|", "\\|")
        yield f"| {name} | {_type(about)} | {meaning} |"
    yield ""


def _type(shape: Mapping[str, Any]) -> str:
    """In words; objects with a name link to their section."""
    if "$ref" in shape:
        name = shape["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in shape or "enum" in shape:
        values = shape.get("enum", [shape.get("const")])
        return ", ".join(f"`{json.dumps(value)}`" for value in values)
    if "anyOf" in shape:
        return " or ".join(dict.fromkeys(map(_type, shape["anyOf"])))
    return _plain_type(shape)


def _plain_type(shape: Mapping[str, Any]) -> str:
    kind = shape.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array" and "items" in shape:
        return f"list of {_type(shape['items'])}"
    if kind == "object" and isinstance(shape.get("additionalProperties"), Mapping):
        return f"object of {_type(shape['additionalProperties'])}"
    return str(shape.get("format", kind))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for folder, files in ((FOLDER, texts()), (PAGES, pages())):
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
