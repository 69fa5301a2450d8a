"""The prompt of ``kvmscope sql``: queries end with ``;``, commands of the prompt begin with a dot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..catalog.questions import find_question, load_questions
from ..console.interrupts import until_interrupted
from ..console.prompt import history_file, read_statements
from ..errors import KvmscopeError, QueryError
from ..view.sql_result import answer_lines, question_lines, question_list
from .echo import echo_lines, echo_notes

if TYPE_CHECKING:
    from ..engines.engine import SqlStore

_HELP = """\
A query ends with ;  Ctrl-C ends a query that runs, or drops what was typed. Ctrl-D quits.
.views            the views
.columns VIEW     the columns of a view
.ready [NAME]     the ready questions; asks one
.quit             quits"""


def run_prompt(store: SqlStore) -> None:
    """Ask what is typed until there is no more."""
    from ..engines.views import VIEWS

    click.echo("docs/reference/sql.md describes the views; .help lists the commands of this prompt")
    words = [*VIEWS, *(question.name for question in load_questions()), *_keywords()]
    for statement in read_statements("sql> ", history_file("sql_history"), words):
        if statement in (".quit", ".exit"):
            return
        with until_interrupted():
            try:
                _obey(store, statement)
            except KvmscopeError as error:
                echo_notes([str(error), *(error.excerpt.splitlines() if isinstance(error, QueryError) else ())])


def _obey(store: SqlStore, statement: str) -> None:
    from ..engines.results import plain_result
    from ..engines.views import VIEWS

    word, *rest = statement.split()
    if not word.startswith("."):
        _ask(store, statement)
    elif word == ".views":
        echo_lines(VIEWS)
    elif word == ".columns" and rest and rest[0] in VIEWS:
        echo_lines(column.name for column in plain_result(store.ask(f"SELECT * FROM {rest[0]} LIMIT 0")).columns)
    elif word == ".ready" and rest:
        _ask(store, find_question(rest[0]).sql)
    elif word == ".ready":
        echo_lines(question_lines(question_list(load_questions())))
    else:
        click.echo(_HELP)


def _ask(store: SqlStore, sql: str) -> None:
    from ..engines.results import plain_result

    echo_lines(answer_lines(plain_result(store.ask(sql))))


def _keywords() -> list[str]:
    return (
        "SELECT FROM WHERE GROUP BY ORDER LIMIT HAVING JOIN count sum min max avg name vcpu time seconds exits".split()
    )
