"""The guests of ``kvmscope demo``: small real ones that behave differently, or a simulated host if none can run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..errors import SourceError, UsageError
from ..scene import Scene
from ..view.subjects import find_subject
from ..view.values import plain_name
from . import process, simulate
from .spec import LabSpec

_WORKLOADS: Final = (("pio", 1), ("fault", 1), ("halt", 2), ("spin", 1), ("idle", 2))
_SLEEPER: Final = "halt"


_NEXT: Final = (
    ("kvmscope lab run --workload halt --vcpus 2 --for 60s &", "guests that stay for a while"),
    ("kvmscope status --watch", "the same screen, live"),
    ("kvmscope read lab-halt-0/0", "every value of a vCPU as the kernel has it"),
    ("kvmscope hist lab-halt-0 halt_wait_hist --interval 2s", "how long its vCPUs slept just now"),
    ("kvmscope doctor", "what is wrong with it, why that matters, what to do"),
    ("kvmscope explain halt_poll_fail_ns", "what a number means on this host"),
    ("kvmscope apicv", "whether its interrupts are accelerated, and if not, why"),
    ("kvmscope check", "what can be read here, and how"),
)
_NEXT_SIMULATED: Final = (
    ("kvmscope lab simulate --for 10m &", "a simulated host that stays for a while"),
    ("kvmscope status --watch --source published", "the same screen, live"),
    ("kvmscope read web-1/0 --source published", "every value of a vCPU"),
    ("kvmscope doctor --source published", "what is wrong with the VMs, and what to do"),
    ("kvmscope apicv --source published", "whether its interrupts are accelerated, and if not, why"),
    ("kvmscope check", "what can be read here, and what would help"),
)


@dataclass(frozen=True, slots=True)
class DemoGuests:
    """The started guests. ``source``: the source that sees them. ``sleeper``: the name of a VM that sleeps;
    ``sleeper_pid``: its process. ``pids``: all started processes, since other VMs of this host may have the same names.
    """

    source: str
    sleeper: str
    sleeper_pid: int
    pids: frozenset[int]

    @property
    def to_try_next(self) -> tuple[tuple[str, str], ...]:
        """Command lines, and a description of each one's output."""
        return _NEXT_SIMULATED if self.source == "published" else _NEXT

    def name_of_sleeper(self, scene: Scene) -> str:
        """The word that selects the sleeping VM in a scene of this host: its name, else its process id or id."""
        for word in (self.sleeper, str(self.sleeper_pid)):
            with contextlib.suppress(UsageError):
                find_subject(scene, word)
                return word
        of_it = (row for row in range(len(scene.sample.vms)) if scene.pid(row) == self.sleeper_pid)
        return next(str(scene.sample.vms.vm_id(row)) for row in of_it if plain_name(scene, row) == self.sleeper)


def start_demo(stack: contextlib.ExitStack, note: Callable[[str], None]) -> DemoGuests:
    """Start guests that end with ``stack``; ``note`` is called with a text about each step."""
    try:
        with contextlib.ExitStack() as running:
            guests = _start_guests(running, note)
            stack.enter_context(running.pop_all())
    except SourceError as error:
        note(f"no guests can run here: {error.reason}; the host below is simulated instead")
        about = stack.enter_context(simulate.start()).about
        return DemoGuests("published", about.vms[0], about.pid, frozenset({about.pid}))
    return guests


def _start_guests(stack: contextlib.ExitStack, note: Callable[[str], None]) -> DemoGuests:
    # Stats fds are kept open for users without BPF, who can then read these guests too.
    first, *others = (
        LabSpec(workload=workload, vcpus=vcpus, name=f"demo-{workload}", hold_stats_fds=True)
        for workload, vcpus in _WORKLOADS
    )
    note(f"starting {len(_WORKLOADS)} guests: {', '.join(workload for workload, _ in _WORKLOADS)}")
    # The first one alone: if no guest can run, it reports why, and the others need not try.
    running = [stack.enter_context(process.start(first))]
    running[0].wait_for_ready()
    running += [stack.enter_context(process.start(spec)) for spec in others]
    for guests in running:
        guests.go()
    (sleeper,) = (guests for guests in running if guests.spec.workload == _SLEEPER)
    return DemoGuests("auto", sleeper.spec.vm_name(0), sleeper.pid, frozenset(guests.pid for guests in running))
