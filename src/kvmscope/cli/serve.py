"""``kvmscope serve``: metrics, API and page over HTTP. ``web`` does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..console.interrupts import until_ended
from ..errors import Unavailable, UsageError
from .echo import echo_damage, echo_notes
from .history import asked_place, history_options, is_recorded, open_moments, open_place
from .options import FilePath, WholeNumber, count_option, interval_option, source_option
from .session import open_live_host

if TYPE_CHECKING:
    from ..collect import SceneHost
    from ..export.exposition import ExportOptions
    from ..web.server.run import ServedRecording, ServerPlan

_WAIT_S = 3600.0
_SERIES_OF_VMS = 40_000


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
    help="Series of VMs; of vCPUs too; and of their histograms too.",
)
@click.option("--include", multiple=True, metavar="PATTERN", help="Only series of such names, as kvm_vm_pf_*.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No series of such names.")
@click.option(
    "--max-series",
    type=WholeNumber(0, 1_000_000_000),
    metavar="N",
    help=f"At most so many series; 0 for no limit. Default: {_SERIES_OF_VMS:,} with --detail vm, else no limit.",
)
@interval_option("5s", help="How often findings and metrics are judged.")
@click.option(
    "--web.config.file",
    "config_file",
    type=FilePath(),
    metavar="FILE",
    help="TLS, client certificates and users, as Prometheus' exporters read them.",
)
@click.option("--web.systemd-socket", "from_systemd", is_flag=True, help="Listen at the sockets that systemd passes.")
@click.option("--user", metavar="NAME", help="Run as this user if started by root. Default: kvmscope, else nobody.")
@count_option("Count with this group too; may be given several times.")
@click.option("--otlp", metavar="URL", help="Push metrics to this collector too, by OTLP over HTTP, every 15 s.")
@click.option(
    "--recording", metavar="PATH", help="Show what this recording has, too, before the last hour; it may still grow."
)
@click.option("--insecure", is_flag=True, help="Listen where other hosts reach it, without encryption or passwords.")
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
    detail: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    max_series: int | None,
    interval: float,
    source: str,
) -> None:
    """Serve what kvmscope knows of this host over HTTP: a page at /, metrics for Prometheus at /metrics, JSON at
    /api/v1. Nothing can be changed through it.

    The host is read once for each scrape. With --from the page and the API show a recording alone, and there are no
    metrics. docs/reference/serve.md explains the series and the page.

    \b
    kvmscope serve
    kvmscope serve --detail vcpu --exclude 'kvm_vm_metric_*'
    kvmscope serve --web.listen-address :9796 --web.config.file web.yml
    kvmscope serve --recording /var/lib/kvmscope
    kvmscope serve --from incident/ --at 03:10
    """
    _require_packages()
    from ..web.server.listen import DEFAULT_ADDRESS, parse_address
    from ..web.server.run import ServerPlan

    plan = ServerPlan(
        addresses=tuple(map(parse_address, addresses or (() if from_systemd else (DEFAULT_ADDRESS,)))),
        interval_s=interval,
        options=_options(detail, include, exclude, max_series),
        config_file=config_file,
        from_systemd=from_systemd,
        is_insecure=insecure,
        user=user,
        otlp=None if otlp is None else _collector(otlp),
    )
    if not is_recorded():
        kept = None if recording is None else _whole(recording)
        _serve(plan, lambda: open_live_host(source, groups), kept)
        return
    _refuse_with_recording(recording=recording, otlp=otlp, count=groups, include=include, exclude=exclude)
    _serve(plan, None, _chosen(source))


def _serve(plan: ServerPlan, open_host: Callable[[], SceneHost] | None, recording: ServedRecording | None) -> None:
    from ..web.server.run import MonitorServer

    server = MonitorServer(plan, on_error=lambda error: echo_notes([str(error)]), recording=recording)
    try:
        with until_ended():
            server.open(open_host)
            echo_notes(server.notes)
            while not server.done.wait(_WAIT_S):
                pass
    finally:
        server.close()


def _whole(place: str) -> ServedRecording:
    from ..store.replay import TimeChoice
    from ..web.server.run import ServedRecording

    return ServedRecording(place, open_place(place), TimeChoice())


def _chosen(source: str) -> ServedRecording:
    """The recording of --from. Raises UsageError if it has no scenes at the time that was asked for."""
    from ..store.replay import within
    from ..web.server.run import ServedRecording

    series, moments, times = open_moments(source)
    if not moments:
        raise UsageError("the recording has no scenes")
    within(moments, times)
    echo_damage(series.damage)
    return ServedRecording(asked_place() or "", series, times)


def _refuse_with_recording(**options: object) -> None:
    """Raises UsageError for options of the live host: a recording has no metrics of now."""
    for name, value in options.items():
        if value:
            raise UsageError(f"--{name} is for serving this host, and --from serves a recording")


def _collector(url: str) -> str:
    """The URL with the path of metrics, if it has none. Raises UsageError, or Unavailable without the extra."""
    try:
        import opentelemetry.proto  # noqa: F401
    except ImportError:
        raise Unavailable("--otlp needs opentelemetry-proto", remedy="pip install 'kvmscope[otlp]'") from None
    from ..web.server.otlp_push import collector_url

    return collector_url(url)


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
        import bcrypt  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
        import yaml  # noqa: F401
    except ImportError as error:
        raise Unavailable(
            f"serve needs {error.name}, which is not installed", remedy="pip install 'kvmscope[serve]'"
        ) from None
