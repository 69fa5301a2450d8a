"""``kvmscope sql``: queries recordings, or a fleet in ClickHouse, by SQL."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..console.progress import until_first
from ..errors import UsageError
from ..terminal.echo import echo_answer, echo_damage, echo_each, echo_lines
from .options import PLACE, FilePath, json_option, parse_size

if TYPE_CHECKING:
    from ..engines.engine import SqlStore


@click.command("sql", short_help="Query recordings, or a fleet in ClickHouse, by SQL.")
@click.argument("query", metavar="[QUERY]", required=False)
@click.option(
    "--from",
    "places",
    type=PLACE,
    multiple=True,
    metavar="PATH",
    help="Query this recording; may be given several times.",
)
@click.option("--clickhouse", "url", metavar="URL", help="Query this ClickHouse: http://…, https://… or chdb:///DIR.")
@click.option("--ready", metavar="NAME", help="Ask a ready-made question; `kvmscope sql | cat` lists them.")
@click.option("--csv", "as_csv", is_flag=True, help="Write CSV.")
@click.option("--output", type=FilePath(), metavar="FILE", help="Write Parquet to this new file.")
@click.option(
    "--memory",
    metavar="SIZE",
    callback=parse_size,
    default="2G",
    show_default=True,
    help="Memory that a query may take.",
)
@json_option
def command(
    *,
    query: str | None,
    places: tuple[str, ...],
    url: str | None,
    ready: str | None,
    as_csv: bool,
    output: Path | None,
    memory: int,
    as_json: bool,
) -> None:
    """Query by SQL: one SELECT over hosts, vms, vcpus, samples, deltas, metrics, findings, apicv_spans and episodes.
    With - as QUERY, it is read from stdin. docs/reference/sql.md describes the views.

    Without QUERY there is a prompt; without a terminal, a list of ready-made questions. A query reads the recording and
    nothing else.

    \b
    kvmscope sql --from /var/lib/kvmscope 'SELECT name, sum(exits) FROM deltas GROUP BY name'
    kvmscope sql --from DIR --ready apicv-lost
    kvmscope sql --from DIR --output exits.parquet 'SELECT time, name, exits FROM deltas'
    """
    from ..catalog.questions import find_question, load_questions
    from ..tasks.stores import open_sql
    from ..view.sql_result import question_lines, question_list

    if as_csv + as_json + (output is not None) > 1 or (query is not None and ready is not None):
        raise UsageError("--csv, --json and --output cannot be combined, nor can QUERY and --ready")
    asked = find_question(ready).sql if ready is not None else sys.stdin.read() if query == "-" else query
    is_prompt = asked is None and sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    if asked is None and not is_prompt:
        view = question_list(load_questions())
        echo_answer(view, question_lines(view), as_json=as_json)
        return
    with open_sql(places, url, memory_bytes=memory) as store:
        echo_damage(store.damage)
        if asked is None:
            from ..terminal.sql_prompt import run_prompt

            run_prompt(store)
        else:
            _answer(store, asked, as_json=as_json, as_csv=as_csv, output=output)


def _answer(store: SqlStore, asked: str, *, as_json: bool, as_csv: bool, output: Path | None) -> None:
    from ..engines.results import csv_results, plain_result, write_parquet
    from ..view.sql_result import answer_lines, csv_lines, sql_answer

    batches = until_first(store.ask(asked), "asking")
    if output is not None:
        write_parquet(batches, output)
    elif as_csv:
        echo_each(csv_lines(csv_results(batches)))
    else:
        result = plain_result(batches)
        if as_json:
            echo_answer(sql_answer(result), (), as_json=True)
        else:
            echo_lines(answer_lines(result))
