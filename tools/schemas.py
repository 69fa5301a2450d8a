"""Writes docs/schemas/: the JSON Schema of what each command answers with ``--json``, made from the views' types.

    python tools/schemas.py

tests/view/test_schemas.py holds the files to the types, and what the commands write to the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from kvmscope.view.schemas import VIEWS, json_schema

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"


def texts() -> Mapping[str, str]:
    """The text of each file by its name."""
    return {f"{command}.json": json.dumps(json_schema(view), indent=2) + "\n" for command, view in VIEWS.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
