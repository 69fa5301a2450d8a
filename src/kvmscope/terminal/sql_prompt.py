"""The prompt of ``kvmscope sql``: queries end with ``;``, commands of the prompt begin with a dot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..console.interrupts import until_interrupted
from ..console.prompt import history_file, read_statements
from ..errors import KvmscopeError, QueryError
from ..tasks.sql_prompt import ENDS, answer, completions
from .echo import echo_lines, echo_notes

if TYPE_CHECKING:
    from ..engines.engine import SqlStore


def run_prompt(store: SqlStore) -> None:
    """Run the typed queries until the input ends."""
    click.echo("docs/reference/sql.md describes the views; .help lists the commands of this prompt")
    for statement in read_statements("sql> ", history_file("sql_history"), completions()):
        if statement in ENDS:
            return
        with until_interrupted():
            try:
                echo_lines(answer(store, statement))
            except KvmscopeError as error:
                echo_notes([str(error), *(error.excerpt.splitlines() if isinstance(error, QueryError) else ())])
