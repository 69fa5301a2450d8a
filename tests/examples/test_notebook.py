"""examples/recording.ipynb runs, and its stored outputs are what its cells print: its recording is always the same.

KVMSCOPE_UPDATE=1 stores what they print now.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb", reason="DuckDB is not installed: make setup")

NOTEBOOK = Path(__file__).parents[2] / "examples" / "recording.ipynb"

RUNNER = """
import contextlib, io, json, sys
names = {"__name__": "__main__"}
printed = []
for source in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(source, "cell", "exec"), names)
    printed.append(output.getvalue())
json.dump(printed, sys.stdout)
"""
"""Runs the cells one after another with one set of names, as a kernel of Jupyter does for cells without magics."""


def outputs_of(cells: list[dict[str, Any]], folder: Path) -> list[str]:
    """What each cell prints, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(["".join(cell["source"]) for cell in cells]),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    printed: list[str] = json.loads(done.stdout)
    return printed


def stored(cell: dict[str, Any]) -> str:
    return "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")


def store(cell: dict[str, Any], number: int, text: str) -> None:
    cell["execution_count"] = number
    lines = text.splitlines(keepends=True)
    cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": lines}] if text else []


def test_the_notebook_runs_and_prints_what_is_stored(tmp_path: Path) -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    printed = outputs_of(cells, tmp_path)
    if os.environ.get("KVMSCOPE_UPDATE"):
        for number, (cell, text) in enumerate(zip(cells, printed, strict=True), 1):
            store(cell, number, text)
        NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [stored(cell) for cell in cells] == printed
    assert all(printed[1:]), "a cell shows nothing"
