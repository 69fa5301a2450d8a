"""The simulated states of interrupt acceleration: every branch of the verdict, and no contradiction in any."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from kvmscope.analysis.apicv import Branch, Outcome, State, Verdicts, judge, what_if
from kvmscope.codec import statsfile
from kvmscope.host.apicv import HostApicv
from kvmscope.lab.simulate import SimulatedHost
from kvmscope.lab.simulate_plan import plan
from kvmscope.lab.simulated_apicv import SCENARIOS, SimulatedApicv, SimulatedHosts
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.published import PublishedSource

pytestmark = pytest.mark.whole_host

HERE = HostApicv.unknown("not this host")
TIMES = (0.0, 0.05, 0.1, 0.35, 1.0, 7.3)


@pytest.fixture(scope="module")
def host() -> Iterator[SimulatedHost]:
    with SimulatedHost(vms=len(SCENARIOS), vcpus=2, seed=3) as host:
        yield host


def read(host: SimulatedHost, elapsed_s: float) -> tuple[Sample, Verdicts]:
    host.advance(elapsed_s)
    with PublishedSource(walk_share=float("inf"), simulated=True) as source:
        sample = source.read()
    names = {vm.name for vm in host.vms}
    assert names <= set(sample.vms.label)
    return sample, judge(sample, HERE)


def branch_of(sample: Sample, verdicts: Verdicts, host: SimulatedHost, scenario: str) -> Branch:
    number = [known.name for known in SCENARIOS].index(scenario)
    return verdicts.vms[sample.vms.label.index(host.vms[number].name)].branch


@pytest.mark.parametrize(
    ("scenario", "branch"),
    [
        ("active", Branch.ACTIVE),
        ("PIT reinjection", Branch.INHIBITED),
        ("off by parameter", Branch.OFF_BY_PARAMETER),
        ("AutoEOI", Branch.INHIBITED),
        ("active in part", Branch.PARTLY),
        ("not supported", Branch.NOT_SUPPORTED),
        ("no local APIC in the kernel", Branch.NO_APIC),
        ("not read", Branch.UNKNOWN),
        ("APIC ids changed", Branch.INHIBITED),
        ("encrypted", Branch.INHIBITED),
    ],
)
def test_each_scenario_is_judged_as_what_it_plays(host: SimulatedHost, scenario: str, branch: Branch) -> None:
    sample, verdicts = read(host, 1.0)
    assert branch_of(sample, verdicts, host, scenario) is branch


@pytest.mark.parametrize("elapsed_s", TIMES)
def test_no_simulated_vm_contradicts_itself(host: SimulatedHost, elapsed_s: float) -> None:
    _, verdicts = read(host, elapsed_s)
    assert [vm.contradictions for vm in verdicts.vms if vm.contradictions] == []


def test_passing_states_come_and_go(host: SimulatedHost) -> None:
    seen: dict[str, set[State]] = {"nested guests": set(), "interrupts of the PIC at boot": set()}
    for elapsed_s in np.arange(0, 2, 0.05).tolist():
        sample, verdicts = read(host, elapsed_s)
        for name, states in seen.items():
            number = [known.name for known in SCENARIOS].index(name)
            vm = verdicts.vms[sample.vms.label.index(host.vms[number].name)]
            states.update(vcpu.state for vcpu in vm.vcpus)
    assert seen["nested guests"] == {State.ACTIVE, State.INHIBITED}
    assert seen["interrupts of the PIC at boot"] == {State.ACTIVE, State.INHIBITED}


def test_what_if_tells_the_vm_that_is_off_what_to_change(host: SimulatedHost) -> None:
    sample, _ = read(host, 1.0)
    number = [known.name for known in SCENARIOS].index("off by parameter")
    found = what_if(sample, HERE)[sample.vms.label.index(host.vms[number].name)]
    assert found.outcome is Outcome.INHIBITED
    assert found.first[0].startswith("pit_reinj")


def test_the_stats_keep_the_rules_of_the_format() -> None:
    vms = plan(vms=3, vcpus=2, seed=0)
    for provider in (SimulatedApicv(vms, 0), SimulatedHosts(vms, 0)):
        for scope, stat_set in provider.stat_sets.items():
            parsed = statsfile.parse_description(stat_set.encoded)
            assert statsfile.violations(parsed) == ["id '' does not start with 'kvm'"]
            assert provider.words(scope, 0.0).shape[1] * 8 == stat_set.data_size


def test_values_are_a_pure_function_of_plan_and_time() -> None:
    vms = plan(vms=len(SCENARIOS), vcpus=3, seed=5)
    one, other = SimulatedApicv(vms, 5), SimulatedApicv(vms, 5)
    for elapsed_s in TIMES:
        for scope in Scope:
            assert np.array_equal(one.words(scope, elapsed_s), other.words(scope, elapsed_s))
