"""``kvmscope schema dump``: the stats of this host as a schema file."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import UsageError
from .options import source_option
from .session import open_live_host


@click.command("dump")
@click.option("--json", "file", default="-", metavar="FILE", help="Write to FILE; - is stdout, the default.")
@source_option
def dump(*, file: str, source: str) -> None:
    """Write the stats of this host as JSON: of the kernel, and of each provider that the source can see."""
    from ..codec.schema_json import encode
    from .schema_kernels import describe_here

    with open_live_host(source) as host:
        # A source that opens files one by one knows their schemas only once it has read.
        sample = host.read()
        tables = {(schema.provider, schema.scope): schema.table for schema in host.schemas}
        how = f"by the source {host.source}" + (", simulated" if sample.simulated else "")
    text = encode(describe_here(tables.values(), how))
    if file == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
