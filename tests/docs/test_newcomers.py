"""What newcomers look for is near: ten questions, the glossary, and an example for each thing that one can add."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import DOCS, PROJECT, CodeBlock, code_blocks, pages_behind

from kvmscope.catalog.caveats import load_caveats
from kvmscope.catalog.findings import load_findings
from kvmscope.catalog.groups import load_groups
from kvmscope.catalog.inhibits import load_inhibits
from kvmscope.catalog.metrics import load_metrics
from kvmscope.catalog.settings import load_settings
from kvmscope.catalog.stats import load_stats

QUESTIONS = re.findall(r"^(\d+)\. (.*(?:\n   .*)*)", (DOCS / "questions.md").read_text(encoding="utf-8"), re.MULTILINE)
CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^### (.*?)\n(.*?)(?=^##)", CONTRIBUTING, re.MULTILINE | re.DOTALL)
GLOSSARY = re.findall(r"^\*\*(.+?)\*\* ", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)


def within_clicks(count: int) -> set[Path]:
    """The pages that are reached from the index by so many clicks."""
    reached = {DOCS / "index.md"}
    for _ in range(count):
        reached |= {
            there for page in reached if page.suffix == ".md" and page.is_file() for there in pages_behind(page)
        }
    return reached


def test_there_are_ten_questions_and_the_index_leads_to_them() -> None:
    assert [number for number, _ in QUESTIONS] == [str(number) for number in range(1, 11)]
    assert DOCS / "questions.md" in within_clicks(1)


@pytest.mark.parametrize(("number", "text"), QUESTIONS)
def test_every_question_is_answered_within_two_clicks_from_the_index(number: str, text: str) -> None:
    answers = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#]+)", text)}
    assert answers, number
    assert answers <= within_clicks(2)


def test_the_glossary_is_in_order_and_has_each_term_once() -> None:
    keys = [term.lower() for term in GLOSSARY]
    assert len(keys) > 40
    assert keys == sorted(set(keys))


def test_every_file_that_contributing_names_is_there() -> None:
    named = re.findall(r"`((?:src|tests|tools|examples|bench|docs)/[\w./-]+)`", CONTRIBUTING)
    assert len(named) > 25
    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_every_kind_of_addition_has_an_example_to_copy_from() -> None:
    assert len(SECTIONS) >= 11
    assert [title for title, text in SECTIONS if "- Example: " not in text and "kernel_stats.py" not in text] == []


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("statistic", {stat.name for stat in load_stats()}),
        ("caveat", set(load_caveats())),
        ("metric", {metric.name for metric in load_metrics()}),
        ("rule", {rule.slug for rule in load_findings()}),
        ("inhibit reason", set(load_inhibits())),
        ("setting", set(load_settings())),
        ("group", set(load_groups())),
    ],
)
def test_the_examples_are_in_the_catalogue(words: str, names: set[str]) -> None:
    (text,) = [text for title, text in SECTIONS if words in title.lower()]
    examples = re.findall(r"- Example: (.*)", text)
    assert names & set(re.findall(r"`([\w-]+)`", examples[0]))


@pytest.mark.parametrize(
    "block", [block for block in code_blocks(PROJECT / "CONTRIBUTING.md") if block.language == "toml"]
)
def test_an_example_is_an_entry_of_the_catalogue_as_it_stands_there(block: CodeBlock) -> None:
    files = (PROJECT / "src/kvmscope/catalog").glob("*.toml")
    assert [file.name for file in files if f"\n{block.text}\n" in file.read_text(encoding="utf-8")], (
        "the catalogue has this entry otherwise: copy it to CONTRIBUTING.md"
    )


def test_whatever_is_generated_is_rewritten_by_one_target() -> None:
    tools = {path.name for path in (PROJECT / "tools").glob("*.py") if '"--check"' in path.read_text(encoding="utf-8")}
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^generate: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert set(re.findall(r"python tools/(\S+)", recipe)) == tools - {"exit_reasons.py"} | {"schemas.py"}


def test_every_example_stands_in_the_list_of_examples() -> None:
    text = (PROJECT / "examples" / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in (PROJECT / "examples").iterdir() if path.is_file() and path.name != "README.md"}
    assert {name for name in files if f"[{name}]({name})" not in text} == set()


def test_a_bug_report_asks_for_a_snapshot() -> None:
    text = (PROJECT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8")
    form = pytest.importorskip("yaml").safe_load(text)
    (snapshot,) = [part for part in form["body"] if part.get("id") == "snapshot"]
    assert "kvmscope snapshot report.zip --anonymise" in snapshot["attributes"]["description"]
    assert snapshot["validations"]["required"]
