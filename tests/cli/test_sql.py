"""``sql``: what it writes, what it refuses, its prompt, and that every example of the docs runs."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from engines_at_hand import close_session
from loads import Load, record, simulated_scenes

pytest.importorskip("duckdb", reason="DuckDB is not installed: make setup")
import pyarrow.parquet as pq
from json_schemas import check_json

from kvmscope.catalog.questions import load_questions
from kvmscope.cli import main

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = re.findall(r"```sql\n(.*?)```", (DOCS / "reference/sql.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    return record(
        simulated_scenes(4, load=Load(vms=2, names=("web-1", "ev\x1b[31mil"))), tmp_path_factory.mktemp("sql") / "r"
    )


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ("sql", *arguments), prog_name="kvmscope", input=text)


def test_a_query_is_answered_as_a_table(recording: str) -> None:
    done = run("--from", recording, "SELECT name, vcpu, 1.5 AS half, NULL AS nothing FROM vcpus ORDER BY name, vcpu")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["name", "vcpu", "half", "nothing"]
    assert lines[3].split() == ["web-1", "0", "1.5", "–"]
    assert "\x1b" not in done.stdout, "names are other people's"
    assert lines[-1] == "(4 rows)"


def test_json_is_as_its_schema_says(recording: str) -> None:
    values = "['a'] AS list, {'a': 1} AS record, 0/0 AS nan, true AS yes, 1 AS yes"
    query = f"SELECT name, first_seen, {values} FROM vms ORDER BY 1"
    text = run("--from", recording, "--json", query).stdout
    check_json(("sql", "--json"), text)
    row = json.loads(text)["rows"][-1]
    assert row == {
        "name": "web-1",
        "first_seen": "2023-11-14T22:13:20.000Z",
        "list": ["a"],
        "record": '{"a": 1}',
        "nan": None,
        "yes": True,
        "yes_2": 1,
    }


def test_csv_has_a_head_and_every_row(recording: str) -> None:
    done = run("--from", recording, "--csv", "SELECT time, name, exits FROM samples")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 4 * (2 + 4)
    assert sum(row["exits"] == "" for row in rows) == 8, "rows of VMs have no exits"


def test_csv_of_no_rows_has_its_head(recording: str) -> None:
    assert run("--from", recording, "--csv", "SELECT name FROM vms WHERE false").stdout == "name\n"


def test_parquet_has_the_types_of_the_engine(recording: str, tmp_path: Path) -> None:
    file = tmp_path / "out.parquet"
    done = run("--from", recording, "--output", str(file), "SELECT time, name, exits, exits FROM samples")
    assert (done.exit_code, done.stdout) == (0, "")
    table = pq.read_table(file)
    assert table.num_rows == 24
    assert [str(field.type) for field in table.schema] == ["timestamp[ns, tz=UTC]", "string", "uint64", "uint64"]
    again = run("--from", recording, "--output", str(file), "SELECT 1")
    assert again.exit_code == 2
    assert "already exists" in again.stderr


def test_a_file_that_cannot_be_written_is_exit_5(recording: str, tmp_path: Path) -> None:
    done = run("--from", recording, "--output", str(tmp_path / "no" / "out.parquet"), "SELECT 1")
    assert done.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_a_query_that_fails_midway_leaves_no_file(recording: str, tmp_path: Path) -> None:
    query = "SELECT CASE WHEN a < 999999 THEN 1 ELSE 'x'::INT END FROM range(1000000) t(a)"
    assert run("--from", recording, "--output", str(tmp_path / "out.parquet"), query).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_query_is_shown_with_its_place(recording: str) -> None:
    done = run("--from", recording, "SELECT name,\n  exit\nFROM deltas")
    assert done.exit_code == 2
    first, line, mark = done.stderr.splitlines()[:3]
    assert first.startswith("kvmscope: line 2, column 3: ")
    assert (line, mark) == ("      exit", "      ^")


@pytest.mark.parametrize("query", ["DROP VIEW vms", "SELECT * FROM read_csv('/etc/passwd')", ""])
def test_what_is_more_than_reading_is_exit_2(recording: str, query: str) -> None:
    assert run("--from", recording, query).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("SELECT 1",), 2, "--from"),
        (("--from", "/nowhere", "SELECT 1"), 4, "no such directory"),
        (("--json", "--csv", "SELECT 1"), 2, "cannot be combined"),
        (("--ready", "apicv-lots"), 2, "apicv-lost"),
        (("--ready", "hosts", "SELECT 1"), 2, "cannot be combined"),
        (("--memory", "much", "SELECT 1"), 2, "much"),
    ],
)
def test_options_that_do_not_fit(arguments: tuple[str, ...], code: int, said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == code
    assert said in done.stderr


def test_a_query_is_read_from_stdin(recording: str) -> None:
    assert "(2 rows)" in run("--from", recording, "-", text="SELECT name\nFROM vms").stdout


def test_without_query_and_terminal_the_ready_questions_are_listed() -> None:
    done = run()
    assert [question.name for question in load_questions() if f"{question.name}: " not in done.stdout] == []
    check_json(("sql", "--json"), run("--json").stdout)


def test_every_ready_question_has_an_answer(recording: str) -> None:
    for question in load_questions():
        done = run("--from", recording, "--ready", question.name, "--csv")
        assert done.exit_code == 0, (question.name, done.stderr)
        if question.name not in ("restarts", "episodes", "apicv-spans", "apicv-lost"):
            assert len(done.stdout.splitlines()) > 1, question.name


@pytest.mark.parametrize("query", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_of_the_docs_runs(recording: str, query: str) -> None:
    done = run("--from", recording, query)
    assert done.exit_code == 0, done.stderr


def test_the_docs_list_every_column_of_each_view(recording: str) -> None:
    text = (DOCS / "reference/sql.md").read_text(encoding="utf-8")
    for view in ("hosts", "vms", "vcpus", "findings", "apicv_spans", "episodes"):
        row = next(line for line in text.splitlines() if re.match(rf"\| `{view}` \|.*\|.*\|", line))
        listed = re.findall(r"`(\w+)`", row.split("|")[3])
        head = run("--from", recording, "--csv", f"SELECT * FROM {view} LIMIT 0").stdout.strip()
        assert head.split(",") == listed, view


class Prompt:
    """The command on a terminal."""

    def __init__(self, recording: str, home: Path) -> None:
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "kvmscope", "sql", "--from", recording]
        env = {**os.environ, "XDG_STATE_HOME": str(home), "TERM": "dumb"}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
        )
        os.close(theirs)
        self.said = ""

    def wait_for(self, pattern: str, timeout_s: float = 30) -> str:
        """What was said until there is such a text."""
        deadline = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.said)) is None:
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.said!r}"
            if select.select([self._ours], [], [], left)[0]:
                self.said += os.read(self._ours, 65536).decode("utf-8", "replace")
        before, self.said = self.said[: found.end()], self.said[found.end() :]
        return before

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def prompt(recording: str, tmp_path: Path) -> Iterator[Prompt]:
    opened = Prompt(recording, tmp_path)
    try:
        yield opened
    finally:
        opened.close()


def test_the_prompt_answers_goes_on_after_errors_and_keeps_its_history(prompt: Prompt, tmp_path: Path) -> None:
    prompt.wait_for("sql> ")
    prompt.type("SELECT name\nFROM vms;\n")
    assert "web-1" in prompt.wait_for(r"\(2 rows\)")
    prompt.type("SELECT nothing FROM vms;\n")
    prompt.wait_for("line 1, column 8")
    prompt.type(".columns vms\n")
    prompt.wait_for("last_seen")
    prompt.type(".ready hosts\n")
    prompt.wait_for(r"\(1 row\)")
    prompt.type(".help\n")
    prompt.wait_for("Ctrl-D quits")
    prompt.wait_for("sql> ")
    prompt.type("\x04")
    assert prompt.process.wait(timeout=20) == 0
    assert "FROM vms;" in (tmp_path / "kvmscope" / "sql_history").read_text()


def test_ctrl_c_ends_a_query_and_the_prompt_goes_on(prompt: Prompt) -> None:
    prompt.wait_for("sql> ")
    prompt.type("SELECT count(*) FROM range(100000000) a, range(100000000) b;\n")
    prompt.wait_for("range\\(100000000\\) b;")
    time.sleep(0.5)  # that it runs cannot be seen from here
    began = time.monotonic()
    prompt.process.send_signal(signal.SIGINT)
    prompt.wait_for("sql> ")
    assert time.monotonic() - began < 10, "a machine that is busy may take some seconds; the query would take days"
    prompt.type("SELECT 41 + 1;\n")
    prompt.wait_for("42")
    prompt.wait_for("sql> ")
    prompt.type("\x04")
    assert prompt.process.wait(timeout=20) == 0


# --- ClickHouse -------------------------------------------------------------------------------------------------------


def fleet_load(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("fleet", "load", *arguments), prog_name="kvmscope")


def test_recordings_are_loaded_into_clickhouse_and_asked_there(recording: str, tmp_path: Path) -> None:
    pytest.importorskip("clickhouse_connect", reason="clickhouse-connect is not installed: make setup")
    close_session()
    url = f"chdb://{tmp_path}/c"
    done = fleet_load("--clickhouse", url, "--json", recording)
    assert done.exit_code == 0, done.stderr
    check_json(("fleet-load", "--json"), done.stdout)
    assert json.loads(done.stdout)["new_scenes"] == 4
    asked = run(
        "--clickhouse", url, "--csv", "SELECT name, sum(exits) > 0 AS has_exits FROM deltas GROUP BY name ORDER BY name"
    )
    assert asked.stdout.splitlines()[2] == "web-1,1"
    wrong = run("--clickhouse", url, "SELECT name FROM vms WHER true")
    assert wrong.exit_code == 2
    assert "^" in wrong.stderr


@pytest.mark.parametrize("command", [("sql", "SELECT 1"), ("fleet", "load", "DIR")])
def test_a_clickhouse_that_does_not_answer_is_exit_3_with_what_would_help(command: tuple[str, ...]) -> None:
    pytest.importorskip("clickhouse_connect", reason="clickhouse-connect is not installed: make setup")
    done = CliRunner().invoke(main, (*command, "--clickhouse", "http://127.0.0.1:1"), prog_name="kvmscope")
    assert done.exit_code == 3
    told, remedy = done.stderr.splitlines()
    assert told == "kvmscope: http://127.0.0.1:1 does not answer: Connection refused"
    assert remedy.startswith("  try: ")


@pytest.mark.parametrize("keep", ["7d", "raw:7", "30s:7d", "raw:0d", "raw:7d,"])
def test_a_retention_that_cannot_be_is_refused(keep: str) -> None:
    done = fleet_load("--clickhouse", "http://127.0.0.1:1", "--keep", keep, "DIR")
    assert done.exit_code == 2
