"""``kvmscope fleet index``: puts the data that ``fleet`` reads of a directory of recordings into a few files."""

from __future__ import annotations

import click

from ..console.progress import progress
from ..console.streams import writing_errors
from ..store.requirements import require_pyarrow
from ..terminal.echo import echo_answer, echo_damage
from .options import PLACE, json_option


@click.command("index", short_help="Make questions over a directory of recordings faster.")
@click.argument("place", type=PLACE, metavar="DIR")
@json_option
def index(*, place: str, as_json: bool) -> None:
    """Put what `fleet` reads of a directory of recordings into few files, in DIR/fleet-index, which the next questions
    read. Run it again after recordings have grown: it reads what is new. Questions read recordings that are new, or
    have changed since, as they are.

    \b
    kvmscope fleet index /var/lib/kvmscope
    """
    require_pyarrow()
    from ..store.fleet_index_writing import write_index
    from ..view.indexing import index_lines, index_view

    with progress("indexing"), writing_errors():
        report = write_index(place)
    echo_damage(report.damage)
    view = index_view(place, report.recordings, segments=report.segments, new=report.new, size_bytes=report.size_bytes)
    echo_answer(view, index_lines(view), as_json=as_json)
