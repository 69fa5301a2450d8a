"""Ready-made questions about recordings, from questions.toml: a name, a title, and SQL.

Not here: the tables of the SQL (``engines.vocabulary``). Rule: each is one SELECT that works the same on every engine.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from typing import Final

from ..errors import UsageError
from .data import read_toml
from .tomlfile import TomlEntry, read_tables, unique

_FILE: Final = "questions.toml"


@dataclass(frozen=True, slots=True)
class Question:
    """``title``: the question in words. ``sql``: the same for an engine."""

    name: str
    title: str
    sql: str


@cache
def load_questions() -> tuple[Question, ...]:
    """Every question, in the order of the file."""
    entries = read_tables(read_toml(_FILE), _FILE, "question")
    unique(entries, "name")
    return tuple(map(_question, entries))


def find_question(name: str) -> Question:
    """The question with this name. Raises UsageError if there is none."""
    questions = {question.name: question for question in load_questions()}
    if name not in questions:
        near = tuple(difflib.get_close_matches(name, questions, n=3, cutoff=0.4))
        raise UsageError(f"there is no ready question {name!r}; there are {', '.join(questions)}", nearest=near)
    return questions[name]


def _question(entry: TomlEntry) -> Question:
    entry.check_keys(("name", "title", "sql"))
    return Question(entry.string("name"), entry.string("title"), entry.string("sql").strip())
