"""The commands of the prompt of ``sql``, and their answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..catalog.questions import find_question, load_questions
from ..view.sql_result import answer_lines, question_lines, question_list

if TYPE_CHECKING:  # loading it loads an engine
    from ..engines.engine import SqlStore

ENDS = (".quit", ".exit")
_HELP = """\
A query ends with ;  Ctrl-C ends a query that runs, or drops what was typed. Ctrl-D quits.
.views            the views
.columns VIEW     the columns of a view
.ready [NAME]     the ready-made questions; asks one
.quit             quits"""
_KEYWORDS = "SELECT FROM WHERE GROUP BY ORDER LIMIT HAVING JOIN count sum min max avg name vcpu time seconds exits"


def completions() -> list[str]:
    """Words that the prompt completes."""
    from ..engines.views import VIEWS

    return [*VIEWS, *(question.name for question in load_questions()), *_KEYWORDS.split()]


def answer(store: SqlStore, statement: str) -> Iterable[str]:
    """The answer to a query, or to a command of the prompt. Raises KvmscopeError."""
    from ..engines.results import plain_result
    from ..engines.views import VIEWS

    word, *rest = statement.split()
    if not word.startswith("."):
        return answer_lines(plain_result(store.ask(statement)))
    if word == ".views":
        return VIEWS
    if word == ".columns" and rest and rest[0] in VIEWS:
        return [column.name for column in plain_result(store.ask(f"SELECT * FROM {rest[0]} LIMIT 0")).columns]
    if word == ".ready" and rest:
        return answer_lines(plain_result(store.ask(find_question(rest[0]).sql)))
    if word == ".ready":
        return question_lines(question_list(load_questions()))
    return _HELP.splitlines()
