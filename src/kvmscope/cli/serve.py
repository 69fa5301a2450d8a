"""``kvmscope serve``: metrics, API and page over HTTP. ``web`` does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..console.interrupts import until_ended
from ..errors import Unavailable, UsageError
from .echo import echo_notes
from .options import interval_option, source_option
from .session import open_live_host

if TYPE_CHECKING:
    from ..export.exposition import ExportOptions
    from ..web.server.listen import ListenAddress

_WAIT_S = 3600.0
_SERIES_OF_VMS = 8000


@click.command("serve", short_help="Metrics for Prometheus, over HTTP.")
@click.option(
    "--web.listen-address",
    "addresses",
    multiple=True,
    metavar="HOST:PORT",
    help="Where to listen; may be given several times. Default: 127.0.0.1:9796.",
)
@click.option(
    "--detail",
    type=click.Choice(["vm", "vcpu", "full"]),
    default="vm",
    show_default=True,
    help="Series of VMs; of vCPUs too; and of their histograms too.",
)
@click.option("--include", multiple=True, metavar="PATTERN", help="Only series of such names, as kvm_vm_pf_*.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No series of such names.")
@click.option(
    "--max-series",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"At most so many series; 0 for no limit. Default: {_SERIES_OF_VMS} with --detail vm, else no limit.",
)
@interval_option("5s", help="How often findings and metrics are judged.")
@click.option("--insecure", is_flag=True, help="Listen where other hosts reach it, without encryption or passwords.")
@source_option
def command(
    *,
    addresses: tuple[str, ...],
    insecure: bool,
    detail: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    max_series: int | None,
    interval: float,
    source: str,
) -> None:
    """Serve what kvmscope knows of this host over HTTP: /metrics for Prometheus. Nothing can be changed through it.

    The host is read once for each scrape. docs/serve.md explains the series.

    \b
    kvmscope serve
    kvmscope serve --detail vcpu --exclude 'kvm_vm_metric_*'
    """
    _require_packages()
    from ..web.server.listen import DEFAULT_ADDRESS, parse_address

    where = [parse_address(text) for text in addresses or (DEFAULT_ADDRESS,)]
    if not insecure:
        _refuse_unprotected(where)
    _serve(source, interval, where, _options(detail, include, exclude, max_series))


def _serve(source: str, interval_s: float, addresses: list[ListenAddress], options: ExportOptions) -> None:
    from ..web.server.app import make_app
    from ..web.server.listen import open_sockets
    from ..web.server.monitor import HostMonitor
    from ..web.server.server import HttpServer

    sockets = open_sockets(addresses)
    monitor = HostMonitor(open_live_host(source), interval_s=interval_s)
    server = HttpServer(make_app(monitor, options), sockets)
    try:
        with until_ended():
            monitor.start()
            server.start()
            echo_notes([f"serving at http://{address}/" for address in addresses])
            while not server.done.wait(_WAIT_S):
                pass
    finally:
        server.close()
        monitor.close()


def _refuse_unprotected(addresses: list[ListenAddress]) -> None:
    for address in addresses:
        if not address.is_loopback:
            raise UsageError(
                f"{address} can be reached from other hosts; listen at a loopback address, or use --insecure"
            )


def _options(detail: str, include: tuple[str, ...], exclude: tuple[str, ...], limit: int | None) -> ExportOptions:
    from ..export.budget import SeriesChoice
    from ..export.exposition import ExportOptions
    from ..export.stats import Detail

    level = Detail(detail)
    if limit is None and level is Detail.VM:
        limit = _SERIES_OF_VMS
    return ExportOptions(level, SeriesChoice(include, exclude, limit or None))


def _require_packages() -> None:
    """Raises Unavailable if the extra for the server is not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise Unavailable("serve needs starlette and uvicorn", remedy="pip install 'kvmscope[serve]'") from None
