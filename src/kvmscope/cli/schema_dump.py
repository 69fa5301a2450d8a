"""``kvmscope schema dump``: the stats of this host, or of a recording, as a schema file."""

from __future__ import annotations

from pathlib import Path

import click

from ..console.streams import write_file
from .history import history_options, is_recorded
from .options import source_option
from .session import open_host, open_live_host


@click.command("dump")
@click.option("--json", "file", default="-", metavar="FILE", help="Write to FILE; - is stdout, the default.")
@history_options
@source_option
def dump(*, file: str, source: str) -> None:
    """Write the stats of this host as JSON: of the kernel, and of each provider that the source can see."""
    from ..codec.schema_json import encode
    from ..tasks.kernels import kernel_of, read_from

    if is_recorded():
        with open_host(source) as recorded:
            text = encode(kernel_of(recorded.look()))
    else:
        with open_live_host(source) as host:
            text = encode(read_from(host))
    if file == "-":
        click.echo(text, nl=False)
        return
    write_file(Path(file), text.encode())
