"""A class of the lab or of the tests has a name that no other class has, so that a search for it finds one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PROJECT = Path(__file__).parent.parent
OURS = (PROJECT / "src/kvmscope/lab", PROJECT / "tests")


def classes_of(folder: Path) -> dict[str, list[Path]]:
    found = defaultdict(list)
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(path)
    return found


def test_each_class_of_the_lab_and_the_tests_has_a_name_of_its_own() -> None:
    places: dict[str, list[Path]] = defaultdict(list)
    for folder in ("src", "tests"):
        for name, paths in classes_of(PROJECT / folder).items():
            places[name] += paths
    ours = {
        name: paths for name, paths in places.items() if any(path.is_relative_to(o) for o in OURS for path in paths)
    }
    assert len(ours) > 100
    assert {name: paths for name, paths in ours.items() if len(paths) > 1} == {}
