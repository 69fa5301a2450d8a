"""``kvmscope govern polling``: adapts the host's halt polling limit by what each interval shows.

It decides nothing (``analysis.governor``) and restores nothing on its own (``linux.halt_poll``).
Rule: its contract is checked before it starts and after each interval. If the contract does not hold at the start, it
does not start; if it is broken later, the initial limit applies again until the contract holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from ..analysis.caveats import TruthValue, facts_of, judge_all
from ..analysis.governor import GovernorAction, GovernorPlan, GovernorState, decide, gather, hold, obeying
from ..analysis.governor_contract import UNFIT_CAVEATS, shortfalls
from ..catalog.caveats import load_caveats
from ..catalog.contracts import Contract
from ..catalog.groups import load_groups
from ..catalog.metrics import formulas, load_metrics
from ..catalog.stats import load_stats
from ..collect import Host
from ..errors import Unavailable
from ..formula.tree import QuantileTerm, StatTerm, walk
from ..host.text import printable
from ..linux.halt_poll import hold_halt_poll, read_halt_poll_ns
from ..scene import Scene
from ..schema import Scope
from ..view.governing import GovernorStep, governor_step
from ..view.values import Moment
from ..view.watch import HostView
from .kernels import kernel_of, read_from

_MEASURED = ("wakeup_cost_s", "wakeup_p99_s")
"""Metrics of the evidence that are exact with opt-in groups."""


def groups_to_count() -> tuple[str, ...]:
    """The opt-in groups that the evidence reads."""
    metrics = formulas(load_metrics())
    parts = (part for name in _MEASURED for part, _ in walk(metrics[name].expression, Scope.VCPU))
    providers = {part.stat.provider for part in parts if isinstance(part, StatTerm | QuantileTerm)}
    return tuple(sorted(providers & load_groups().keys()))


class PollLimit(Protocol):
    """The interface of the host's limit for the governor: ``HeldHaltPoll``, or a limit that is only watched."""

    began_ns: int

    def check(self) -> int:
        """The current limit. Raises SourceError if it may no longer be changed."""

    def set(self, limit_ns: int) -> None:
        """Set another limit. Raises SourceError."""


class WatchedLimit:
    """The limit of a dry run: it is read and never written."""

    def __init__(self, read: Callable[[], int] = read_halt_poll_ns) -> None:
        self._read = read
        self.began_ns = read()

    def check(self) -> int:
        return self._read()

    def set(self, limit_ns: int) -> None:
        """Change nothing."""


def poll_limit(*, is_dry_run: bool) -> AbstractContextManager[PollLimit]:
    """A context with the limit of this host, which restores the initial limit at its end. Raises SourceError."""
    return _watched() if is_dry_run else hold_halt_poll()


@contextmanager
def _watched() -> Iterator[PollLimit]:
    yield WatchedLimit()


def check_contracts(host: Host, contracts: Sequence[Contract], scene: Scene) -> None:
    """Raises Unavailable if something that the governor relies on does not hold on this host."""
    if "halt_poll_cap_set" not in {name for schema in host.schemas for name in schema.names}:
        raise Unavailable(
            "no VM is known to obey halt_poll_ns at run time: this kernel copies it when a VM is created, or source "
            f"{host.source} cannot see which VMs do",
            remedy="Linux 6.1 or later, and source bpf or pinned",
        )
    kernel = read_from(host)
    for contract in contracts:
        broken = list(shortfalls(contract, kernel, load_stats(), _unfit_caveats(contract, scene)))
        if broken:
            raise Unavailable(
                f"the contract {printable(contract.name)} does not hold here: {'; '.join(broken)}",
                remedy="kvmscope schema check shows what this kernel has; kvmscope explain CAVEAT what a caveat means",
            )


def _unfit_caveats(contract: Contract, scene: Scene) -> Collection[str]:
    """The caveats of the contract's stats that hold here."""
    entries = (load_stats().find(each.provider, each.scope, each.name) for each in contract.promises)
    slugs = {slug for entry in entries if entry for slug in entry.caveats if slug in UNFIT_CAVEATS}
    truths = judge_all(load_caveats(), slugs, facts_of(scene.machine, scene.sample))
    return [slug for slug, truth in truths.items() if truth.verdict is TruthValue.HOLDS]


def govern(
    views: Iterator[HostView],
    limit: PollLimit,
    plan: GovernorPlan,
    contracts: Sequence[Contract],
    *,
    is_dry_run: bool,
) -> Iterator[GovernorStep]:
    """The decision after each interval. Raises SourceError if the limit may no longer be changed."""
    state = GovernorState()
    for view in views:
        evidence = gather(view.evaluator, plan, limit.check(), obeying(view.scene.sample))
        broken = _broken(view.scene, contracts)
        state, decision = hold(plan, broken) if broken else decide(plan, state, evidence)
        if decision.action is not GovernorAction.KEEP and decision.limit_ns != evidence.limit_ns:
            limit.set(decision.limit_ns)
        time = Moment(view.scene.sample.taken_ns)
        yield governor_step(time, view.window.interval_s, evidence, decision, is_dry_run=is_dry_run)


def _broken(scene: Scene, contracts: Sequence[Contract]) -> str:
    """Why the contracts no longer hold; empty if they hold, or if no VM shows otherwise.

    Caveats were checked at the start: they depend on the kernel, and on a parameter that the governor controls now.
    """
    if not len(scene.sample.vcpus):
        return ""
    kernel, stats = kernel_of(scene), load_stats()
    return "; ".join(each for contract in contracts for each in shortfalls(contract, kernel, stats, ()))
