"""``kvmscope serve``: metrics, API and page over HTTP, by ``web``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from ..console.interrupts import until_ended
from ..errors import UsageError
from ..export.limits import SERIES_OF_VMS
from ..terminal.echo import echo_damage, echo_notes
from .history import chosen_place, history_options
from .options import PLACE, FilePath, WholeNumber, count_option, interval_option, source_option
from .session import open_live_host

_WAIT_S = 3600.0


@click.command("serve", short_help="Metrics, API and page over HTTP.")
@click.option(
    "--web.listen-address",
    "addresses",
    multiple=True,
    metavar="HOST:PORT",
    help="Where to listen, or vsock://:PORT; may be given several times. Default: 127.0.0.1:9796.",
)
@click.option(
    "--detail",
    type=click.Choice(["vm", "vcpu", "full"]),
    default="vm",
    show_default=True,
    help="Series of VMs; also of vCPUs; also of their histograms.",
)
@click.option("--include", multiple=True, metavar="PATTERN", help="Only series whose names match, such as kvm_vm_pf_*.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No series whose names match.")
@click.option(
    "--max-series",
    type=WholeNumber(0, 1_000_000_000),
    metavar="N",
    help=f"Largest number of series; 0 for no limit. Default: {SERIES_OF_VMS:,} with --detail vm, else no limit.",
)
@interval_option("5s", help="How often findings and metrics are evaluated.")
@click.option(
    "--web.config.file",
    "config_file",
    type=FilePath(),
    metavar="FILE",
    help="TLS, client certificates and users, as Prometheus' exporters read them.",
)
@click.option("--web.systemd-socket", "from_systemd", is_flag=True, help="Listen on the sockets that systemd passes.")
@click.option("--user", metavar="NAME", help="Run as this user if started by root. Default: kvmscope, else nobody.")
@count_option("Count with this group too; may be given several times.")
@click.option("--otlp", metavar="URL", help="Push metrics to this collector too, by OTLP over HTTP, every 15 s.")
@click.option(
    "--recording",
    type=PLACE,
    metavar="PATH",
    help="Also show this recording for times before the last hour; it may still grow.",
)
@click.option("--insecure", is_flag=True, help="Listen where other hosts reach it, without encryption or passwords.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Also answer requests for this name of the server, such as a proxy's; may be given several times.",
)
@history_options
@source_option
def command(
    *,
    addresses: tuple[str, ...],
    config_file: Path | None,
    from_systemd: bool,
    user: str | None,
    otlp: str | None,
    groups: tuple[str, ...],
    recording: str | None,
    insecure: bool,
    allowed_hosts: tuple[str, ...],
    detail: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    max_series: int | None,
    interval: float,
    source: str,
) -> None:
    """Serve the data of this host over HTTP: a page at /, metrics for Prometheus at /metrics, JSON at /api/v1. Nothing
    can be changed through it.

    The host is read once for each scrape. With --from, the page and the API show only a recording, and there are no
    metrics. docs/reference/serve.md explains the series and the page.

    \b
    kvmscope serve
    kvmscope serve --detail vcpu --exclude 'kvm_vm_metric_*'
    kvmscope serve --web.listen-address :9796 --web.config.file web.yml
    kvmscope serve --recording /var/lib/kvmscope
    kvmscope serve --from incident/ --at 03:10
    """
    from ..web.server.requirements import require_otlp, require_server

    require_server()
    if otlp is not None:
        require_otlp()
    from ..export.exposition import export_options
    from ..web.server.host_names import parse_host_name
    from ..web.server.listen import DEFAULT_ADDRESS, parse_address
    from ..web.server.otlp_push import collector_url
    from ..web.server.run import MonitorServer, ServerPlan, recording_to_serve, whole_recording

    plan = ServerPlan(
        addresses=tuple(map(parse_address, addresses or (() if from_systemd else (DEFAULT_ADDRESS,)))),
        interval_s=interval,
        options=export_options(detail, include, exclude, max_series),
        config_file=config_file,
        from_systemd=from_systemd,
        is_insecure=insecure,
        user=user,
        otlp=None if otlp is None else collector_url(otlp),
        allowed_hosts=tuple(dict.fromkeys(map(parse_host_name, allowed_hosts))),
    )
    choice = chosen_place()
    if choice is None:
        served = None if recording is None else whole_recording(recording)
    else:
        _refuse_with_recording(recording=recording, otlp=otlp, count=groups, include=include, exclude=exclude)
        served = recording_to_serve(choice, source)
        echo_damage(served.series.damage)
    server = MonitorServer(plan, on_error=lambda error: echo_notes([str(error)]), recording=served)
    try:
        with until_ended():
            server.open(partial(open_live_host, source, groups) if choice is None else None)
            echo_notes(server.notes)
            while not server.done.wait(_WAIT_S):
                pass
    finally:
        server.close()


def _refuse_with_recording(**options: object) -> None:
    """Raises UsageError for options of the live host: a recording has no current metrics."""
    for name, value in options.items():
        if value:
            raise UsageError(f"--{name} is for serving this host, and --from serves a recording")
