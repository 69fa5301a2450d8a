"""``report``: a recording as a page, as Markdown and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from loads import Load, record, simulated_scenes

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")
pytest.importorskip("jinja2", reason="jinja2 is not installed: make setup")

from kvmscope.cli import main
from kvmscope.view.report import ReportView
from kvmscope.view.schemas import json_schema


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("report", *arguments), prog_name="kvmscope")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    return record(simulated_scenes(20, load=Load(vms=3)), tmp_path_factory.mktemp("report") / "r")


def test_a_page_is_written_to_a_file(recording: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    result = run(recording, "-o", str(file))
    assert (result.exit_code, result.output) == (0, "")
    assert file.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert run(recording).stdout == file.read_text(encoding="utf-8")


def test_the_ending_of_the_file_is_its_format(recording: str, tmp_path: Path) -> None:
    for ending, begin in ((".md", "# KVM report of host"), (".json", "{")):
        file = tmp_path / f"report{ending}"
        assert run(recording, "-o", str(file)).exit_code == 0
        assert file.read_text(encoding="utf-8").startswith(begin)


def test_json_is_as_its_schema_says(recording: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: make setup")
    value = json.loads(run(recording, "--format", "json").stdout)
    assert not list(jsonschema.Draft202012Validator(json_schema(ReportView)).iter_errors(value))


def test_a_part_of_a_recording_is_reported(recording: str) -> None:
    value = json.loads(run(recording, "--format", "json", "--between", "22:13:25", "-5s").stdout)
    assert (value["begin"][17:19], value["end"][17:19]) == ("25", "34")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("R", "--between", "-1s", "-2s"), 2, "is after"),
        (("R", "--between", "-500ms", "-0.1s"), 2, "no scene at this time"),
        (("R", "--between", "-1500ms", "-500ms"), 2, "no two scenes"),
        (("R", "--host", "nobody"), 2, "no scene of nobody"),
        (("/nowhere",), 4, "no such directory"),
        (("R", "-o", "/nowhere/report.html"), 5, "/nowhere/report.html"),
    ],
)
def test_what_cannot_be_reported_is_refused(recording: str, options: tuple[str, ...], code: int, message: str) -> None:
    result = run(*(recording if word == "R" else word for word in options))
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert message in result.stderr
