"""``kvmscope report``: a time span of a recording as one HTML file, as Markdown, or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..console.progress import progress
from ..console.streams import write_file
from ..errors import UsageError
from ..store.requirements import require_pyarrow
from ..terminal.echo import echo_damage, echo_notes
from .options import PLACE

if TYPE_CHECKING:
    from ..view.report import ReportView

_FORMATS = ("html", "md", "json")


@click.command("report", short_help="A recording as one HTML file, as Markdown or as JSON.")
@click.argument("place", type=PLACE, metavar="PATH")
@click.option("--between", nargs=2, metavar="TIME TIME", help="Only the time between these two.")
@click.option("--host", metavar="HOST", help="The host, if the recording has several.")
@click.option("--format", "form", type=click.Choice(_FORMATS), help="By default by FILE's ending, else html.")
@click.option("--output", "-o", "file", default="-", metavar="FILE", help="Write to FILE; - is stdout, the default.")
def command(*, place: str, between: tuple[str, str] | None, host: str | None, form: str | None, file: str) -> None:
    """Report on the recording PATH: VMs, findings and events over time, interrupt acceleration, histograms.

    The HTML file needs no network and no JavaScript. Markdown is a summary to paste.

    \b
    kvmscope report /var/lib/kvmscope --between 03:00 04:00 -o night.html
    kvmscope report incident/ --format md
    """
    require_pyarrow()
    form = form or _format_of(file)
    view = _view(place, between, host)
    text = _text(view, form)
    if file == "-":
        click.echo(text, nl=False)
        return
    write_file(Path(file), text.encode("utf-8", "replace"))


def _format_of(file: str) -> str:
    ending = Path(file).suffix
    return {".md": "md", ".json": "json"}.get(ending, "html")


def _view(place: str, between: tuple[str, str] | None, host: str | None) -> ReportView:
    from ..store.places import spans_of_place
    from ..view.report_build import MOST_SCENES, report_view

    found = spans_of_place(place, between, [host] if host else [])
    if len(found.spans) > 1:
        raise UsageError(f"{place} has {len(found.spans)} hosts; name one by --host")
    echo_notes(found.notes)
    with progress("reading the recording"):
        view = report_view(place, found.spans[0].spread(MOST_SCENES))
    echo_damage(found.damage)
    return view


def _text(view: ReportView, form: str) -> str:
    if form == "html":
        from ..web.report.page import render

        return render(view)
    if form == "md":
        from ..view.report_text import markdown_lines

        return "\n".join(markdown_lines(view)) + "\n"
    from ..view.jsonout import dump, to_value

    return dump(to_value(view)) + "\n"
