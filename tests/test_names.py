"""A name stands for one thing.

A class of the lab or of the tests has a name that no other class has, so that a search for it finds one thing. A
constant of a module gets its value once: a second one of the same name further down would take its place everywhere.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
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


CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")


def constants_of(module: ast.Module) -> Iterator[str]:
    """Those that statements of the module itself give a value, as often as they do."""
    for node in module.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            yield from (
                each.id for each in ast.walk(target) if isinstance(each, ast.Name) and CONSTANT.fullmatch(each.id)
            )


def test_a_constant_of_a_module_gets_its_value_once() -> None:
    constants = {
        path.relative_to(PROJECT): Counter(constants_of(ast.parse(path.read_text(encoding="utf-8"))))
        for folder in ("src", "tests", "bench", "tools")
        for path in (PROJECT / folder).rglob("*.py")
    }
    assert sum(map(len, constants.values())) > 1000
    again = {str(path): [name for name, times in found.items() if times > 1] for path, found in constants.items()}
    assert {path: names for path, names in again.items() if names} == {}
