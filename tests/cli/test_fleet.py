"""The commands of ``fleet``: what they print, that their JSON is as documented, what they refuse, and the tutorial."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb", reason="DuckDB is not installed: make setup")

from json_schemas import check_json

from kvmscope.catalog.findings import find_rule
from kvmscope.catalog.settings import ANY
from kvmscope.cli import main
from kvmscope.engines.fleets import open_recorded_fleet
from kvmscope.lab.fleet import ANSWERS, write_fleet
from kvmscope.lab.fleet_plan import FleetSize
from kvmscope.store.writer import RecordingWriter

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = ("status", "doctor", "apicv", "diff", "schemas")
TUTORIAL = re.search(r"```console\n(.*?)```", (DOCS / "howto/fleet.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fleet") / "recording"
    write_fleet(directory, FleetSize(hosts=20, vms=4, vcpus=2, samples=6))
    return directory


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("fleet", *arguments), prog_name="kvmscope")


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_as_its_schema_says_and_text_fits_a_page(fleet: Path, command: str) -> None:
    done = run(command, str(fleet), "--json")
    assert done.exit_code == 0, done.output
    check_json(("fleet", command), done.stdout)
    answer = json.loads(done.stdout)
    assert (answer["format"], answer["engine"], answer["host_count"]) == ("kvmscope/1", "DuckDB", 20)
    text = run(command, str(fleet)).stdout
    assert text.startswith("SIMULATED")
    assert "20 hosts" in text


def test_doctor_has_what_was_planted_and_shows_one_rule_or_one_host(fleet: Path) -> None:
    planted = json.loads((fleet / ANSWERS).read_text())["planted"]
    due: dict[str, int] = {}
    for each in planted:
        if each["rule"]:
            due[each["rule"]] = due.get(each["rule"], 0) + 1
    answer = json.loads(run("doctor", str(fleet), "--json").stdout)
    assert {total["rule"]: total["vms"] for total in answer["by_rule"]} == due
    one = next(each for each in planted if each["rule"])
    of_rule = run("doctor", str(fleet), "--of", one["rule"]).stdout
    assert f"[{one['rule']}]" in of_rule
    assert f"{one['host_name']}  {one['name']}" in re.sub(r" {2,}", "  ", of_rule)
    of_host = json.loads(run("doctor", str(fleet), "--of", one["host_name"], "--json").stdout)
    assert {each["host"] for each in of_host["findings"]} == {one["host"]}


def test_a_fix_is_written_as_those_who_run_the_vms_write_it(fleet: Path) -> None:
    """As ``doctor`` writes it for one host: each manager and VMM of the VMs with findings, and nobody else."""
    planted = json.loads((fleet / ANSWERS).read_text())["planted"]
    by_rule = json.loads(run("doctor", str(fleet), "--json").stdout)["by_rule"]
    ways = {(total["rule"], way["party"]) for total in by_rule for fix in total["remedies"] for way in fix["how"]}
    assert {party for _, party in ways} >= {"cloud-hypervisor", "qemu"}
    with open_recorded_fleet([str(fleet)]) as store:
        running = {(each.host, each.vm): each for each in store.vms({(one["host"], one["vm"]) for one in planted})}
    parties: dict[str, set[str | None]] = {}
    for each in planted:
        vm = running[each["host"], each["vm"]]
        parties.setdefault(each["rule"], {ANY}).update({vm.vmm, vm.managed_by})
    assert all(party in parties[rule] for rule, party in ways)
    written = next(total for total in by_rule if any(fix["how"] for fix in total["remedies"]))
    text = run("doctor", str(fleet), "--of", written["rule"]).stdout
    said = [way["text"] for fix in written["remedies"] for way in fix["how"]]
    assert said
    assert all(way.split()[0] in text for way in said)


def test_a_fix_that_no_host_with_the_finding_can_follow_is_left_out(fleet: Path) -> None:
    """All hosts have EPT or NPT and the TDP MMU switched on."""
    rule = find_rule("mmu-lock-contended")
    assert sum(fix.only_if is not None for fix in rule.remedies) == 2
    by_rule = {total["rule"]: total for total in json.loads(run("doctor", str(fleet), "--json").stdout)["by_rule"]}
    fixes = [fix["do"] for fix in by_rule[rule.slug]["remedies"]]
    assert sorted(fixes) == sorted(fix.do for fix in rule.remedies if fix.only_if is None)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("doctor",), 2, "name one store to query"),
        (("doctor", "DIR", "--prometheus", "http://127.0.0.1:1"), 2, "name one store to query"),
        (("doctor", "DIR", "--of", "node-9999"), 2, "there is no host 'node-9999'"),
        (("diff", "DIR", "--by", "colour"), 2, "not by 'colour'"),
        (("status", "/nowhere"), 4, "/nowhere"),
    ],
)
def test_what_cannot_be_asked_is_refused(fleet: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = run(*(str(fleet) if word == "DIR" else word for word in arguments))
    assert (done.exit_code, done.stdout) == (code, "")
    assert words in done.stderr


@pytest.mark.parametrize(
    "asked", ["status", "doctor", "doctor --of wakeups-late", "apicv", "diff --by kernel", "schemas"]
)
def test_a_recording_that_has_just_been_begun_has_no_host(asked: str, tmp_path: Path) -> None:
    RecordingWriter(tmp_path / "begun").close()
    done = run(*asked.split(), str(tmp_path / "begun"))
    assert (done.exit_code, done.stdout) == (4, "")
    assert "it has no host" in done.stderr


@pytest.mark.parametrize("option", ["--clickhouse", "--prometheus"])
def test_a_store_that_does_not_answer_is_exit_3_with_what_would_help(option: str) -> None:
    done = run("status", option, "http://127.0.0.1:9")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "127.0.0.1:9" in done.stderr
    assert "\n  try: " in done.stderr


def test_the_tutorial_runs_as_it_is_written(tmp_path: Path) -> None:
    assert TUTORIAL is not None
    lines = [line.removeprefix("$ ") for line in TUTORIAL[1].splitlines()]
    assert 0 < len(lines) <= 10
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    output = ""
    for line in lines:
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment, timeout=120
        )
        assert done.returncode == 0, (line, done.stderr)
        output = done.stdout
    assert "2 hosts" in output
    assert "findings by" in output
