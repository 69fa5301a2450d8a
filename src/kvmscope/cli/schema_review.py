"""``kvmscope schema review``: a review of proposed stats, as the kvm mailing list would do it. Rules:
``publish.review``."""

from __future__ import annotations

import click

from ..terminal.echo import echo_answer
from .options import json_option

_FOUND = 1


@click.command("review")
@click.argument("file", metavar="FILE")
@json_option
def review(*, file: str, as_json: bool) -> None:
    """Review the stats that FILE (TOML) proposes, as the kvm mailing list would: the objections to each, what to do
    instead, and the cost on a host with 1,000 vCPUs. Exits with 1 if there is an objection. docs/reference/review.md
    has the rules.
    """
    from ..tasks.review import review_file
    from ..view.review import review_lines

    view = review_file(file)
    echo_answer(view, review_lines(view), as_json=as_json)
    if view.objections:
        click.get_current_context().exit(_FOUND)
