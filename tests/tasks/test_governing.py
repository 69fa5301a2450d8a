"""The governor at work: a crafted host polls as a file says, which the governor holds as it would the parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from crafted import ListSource
from crafted_host import CraftedHost

from kvmscope.analysis.governor import GovernorAction, GovernorPlan
from kvmscope.catalog.contracts import Contract, load_governor_contract, parse_contract
from kvmscope.collect import Host
from kvmscope.errors import Unavailable
from kvmscope.linux.facts import Fact, KernelModule
from kvmscope.linux.halt_poll import HeldHaltPoll, hold_halt_poll, read_halt_poll_ns
from kvmscope.scene import Scene, VmIdentity
from kvmscope.tasks.governing import WatchedLimit, check_contracts, govern
from kvmscope.view.governing import GovernorStep, step_line
from kvmscope.view.watch import HostView, Watch

HALT_US = 900.0
HALTS_PER_S = 2000.0
PLAN = GovernorPlan(200_000, 8192, 200_000, patience=1)


@dataclass
class PollingHost:
    """A host with one VM whose halts outlast every poll, so each poll takes as long as the file says."""

    parameter: Path
    machine: Any
    host: CraftedHost = field(default_factory=CraftedHost)

    def __post_init__(self) -> None:
        self.host.count("settings.halt_poll_cap_set")
        self.begin()
        self.parameter.write_text("200000\n", encoding="ascii")

    def begin(self) -> None:
        self.host.add("web", vcpus=1)

    def end(self) -> None:
        self.host.vms.clear()

    @property
    def limit_ns(self) -> int:
        return read_halt_poll_ns(str(self.parameter))

    def scene(self, machine: Any = None) -> Scene:
        identities = tuple(VmIdentity(vm.name, None) for vm in self.host.vms)
        return Scene(self.host.sample(), identities, machine or self.machine, {})

    def views(self) -> Iterator[HostView]:
        watch = Watch()
        watch.add(self.scene())
        while True:
            poll_us = self.limit_ns / 1000
            rates = {f"fail_us:{poll_us}": HALTS_PER_S, f"wait_us:{HALT_US - poll_us}": HALTS_PER_S}
            if self.host.vms:
                self.host.run(1.0, rates, vm="web")
            else:
                self.host.now_s += 1.0
            view = watch.add(self.scene())
            assert view is not None
            yield view


@pytest.fixture
def polling(tmp_path: Path, crafted: Any) -> PollingHost:
    return PollingHost(tmp_path / "halt_poll_ns", of_kvm(crafted.machine, {"halt_poll_ns": "200000"}))


@pytest.fixture
def held(polling: PollingHost, tmp_path: Path) -> Iterator[HeldHaltPoll]:
    with hold_halt_poll(parameter=str(polling.parameter), state=str(tmp_path / "state")) as held:
        yield held


def of_kvm(machine: Any, parameters: Mapping[str, str]) -> Any:
    facts = {name: Fact(value) for name, value in parameters.items()}
    return replace(machine, kvm=Fact(KernelModule("kvm", False, MappingProxyType(facts))))


def steps(polling: PollingHost, held: HeldHaltPoll, contract: Contract | None = None) -> Iterator[GovernorStep]:
    return govern(polling.views(), held, PLAN, [contract or load_governor_contract()], is_dry_run=False)


def test_it_lowers_the_limit_step_by_step_and_says_why(polling: PollingHost, held: HeldHaltPoll) -> None:
    log = [step for step, _ in zip(steps(polling, held), range(12), strict=False)]
    moves = [step.new_limit_ns for step in log if step.action is GovernorAction.LOWER]
    assert moves == [131_072, 65_536, 32_768, 16_384, 8192]
    assert polling.limit_ns == 8192
    assert log[0].best is not None and log[0].best.limit_ns == 8192
    assert log[0].polled_cpus == pytest.approx(0.4) and log[-1].polled_cpus == pytest.approx(0.0164, rel=0.01)
    assert step_line(log[0]).partition(" ")[2] == (
        "lower 200000 ns to 131072 ns: 8192 ns would free 0.38 CPU, 0.38 at least "
        "(1 VM polled 0.4 CPU, which costs 0.4 CPU net)"
    )
    held.restore()
    assert polling.limit_ns == 200_000


def test_a_contract_that_ceases_to_hold_brings_back_the_limit_from_before(
    polling: PollingHost, held: HeldHaltPoll
) -> None:
    at_work = steps(polling, held)
    assert next(at_work).action is GovernorAction.LOWER
    polling.host.lacks = frozenset({"halt_poll_fail_hist"})
    step = next(at_work)
    assert (step.action, step.new_limit_ns) == (GovernorAction.HOLD, 200_000)
    assert "kvm.halt_poll_fail_hist" in step.reason
    assert polling.limit_ns == 200_000
    polling.host.lacks = frozenset()
    again = [next(at_work) for _ in range(3)]
    assert [each.action for each in again] == [GovernorAction.KEEP, GovernorAction.LOWER, GovernorAction.KEEP]
    assert [each.reason for each in again[::2]] == [
        "what it relies on holds again",
        "the limit changed within this interval",
    ]


def test_without_vms_it_waits_with_the_limit_that_it_has_and_goes_on_with_the_next_one(
    polling: PollingHost, held: HeldHaltPoll
) -> None:
    at_work = steps(polling, held)
    assert next(at_work).new_limit_ns == 131_072
    polling.end()
    alone = [next(at_work) for _ in range(5)]
    assert {(each.action, each.new_limit_ns) for each in alone} == {(GovernorAction.KEEP, 131_072)}
    assert (alone[-1].obeying_vms, alone[-1].polled_cpus, alone[-1].net_cpus) == (0, 0.0, None)
    assert alone[-1].reason == "nothing is known of polling: no VM obeys the limit, or it came just now"
    polling.begin()
    again = [next(at_work) for _ in range(2)]
    assert [each.action for each in again] == [GovernorAction.KEEP, GovernorAction.LOWER]
    polling.end()
    next(at_work)
    held.restore()
    assert polling.limit_ns == 200_000


def test_the_limit_of_somebody_else_stays_and_ends_it(polling: PollingHost, held: HeldHaltPoll) -> None:
    at_work = steps(polling, held)
    next(at_work)
    polling.parameter.write_text("70000\n", encoding="ascii")
    with pytest.raises(Unavailable, match="another program set it to 70000"):
        next(at_work)
    held.restore()
    assert polling.limit_ns == 70_000


def test_a_dry_run_says_the_same_and_writes_nothing(polling: PollingHost) -> None:
    limit = WatchedLimit(lambda: polling.limit_ns)
    step = next(govern(polling.views(), limit, PLAN, [load_governor_contract()], is_dry_run=True))
    assert (step.action, step.new_limit_ns, step.is_dry_run) == (GovernorAction.LOWER, 131_072, True)
    assert " would lower 200000 ns to 131072 ns: " in step_line(step)
    assert polling.limit_ns == 200_000


def check(scene: Scene, *more: Contract) -> None:
    """What is checked before it begins, on a host that reads this."""
    with Host(ListSource([scene.sample]), {}) as host:
        check_contracts(host, [load_governor_contract(), *more], scene)


def test_it_begins_where_its_contract_holds(polling: PollingHost) -> None:
    scene = polling.scene()
    check(scene)


def test_it_does_not_begin_without_a_stat_that_it_relies_on(polling: PollingHost) -> None:
    polling.host.lacks = frozenset({"halt_poll_success_ns"})
    scene = polling.scene()
    with pytest.raises(Unavailable, match=r"govern-polling does not hold here: kvm.halt_poll_success_ns"):
        check(scene)


def test_it_does_not_begin_where_vms_do_not_obey_at_run_time(polling: PollingHost) -> None:
    polling.host.groups.clear()
    scene = polling.scene()
    with pytest.raises(Unavailable, match="no VM is known to obey halt_poll_ns at run time"):
        check(scene)


def test_it_does_not_begin_where_polling_is_off(polling: PollingHost) -> None:
    scene = polling.scene(of_kvm(polling.machine, {"halt_poll_ns": "0"}))
    with pytest.raises(Unavailable, match="caveat polling-off holds here"):
        check(scene)


def test_it_does_not_begin_under_a_changed_contract(polling: PollingHost) -> None:
    text = 'name = "mine"\n[[stat]]\nname = "halt_wait_hist"\nscope = "vcpu"\nkind = "cumulative"\n'
    mine = parse_contract(text, "mine.toml")
    scene = polling.scene()
    with pytest.raises(Unavailable, match=r"the contract mine does not hold here: kvm.halt_wait_hist is"):
        check(scene, mine)
