"""docs/reference/rules-by-case.md has every rule of the catalogue, with cases that exist and are about that rule."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from troubles import TROUBLES

from kvmscope.catalog.findings import load_findings

NO_GUESTS = {"test_nothing_is_found_in_a_first_window_but_what_needs_no_second"}
"""Of the first window of guests that have a trouble."""

PROJECT = Path(__file__).parent.parent
TEXT = (PROJECT / "docs" / "reference" / "rules-by-case.md").read_text(encoding="utf-8")
FILES = {
    "live": "tests/live/test_findings.py",
    "kernels": "tests/kernels/test_findings.py",
    "vmms": "tests/live/test_healthy_vmms.py",
    "managers": "tests/live/test_managers.py",
    "libvirt": "tests/live/test_libvirt.py",
}

ROW = re.compile(r"^\| `([a-z0-9-]+)` \| .* \| (.*) \| (.*) \|$", re.MULTILINE)
WELL = re.compile(r"^\| [^`].* \| ((?:here|6\.1).*) \| (.*) \|$", re.MULTILINE)
CASE = re.compile(r"(\w+) `([^`]+)`")

RULES = {rule: (where, CASE.findall(cases)) for rule, where, cases in ROW.findall(TEXT)}
WITHOUT_TROUBLE = [case for _, cases in WELL.findall(TEXT) for case in CASE.findall(cases)]


@cache
def module(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"cases_of_{file}", PROJECT / FILES[file])
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[loaded.__name__] = loaded  # where dataclasses look for their module
    spec.loader.exec_module(loaded)
    return loaded


def rules_of(file: str, name: str) -> set[str]:
    """The rules that a test or case of a file says must fire."""
    if file == "rules":
        return {slug for slug in TROUBLES if slug == name}
    found = module(file)
    if name.startswith("test_"):
        slugs = {rule.slug for rule in load_findings()}
        return slugs & set(re.findall(r'"([a-z0-9-]+)"', inspect.getsource(getattr(found, name))))
    if file == "live":
        rules: frozenset[str] = found.TROUBLES[name].rules
        return set(rules)
    without_avic: dict[str, dict[str, Any]] = found.WITHOUT_AVIC
    if name in without_avic:
        return set().union(*without_avic[name].values())
    return set(found.WITH_AVIC[name])


def test_every_rule_stands_there_once_and_no_other() -> None:
    rows = [rule for rule, _, _ in ROW.findall(TEXT)]
    assert sorted(rows) == sorted(rule.slug for rule in load_findings())


@pytest.mark.parametrize("rule", RULES)
def test_each_case_of_a_rule_demands_that_it_fires(rule: str) -> None:
    where, cases = RULES[rule]
    assert cases, f"{rule} has no case"
    for file, name in cases:
        assert rule in rules_of(file, name), f"{file} {name} is not about {rule}"
    kinds = {"live": "here", "kernels": "6.1"}
    assert where == "crafted" or where == ", ".join(kinds[file] for file, _ in cases)


@pytest.mark.parametrize(("file", "name"), WITHOUT_TROUBLE, ids=lambda part: part)
def test_what_is_well_has_a_test_that_demands_silence(file: str, name: str) -> None:
    assert len(WITHOUT_TROUBLE) >= 5
    assert "mmu-lock-contended" not in rules_of(file, name)
    if name != "a lock for one":
        assert rules_of(file, name) == set()


SILENT = re.compile(r"^def (test_(?:no_rule_fires|nothing_is_found)\w+)", re.MULTILINE)


@pytest.mark.parametrize("file", FILES)
def test_every_test_that_demands_silence_of_real_guests_is_in_the_table(file: str) -> None:
    there = {name for of_file, name in WITHOUT_TROUBLE if of_file == file}
    assert {*SILENT.findall((PROJECT / FILES[file]).read_text(encoding="utf-8"))} - NO_GUESTS <= there


def test_a_case_that_there_is_not_would_be_found() -> None:
    with pytest.raises(KeyError):
        rules_of("live", "no such trouble")
    with pytest.raises(AttributeError):
        rules_of("kernels", "test_no_such_thing")
