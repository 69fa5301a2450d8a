"""``kvmscope schema``: dumps that are read again, differences and contracts to the byte, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from kvmscope.catalog.kernels import find_kernel
from kvmscope.cli.schema import schema
from kvmscope.codec.schema_json import encode, parse

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
EXAMPLE = str(PROJECT / "examples" / "contract.toml")

RELIES_ON_LPAGES = """\
name = "large-page-watch"
architectures = ["x86"]
kernels = ["5.14", "5.15", "6.1"]

[[stat]]
name = "lpages"
scope = "vm"
kind = "instant"
why = "how much of a VM is mapped by large pages"

[[stat]]
name = "halt_wait_ns"
scope = "vcpu"
kind = "cumulative"
unit = "nanoseconds"

[[stat]]
name = "exits"
scope = "vcpu"
kind = "cumulative"
"""


@pytest.fixture
def lpages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A contract that names a stat which 5.15 replaced; in the working directory, so that messages are the same."""
    monkeypatch.chdir(tmp_path)
    Path("contract.toml").write_text(RELIES_ON_LPAGES, encoding="utf-8")
    return "contract.toml"


def test_a_dump_has_every_schema_of_the_source(kvmscope: Any, crafted: Any) -> None:
    result = kvmscope.run("schema", "dump", on=[crafted.after])
    dumped = parse(result.stdout, file="-")
    assert dumped.tables == tuple(block.schema.table for block in crafted.after.blocks)
    assert (dumped.captured, dumped.how) == (True, "by the source test")
    assert {table.provider for table in dumped.tables} == {"kvm", "disk"}


def test_a_dump_goes_to_a_file(kvmscope: Any, crafted: Any, tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    result = kvmscope.run("schema", "dump", "--json", str(file), on=[crafted.after])
    assert (result.exit_code, result.stdout) == (0, "")
    assert parse(file.read_text(encoding="utf-8"), file="x").tables
    failed = kvmscope.run("schema", "dump", "--json", str(tmp_path / "no" / "x.json"), on=[crafted.after])
    assert (failed.exit_code, failed.stdout) == (5, "")
    assert "No such file" in failed.stderr


@pytest.mark.parametrize(("before", "after"), [("6.1", "7.3"), ("5.14", "6.0"), ("x86-6.1", "arm64-6.1")])
def test_differences_are_as_expected(kvmscope: Any, expect: Any, before: str, after: str) -> None:
    result = kvmscope.run("schema", "diff", before, after)
    assert result.exit_code == 1
    expect(f"schema-diff-{before}-{after}.txt", result.stdout.rstrip("\n"))


def test_differences_as_json_are_as_expected(kvmscope: Any, expect: Any) -> None:
    result = kvmscope.run("schema", "diff", "6.1", "7.3", "--json")
    assert result.exit_code == 1
    expect("schema-diff.json", result.stdout.rstrip("\n"))


def test_equal_kernels_exit_with_0(kvmscope: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(encode(find_kernel("6.12")), encoding="utf-8")
    result = kvmscope.run("schema", "diff", "6.12", str(file))
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "no difference")
    assert json.loads(kvmscope.run("schema", "diff", "6.12", str(file), "--json").stdout)["differences"] == []


def test_a_contract_that_breaks_is_told_with_what_to_use(kvmscope: Any, expect: Any, lpages: str) -> None:
    result = kvmscope.run("schema", "check", lpages, "--stated")
    assert result.exit_code == 1
    assert "use pages_4k, pages_2m, pages_1g" in result.stdout
    expect("schema-check.txt", result.stdout.rstrip("\n"))
    as_json = kvmscope.run("schema", "check", lpages, "5.14", "7.3", "--json")
    assert as_json.exit_code == 1
    expect("schema-check.json", as_json.stdout.rstrip("\n"))


def test_a_contract_that_holds_exits_with_0(kvmscope: Any) -> None:
    result = kvmscope.run("schema", "check", EXAMPLE, "--stated")
    assert result.exit_code == 0
    assert "holds on x86 5.15 to 7.3" in result.stdout
    assert "breaks" not in result.stdout
    one = json.loads(kvmscope.run("schema", "check", EXAMPLE, "6.1", "--json").stdout)
    assert [(kernel["name"], kernel["stated"], kernel["holds"]) for kernel in one["kernels"]] == [
        ("x86-6.1", True, True)
    ]


@pytest.mark.live
@pytest.mark.needs("kvm")
def test_this_kernel_is_here(kvmscope: Any, lpages: str, tmp_path: Path) -> None:
    """A contract that names lpages fails on any kernel since 5.15, and the example's stats are in all of those."""
    broken = kvmscope.run("schema", "check", lpages, "here")
    assert broken.exit_code == 1
    assert "breaks on here" in broken.stdout
    assert "use pages_4k, pages_2m, pages_1g" in broken.stdout
    assert kvmscope.run("schema", "check", EXAMPLE).exit_code == 0
    assert "exits" in kvmscope.run("schema", "diff", "5.14", "--json").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["diff", "9.9"], 2, "no kernel called '9.9' is known"),
        (["diff", "no/such.json", "6.1"], 2, "no/such.json: No such file or directory"),
        (["diff"], 2, "Missing argument 'A'"),
        (["check", "none.toml"], 2, "none.toml: No such file or directory"),
        (["check", "contract.toml", "6.1", "--stated"], 2, "--stated takes the kernels from the contract"),
        (["check", "anywhere.toml", "--stated"], 2, "anywhere.toml states no kernels"),
        (["check", "broken.toml", "6.1"], 4, "broken.toml:3: stat exits: expected a key 'scope', found none"),
        (["check", "contract.toml", "broken.json"], 4, 'broken.json:1: expected an object with "format"'),
        (["diff", "short.json", "6.1"], 4, "short.json:2:"),
        (["diff", "bytes.json", "6.1"], 4, "bytes.json:1: expected UTF-8"),
    ],
)
def test_what_goes_wrong_is_told_with_its_place(
    kvmscope: Any, lpages: str, arguments: list[str], code: int, message: str
) -> None:
    Path("anywhere.toml").write_text('name = "x"\n[[stat]]\nname = "exits"\nscope = "vcpu"\nkind = "cumulative"\n')
    Path("broken.toml").write_text('name = "x"\n\n[[stat]]\nname = "exits"\nkind = "cumulative"\n')
    Path("broken.json").write_text("{}")
    Path("short.json").write_text('{"format": "kvmscope/1",\n"kernel": ')
    Path("bytes.json").write_bytes(b"\xff\xfe{}")
    result = kvmscope.run("schema", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


def test_every_command_and_flag_stands_in_the_docs() -> None:
    assert isinstance(schema, click.Group)
    section = (
        (DOCS / "reference/commands.md").read_text(encoding="utf-8").split("## `kvmscope schema")[1].split("\n## ")[0]
    )
    context = click.Context(schema)
    for name in schema.list_commands(context):
        command = schema.get_command(context, name)
        assert command is not None
        assert command.help
        assert f"`schema {name}" in section
        flags = [flag for param in command.params if isinstance(param, click.Option) for flag in param.opts]
        assert [flag for flag in flags if f"`{flag}" not in section] == []
