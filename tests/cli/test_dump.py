"""``dump``: a recording, or this host, in three formats."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result
from crafted import BEFORE, MACHINE, ListSource, make_sample
from loads import Load, record, simulated_scenes

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")

from kvmscope.cli import main
from kvmscope.collect import Host
from kvmscope.view.dump import DumpRow
from kvmscope.view.schemas import json_schema


def run(*arguments: str, obj: Any = None) -> Result:
    return CliRunner().invoke(main, ("dump", *arguments), obj=obj, prog_name="kvmscope")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    one, two = Load(vms=2, boot="1" * 32), Load(vms=2, boot="2" * 32)
    scenes = simulated_scenes(10, load=one) + simulated_scenes(4, begin_s=20, load=two)
    return record(scenes, tmp_path_factory.mktemp("dump") / "r")


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_scene_of_every_boot_is_dumped(recording: str) -> None:
    rows = rows_of(run("--from", recording, "exits", "--metric", "exits_per_s").stdout)
    assert len(rows) == 14 * 4
    first_of_a_boot = [place // 4 for place, row in enumerate(rows) if not row["exits_per_s"]]
    assert sorted(set(first_of_a_boot)) == [0, 10]


def test_a_longer_interval_and_times_leave_out_scenes(recording: str) -> None:
    rows = rows_of(run("--from", recording, "exits", "--interval", "3s", "--between", "22:13:20", "22:13:29").stdout)
    assert [row["time"][17:19] for row in rows[::4]] == ["20", "23", "26", "29"]


def test_json_lines_are_as_their_schema_says(recording: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: make setup")
    lines = run("--from", recording, "--format", "jsonl", "--per", "vm", "--metric", "*").stdout.splitlines()
    assert len(lines) == 14 * 2
    validator = jsonschema.Draft202012Validator(json_schema(DumpRow))
    for line in (lines[0], lines[-1]):
        assert not list(validator.iter_errors(json.loads(line)))


def test_openmetrics_ends_as_it_must(recording: str) -> None:
    text = run("--from", recording, "--format", "openmetrics", "--label", "instance=node-1", "exits").stdout
    assert text.endswith("# EOF\n")
    assert 'kvm_vcpu_exits_total{instance="node-1",vm="vm-0",vcpu="0"}' in text


def test_this_host_is_read_as_often_as_was_asked() -> None:
    samples = [make_sample(BEFORE, at_s=second) for second in range(3)]
    result = run(
        "exits", "--count", "3", "--interval", "1ms", obj=lambda _: Host(ListSource(samples), {}, machine=MACHINE)
    )
    rows = rows_of(result.stdout)
    assert len(rows) == 3 * 6
    assert [row["exits"] for row in rows if row["name"] == "half"] == ["7", ""] * 3  # one vCPU could not be read


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--between", "-1s", "-2s"), 2, "name one by --from"),
        (("--from", "R", "--between", "-1s", "-2s"), 2, "is after"),
        (("--from", "R", "--count", "3"), 2, "--source and --count"),
        (("--from", "R", "no_such_stat"), 2, "there is no stat no_such_stat"),
        (("--from", "R", "--metric", "speed"), 2, "there is no metric"),
        (("--from", "R", "--vm", "nobody"), 2, "there is no VM"),
        (("--from", "R", "--label", "a=b"), 2, "--label needs --format openmetrics"),
        (("--from", "R", "--format", "openmetrics", "--label", "vm=b"), 2, "expected NAME=VALUE"),
        (("--from", "R", "--format", "openmetrics", "--label", "9=b"), 2, "expected NAME=VALUE"),
        (("--from", "/nowhere"), 4, "no such directory"),
    ],
)
def test_what_cannot_be_dumped_is_refused(recording: str, options: tuple[str, ...], code: int, message: str) -> None:
    result = run(*(recording if word == "R" else word for word in options))
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert message in result.stderr


def test_a_full_directory_for_temporary_files_is_told_with_the_variable_that_names_it(recording: str) -> None:
    limited = [
        "sh",
        "-c",
        'ulimit -f 8; exec "$@"',
        "sh",
        sys.executable,
        "-m",
        "kvmscope",
        "dump",
        "--from",
        recording,
    ]
    done = subprocess.run([*limited, "--format", "openmetrics"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("kvmscope: the output could not be written: ")
    assert "TMPDIR names its directory" in done.stderr
