"""Everything that has a name for users stands in the reference: commands, options, keys of JSON and files, variables,
and what the catalogue has. Slugs of errors and columns of status are held by tests/cli/test_main.py.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import DOCS, PROJECT

pytest.importorskip("click")

import click

import kvmscope
from kvmscope.catalog.caveats import load_caveats
from kvmscope.catalog.findings import load_findings
from kvmscope.catalog.groups import load_groups
from kvmscope.catalog.inhibits import load_inhibits
from kvmscope.catalog.metrics import load_metrics
from kvmscope.catalog.questions import load_questions
from kvmscope.catalog.settings import load_settings
from kvmscope.catalog.stats import load_stats
from kvmscope.cli import main
from kvmscope.collect import SOURCES as SOURCES_OF_HOST
from kvmscope.errors import Unavailable
from kvmscope.lab.workloads import WORKLOADS
from kvmscope.view.check import failed_source
from kvmscope.view.schemas import VIEWS

REFERENCE = DOCS / "reference"
SOURCES = PROJECT / "src" / "kvmscope"
COMMAND_PAGES = ("commands.md", "lab.md", "kernels.md")
CONFIGURATION = (REFERENCE / "configuration.md").read_text(encoding="utf-8")


def every_command(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    yield context.command_path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            if not child.hidden:
                yield from every_command(child, click.Context(child, parent=context, info_name=name))


COMMANDS = dict(every_command(main, click.Context(main, info_name="kvmscope")))


def sections() -> dict[str, str]:
    """What the reference says of each command, by the words of its heading; of kvmscope alone, the beginning."""
    first, *others = re.split(r"^##+ ", (REFERENCE / COMMAND_PAGES[0]).read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {"kvmscope": first}
    for text in others:
        if heading := re.match(r"`(kvmscope [a-z ]*[a-z])", text):
            found[heading[1]] = text
    found["kvmscope lab"] += "".join((REFERENCE / name).read_text(encoding="utf-8") for name in COMMAND_PAGES[1:])
    return found


SECTIONS = sections()


def section_of(path: str) -> str:
    """The section of a command, of the command that it belongs to, or of the only one that it has."""
    above = [path, path.rpartition(" ")[0]]
    below = [name for name in SECTIONS if name.startswith(f"{path} ")]
    return next(SECTIONS[name] for name in (*above[:1], *below, *above[1:]) if name in SECTIONS)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_subcommand_stands_in_the_section_of_its_command(path: str) -> None:
    words = path.removeprefix("kvmscope ")
    assert re.search(rf"`(kvmscope )?{words}\b", section_of(path)), path


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_stands_in_the_section_of_its_command(path: str) -> None:
    options = [param for param in COMMANDS[path].params if isinstance(param, click.Option) and not param.hidden]
    flags = [flag for option in options for flag in (*option.opts, *option.secondary_opts)]
    text = section_of(path)
    assert [flag for flag in flags if not re.search(rf"`{flag}(?![\w-])", text)] == []


def headings(name: str) -> set[str]:
    return set(re.findall(r"^#+ (\S+)$", (REFERENCE / name).read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("stats.md", {stat.name for stat in load_stats()}),
        ("metrics.md", {metric.name for metric in load_metrics()}),
        ("findings.md", {rule.slug for rule in load_findings()}),
        ("reasons.md", set(load_inhibits())),
        ("caveats.md", set(load_caveats())),
        ("settings.md", set(load_settings())),
    ],
)
def test_everything_of_the_catalogue_is_a_heading(page: str, names: set[str]) -> None:
    assert names
    assert names - headings(page) == set()


def test_every_group_stands_on_the_page_of_groups() -> None:
    text = (REFERENCE / "groups.md").read_text(encoding="utf-8")
    assert [name for name in load_groups() if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", ["reference/commands.md", "explanation/sources.md", "glossary.md"])
def test_every_source_stands_on_the_pages_of_sources(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert [name for name in SOURCES_OF_HOST if f"`{name}`" not in text] == []


def test_check_says_what_each_source_sees() -> None:
    error = Unavailable("not here")
    assert [name for name in SOURCES_OF_HOST if failed_source(name, error).sees is None] == []


def keys_of(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for part in schema.values():
            yield from keys_of(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from keys_of(part)


@pytest.mark.parametrize("schema", sorted((DOCS / "schemas").glob("*.json")), ids=lambda path: path.stem)
def test_every_key_of_json_stands_on_the_page_of_json(schema: Path) -> None:
    text = (REFERENCE / "json.md").read_text(encoding="utf-8")
    assert f"\n## {schema.stem}\n" in text
    assert {key for key in keys_of(json.loads(schema.read_text(encoding="utf-8"))) if f"`{key}`" not in text} == set()


WRITTEN_OTHERWISE = {"replay": "status", "groups list": "groups"}
"""Commands whose JSON is that of another one."""
IN_PROSE = {"schema dump", "lab run", "lab simulate", "lab fleet"}
"""Those whose JSON is not an answer: a file that others read, and what the lab says of its guests."""


def test_every_command_with_json_has_a_schema() -> None:
    with_json = {
        path.removeprefix("kvmscope ")
        for path, command in COMMANDS.items()
        if any("--json" in param.opts for param in command.params)
    }
    assert with_json >= IN_PROSE | set(WRITTEN_OTHERWISE)
    wanted = {WRITTEN_OTHERWISE.get(words, words).replace(" ", "-") for words in with_json - IN_PROSE}
    assert wanted - set(VIEWS) == set(), "no view in VIEWS of view/schemas.py"


def test_every_public_name_stands_in_the_reference() -> None:
    text = (REFERENCE / "library.md").read_text(encoding="utf-8")
    assert [name for name in kvmscope.__all__ if f"`{name}`" not in text] == []


def test_every_ready_question_stands_in_the_reference() -> None:
    text = (REFERENCE / "sql.md").read_text(encoding="utf-8")
    assert [each.name for each in load_questions() if f"| `{each.name}` | {each.title} |" not in text] == []


def test_every_workload_of_the_lab_stands_in_the_reference() -> None:
    text = (REFERENCE / "lab.md").read_text(encoding="utf-8")
    assert [name for name in WORKLOADS if f"| `{name}`" not in text] == []


def test_every_path_of_the_api_stands_in_the_reference() -> None:
    answers = pytest.importorskip("kvmscope.web.server.answers").ANSWERS
    text = (REFERENCE / "serve.md").read_text(encoding="utf-8")
    assert [each.path for each in answers if f"`{each.path[1:]}`" not in text] == []


def literals(file: str, function: str, callee: str) -> set[str]:
    """The strings that a function passes to a callee."""
    tree = ast.parse((SOURCES / file).read_text(encoding="utf-8"))
    bodies = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function]
    calls = [node for body in bodies for node in ast.walk(body) if isinstance(node, ast.Call)]
    mine = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == callee]
    parts = [part.value for call in mine for part in ast.walk(call) if isinstance(part, ast.Constant)]
    return {part for part in parts if isinstance(part, str)}


@pytest.mark.parametrize("function", ["read_web_config", "_tls", "_rate_limit"])
def test_every_key_of_the_web_configuration_stands_in_the_reference(function: str) -> None:
    keys = literals("web/server/web_config.py", function, "allow")
    assert len(keys) >= 2
    assert {key for key in keys if f"`{key}`" not in CONFIGURATION} == set()


def test_every_setting_of_top_stands_in_the_reference() -> None:
    text = (SOURCES / "tui" / "settings.py").read_text(encoding="utf-8")
    known = re.search(r"known = \(([^)]*)\)", text)
    assert known
    keys = re.findall(r'"(\w+)"', known[1])
    assert [key for key in keys if f"| `{key}` |" not in CONFIGURATION] == []


def test_every_key_of_a_contract_stands_in_the_reference() -> None:
    contract = literals("catalog/contracts.py", "parse_contract", "check_keys")
    contract |= literals("catalog/contracts.py", "_parse_promise", "check_keys")
    text = (REFERENCE / "schemas.md").read_text(encoding="utf-8")
    assert {"name", "kind", "why"} <= contract
    assert {key for key in contract if not re.search(rf"`(\[\[)?{key}(\]\])?`", text)} == set()


def test_every_key_of_a_proposal_stands_in_the_reference() -> None:
    keys = literals("publish/proposal.py", "parse_proposal", "check_keys")
    constants = (SOURCES / "publish/proposal.py").read_text(encoding="utf-8")
    for listed in re.findall(r"^_(?:REQUIRED|OPTIONAL) = \(([^)]*)\)", constants, re.MULTILINE):
        keys |= set(re.findall(r'"(\w+)"', listed))
    text = (REFERENCE / "review.md").read_text(encoding="utf-8")
    assert {"title", "name", "moved_in"} <= keys
    assert {key for key in keys if not re.search(rf"`{key}`|^(\[\[)?{key}(\]\]$| = )", text, re.MULTILINE)} == set()


def test_every_variable_of_the_environment_stands_in_the_reference() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    variables = set(re.findall(r'"(_?KVMSCOPE_[A-Z_]+)"', text))
    variables |= set(re.findall(r'environ(?:\.get\(|\[)"(\w+)"', text)) - {"PATH"}
    variables |= set(re.findall(r'"(\w+)" (?:not )?in os.environ', text))
    assert {"KVMSCOPE_DEBIAN_MIRROR", "XDG_STATE_HOME", "NO_COLOR", "TERM"} <= variables
    assert {variable for variable in variables if f"`{variable}`" not in CONFIGURATION} == set()
