"""``kvmscope demo``: a few real guests that behave differently, what kvmscope shows of them, and what to try next.

Without KVM the guests are simulated, which every screen says. Rule: however it ends, it leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import click

from ..terminal.echo import echo_lines, echo_notes, terminal_width

if TYPE_CHECKING:
    from ..collect import Host
    from ..lab.demo import DemoGuests

_WARM_UP_S = 1.0
_WINDOW_S = 1.0
_HISTOGRAM = "halt_wait_hist"


@click.command("demo", short_help="Try kvmscope on a few short-lived guests.")
def command() -> None:
    """Start a few small guests, show what kvmscope sees of them, and stop them. Takes a few seconds."""
    from ..lab.demo import start_demo
    from ..view.text import columns
    from .session import open_live_host

    with contextlib.ExitStack() as stack:
        guests = start_demo(stack, lambda line: echo_notes([line]))
        time.sleep(_WARM_UP_S)
        with open_live_host(guests.source) as host:
            _show(host, guests)
    click.echo("\nThe guests have ended. To try next:\n")
    echo_lines(f"  {line}" for line in columns(guests.to_try_next))


def _show(host: Host, guests: DemoGuests) -> None:
    from ..tasks.watching import glance
    from ..view.histogram import histogram_lines, histogram_view
    from ..view.screen import StatusScreen
    from ..view.subjects import find_subject
    from .status import status_display

    option = " --source published" if host.source == "published" else ""
    click.echo(f"$ kvmscope status{option}")
    screen = StatusScreen(only=guests.pids)
    view, _ = glance(host, _WINDOW_S)
    status_display(screen, as_json=False).echo(screen.overview(view))
    scene = host.look()
    vm = guests.name_of_sleeper(scene)
    click.echo(f"\n$ kvmscope hist {vm} {_HISTOGRAM}{option}")
    echo_lines(histogram_lines(histogram_view(scene, find_subject(scene, vm), _HISTOGRAM), width=terminal_width()))
