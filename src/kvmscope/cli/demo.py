"""``kvmscope demo``: a few real guests that behave differently, what kvmscope sees of them, and what to try next.

Where there is no KVM the guests are simulated, which every screen says. Rule: nothing is left when it ends, however.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ..errors import SourceError, UsageError

if TYPE_CHECKING:
    from ..collect import Host
    from ..lab.spec import LabSpec

_WARM_UP_S = 1.0
_WINDOW_S = 1.0
_HISTOGRAM = "halt_wait_hist"
_NEXT = (
    ("kvmscope lab run --workload halt --vcpus 2 --for 60s &", "guests that stay for a while"),
    ("kvmscope status --watch", "the same screen, live"),
    ("kvmscope read lab-halt-0/0", "every value of a vCPU as the kernel has it"),
    ("kvmscope hist lab-halt-0 halt_wait_hist --interval 2s", "how long its vCPUs slept just now"),
    ("kvmscope doctor", "what is wrong with it, why that matters, what to do"),
    ("kvmscope explain halt_poll_fail_ns", "what a number means on this host"),
    ("kvmscope apicv", "whether its interrupts are accelerated, and if not, why"),
    ("kvmscope check", "what can be read here, and how"),
)
_NEXT_SIMULATED = (
    ("kvmscope lab simulate --for 10m &", "a simulated host that stays for a while"),
    ("kvmscope status --watch --source published", "the same screen, live"),
    ("kvmscope read web-1/0 --source published", "every value of a vCPU"),
    ("kvmscope doctor --source published", "what is wrong with the VMs, and what to do"),
    ("kvmscope apicv --source published", "whether its interrupts are accelerated, and if not, why"),
    ("kvmscope check", "what can be read here, and what would help"),
)


@click.command("demo", short_help="Try kvmscope on a few guests that come and go.")
def command() -> None:
    """Start a few small guests, show what kvmscope sees of them, and end them again. Takes some seconds."""
    with contextlib.ExitStack() as stack:
        guests, source = _start(stack)
        time.sleep(_WARM_UP_S)
        with _open(source) as host:
            _show(host, guests)
    click.echo("\nThe guests have ended. To try next:\n")
    from ..view.text import columns
    from .echo import echo_lines

    echo_lines(f"  {line}" for line in columns(_NEXT_SIMULATED if source == "published" else _NEXT))


@dataclass(frozen=True, slots=True)
class DemoGuests:
    """What was started. ``sleeper``: what selects a VM that sleeps, its name and else its process id, since a second
    demo on this host has the same names. ``pids``: of all, empty for a simulated host."""

    sleeper: tuple[str, ...]
    pids: frozenset[int] = frozenset()


def _start(stack: contextlib.ExitStack) -> tuple[DemoGuests, str]:
    """Start guests that end with ``stack``; gives them, and the source that sees them."""
    try:
        with contextlib.ExitStack() as running:
            guests = _start_guests(running)
            stack.enter_context(running.pop_all())
    except SourceError as error:
        _say(f"no guests can run here: {error.reason}; the host below is simulated instead")
        return DemoGuests((_start_simulation(stack),)), "published"
    return guests, "auto"


def _start_guests(stack: contextlib.ExitStack) -> DemoGuests:
    from ..lab import process

    first, *others = _specs()
    _say(f"starting {1 + len(others)} guests: {', '.join(spec.workload for spec in (first, *others))}")
    # The first alone: where no guest can run, one says why and the others need not try.
    running = [stack.enter_context(process.start(first))]
    running[0].wait_for_ready()
    running += [stack.enter_context(process.start(spec)) for spec in others]
    for guests in running:
        guests.go()
    (sleeper,) = (guests for guests in running if guests.spec.workload == "halt")
    pids = frozenset(guests.pid for guests in running)
    return DemoGuests((sleeper.spec.vm_name(0), str(sleeper.pid)), pids)


def _specs() -> list[LabSpec]:
    from ..lab.spec import LabSpec

    # Stats fds are held so that a user without BPF can read these guests too.
    return [
        LabSpec(workload=workload, vcpus=vcpus, name=f"demo-{workload}", hold_stats_fds=True)
        for workload, vcpus in (("pio", 1), ("fault", 1), ("halt", 2), ("spin", 1), ("idle", 2))
    ]


def _start_simulation(stack: contextlib.ExitStack) -> str:
    from ..lab import simulate

    return stack.enter_context(simulate.start()).about.vms[0]


def _open(source: str) -> Host:
    from .session import open_live_host

    return open_live_host(source)


def _show(host: Host, guests: DemoGuests) -> None:
    from ..view.histogram import histogram_lines, histogram_view
    from ..view.screen import StatusScreen
    from ..view.subjects import find_subject
    from .echo import echo_lines, terminal_width
    from .status import glance, status_display

    option = " --source published" if host.source == "published" else ""
    click.echo(f"$ kvmscope status{option}")
    screen = StatusScreen(only=guests.pids)
    status_display(screen, as_json=False).echo(screen.overview(glance(host, _WINDOW_S)))
    scene = host.look()
    *others, vm = guests.sleeper
    for name in others:
        with contextlib.suppress(UsageError):
            find_subject(scene, name)
            vm = name
    click.echo(f"\n$ kvmscope hist {vm} {_HISTOGRAM}{option}")
    echo_lines(histogram_lines(histogram_view(scene, find_subject(scene, vm), _HISTOGRAM), width=terminal_width()))


def _say(line: str) -> None:
    click.echo(line, err=True)
