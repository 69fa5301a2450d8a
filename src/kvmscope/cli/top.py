"""``kvmscope top``: the host on a screen that stays open. Here are its options; the screen is in ``tui``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ..errors import Unavailable, UsageError
from .options import parse_duration, source_option
from .session import open_live_host

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..collect import SceneHost


@click.command("top", short_help="The host on a screen that stays open.")
@click.option(
    "--interval",
    callback=parse_duration,
    default="1s",
    show_default=True,
    metavar="TIME",
    help="Time between two reads.",
)
@source_option
def command(*, interval: float, source: str) -> None:
    """Show the VMs of this host on a screen that stays open, those with the costliest findings first. Enter opens a VM,
    its vCPUs and each of their statistics; ? lists the keys. No key changes anything on the host.

    \b
    kvmscope top
    kvmscope top --interval 5s
    """
    _require_terminal()
    from ..tui.sampler import Sampler

    context = click.get_current_context()

    def open_with(groups: Sequence[str]) -> SceneHost:
        if groups:
            from .. import collect

            return collect.open_host(source, groups=groups)
        with context.scope(cleanup=False):
            return open_live_host(source)

    sampler = Sampler(open_with, interval)
    sampler.begin()
    show = _load_screen()  # while the first window is being read
    sampler.wait_until_open()
    show(sampler, interval, count_groups=sampler.count_groups)


def _require_terminal() -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("top needs a terminal; for other outputs there is `kvmscope status --watch`")


def _load_screen() -> Callable[..., None]:
    try:
        from ..tui.run import show
    except ImportError as error:
        if error.name is None or not error.name.startswith("textual"):
            raise
        raise Unavailable("top needs textual", remedy="pip install 'kvmscope[top]'") from None
    return show
