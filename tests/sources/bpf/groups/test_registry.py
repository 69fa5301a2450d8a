"""A group is an entry of the catalogue, one Python file and one C file, and nothing else names it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kvmscope
from kvmscope.catalog.groups import GroupHome, load_groups
from kvmscope.sources.bpf.groups import plans_by_name

PACKAGE = Path(kvmscope.__file__).parent
HERE = PACKAGE / "sources" / "bpf" / "groups"


def test_every_group_of_the_catalogue_with_an_object_has_a_plan_and_its_files() -> None:
    assert list(plans_by_name()) == [name for name, group in load_groups().items() if group.home is GroupHome.OBJECT]
    for name in plans_by_name():
        assert {f"{name}.py", f"{name}.bpf.c", f"{name}.bpf.o"} <= {path.name for path in HERE.iterdir()}


def test_every_program_of_a_group_is_in_the_catalogue() -> None:
    assert {path.name.removesuffix(".bpf.c") for path in HERE.glob("*.bpf.c")} == set(plans_by_name())


OTHER_THINGS_TOO = {"exits", "userspace"}
"""A stat of KVM, and where an irqchip is emulated, are called so as well."""


@pytest.mark.parametrize("name", sorted(set(plans_by_name()) - OTHER_THINGS_TOO))
def test_no_other_file_names_a_group(name: str) -> None:
    naming = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if name in _strings(path)]
    # The lab plays hosts in which groups counted.
    others = [path for path in naming if path.parts[0] != "lab" and path.name != f"{name}.py"]
    assert others == []


def _strings(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
