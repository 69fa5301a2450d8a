"""docs/explanation/architecture.md agrees with the code: files, rows of the contract, imports of the walk of a byte."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "src/kvmscope"
PAGE = (PROJECT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
CONTRACT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
LAYERS: list[str] = CONTRACT["tool"]["importlinter"]["contracts"][0]["layers"]
ROWS = [{room.strip() for room in row.split("|")} for row in LAYERS]

DRIVER = PACKAGE / "collect/live.py"
"""The step that calls its neighbours on both sides, and so sits above both."""


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


WALK = [PROJECT / step for step in re.findall(r"^\d+\. `([^`]+)`", section("The path of one value"), re.MULTILINE)]
PYTHON = [step for step in WALK if step.suffix == ".py"]


def row_of(file: Path) -> int:
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return next(number for number, rooms in enumerate(ROWS) if room in rooms)


def imported_by(file: Path) -> set[Path]:
    """The files of the package that a file imports, lazy imports included."""
    return {found for name in _relative_imports(file) if (found := _file_of(name)) is not None}


def _relative_imports(file: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            yield from (base, *(base / alias.name for alias in node.names))
            yield from _behind_package(base, {alias.name for alias in node.names})


def _behind_package(package: Path, names: set[str]) -> Iterator[Path]:
    """Where the ``__init__`` of a package has these names from."""
    init = package / "__init__.py"
    if init.is_file() and init.parent != PACKAGE:
        for node in ast.parse(init.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.level == 1 and names & {each.name for each in node.names}:
                yield package / (node.module or "")


def _file_of(module: Path) -> Path | None:
    file = module.with_suffix(".py")
    return file if file.is_file() else None


def test_every_file_it_names_exists() -> None:
    named = {name for name in re.findall(r"`([\w./-]+(?:/[\w.-]+|\.\w+))`", PAGE) if "NAME" not in name}
    assert len(named) > 25
    lost = [name for name in named if not (PROJECT / name).exists() and not (PACKAGE / name).exists()]
    assert lost == []


def test_its_rows_are_those_of_the_contract() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|", section("Packages"), re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == ROWS


def test_the_walk_goes_from_the_bpf_program_to_a_command() -> None:
    assert WALK[0] == PACKAGE / "sources/bpf/kvmscope.bpf.c"
    assert WALK[-1].parent == PACKAGE / "cli"
    assert len(set(WALK)) == len(WALK)


def test_program_and_reader_share_the_header_between_them() -> None:
    program, header, reader = WALK[:3]
    assert f'#include "{header.name}"' in program.read_text(encoding="utf-8")
    assert str(header.relative_to(PACKAGE)) in reader.read_text(encoding="utf-8")


@pytest.mark.parametrize(("step", "following"), list(pairwise(PYTHON)), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_each_step_imports_its_neighbour_and_never_upwards(step: Path, following: Path) -> None:
    importers = [(a, b) for a, b in ((step, following), (following, step)) if b in imported_by(a)]
    assert len(importers) == 1, "neither imports the other, or both do"
    importer, imported = importers[0]
    assert row_of(importer) <= row_of(imported)
    assert importer == following or DRIVER in (step, following), "data would move against the imports"


def test_the_rows_of_the_walk_only_rise() -> None:
    rows = [row_of(step) for step in PYTHON if step.parent != DRIVER.parent]
    assert rows == sorted(rows, reverse=True)


def test_the_loop_reaches_the_windows_and_the_overview_by_the_watch() -> None:
    watch = PACKAGE / "view/watch.py"
    assert watch in imported_by(PACKAGE / "collect/host.py")
    assert {PACKAGE / "analysis/window.py", PACKAGE / "view/overview.py"} <= imported_by(watch)
