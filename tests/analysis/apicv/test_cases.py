"""VMs that are alike are judged once, and what is remembered is what judging each by itself says."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmscope.analysis.apicv import judge, what_if
from kvmscope.analysis.apicv.cases import facts_of, read_cases
from kvmscope.analysis.apicv.verdict import judge_case
from kvmscope.analysis.apicv.whatif import predict_case
from kvmscope.analysis.window import Window
from kvmscope.host.apicv import Hardware
from kvmscope.host.config import Irqchip, Pit

_REASONS = ["disabled", "absent", "irqwin", "nested", "pit_reinj", "sev", "apic_id_modified", "logical_id_aliased"]
_FLAGS = ["irqchip_kernel", "irqchip_split", "pit_reinject_mode", "synic_auto_eoi_used", "sev_active"]


def _subset(names: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), unique=True, max_size=3)


def _vcpus(craft: Any) -> st.SearchStrategy[Any]:
    booleans = {
        name: st.booleans()
        for name in ("active", "enabled", "x2apic", "base_moved", "blockirq", "guest_mode", "has_apic")
    }
    numbers = st.sampled_from([0, 1, 7])
    return st.builds(
        craft.VerdictVcpu,
        id=st.sampled_from([0, 1, 600]),
        exits=numbers,
        irq_windows=numbers,
        ldr=st.none() | st.sampled_from([0, 0x03000000]),
        active_ns=st.sampled_from([0, 10**9]),
        **booleans,
    )


def _vms(craft: Any) -> st.SearchStrategy[Any]:
    counted = st.dictionaries(
        st.sampled_from(
            [f"apicv_{what}_{name}_ns" for what in ("inhibited", "inhibit_unchanged") for name in _REASONS]
        ),
        st.sampled_from([0, 10**9, 3 * 10**9]),
        max_size=2,
    )
    return st.builds(
        craft.VerdictVm,
        st.lists(_vcpus(craft), max_size=3, unique_by=lambda vcpu: vcpu.id),
        _subset(_REASONS),
        _subset(_FLAGS),
        counted,
    )


def _hosts(craft: Any) -> st.SearchStrategy[Any]:
    return st.builds(
        craft.host,
        st.sampled_from([Hardware.AMD, Hardware.INTEL, Hardware.OTHER, None]),
        supported=st.none() | st.booleans(),
        on=st.none() | st.booleans(),
        ipi=st.none() | st.booleans(),
    )


def _configs(craft: Any) -> st.SearchStrategy[Any]:
    return st.builds(
        craft.config,
        irqchip=st.none() | st.sampled_from(Irqchip),
        pit=st.none() | st.sampled_from(Pit),
        nested=st.none() | st.booleans(),
        synic=st.none() | st.booleans(),
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_judging_many_vms_at_once_is_judging_each_by_itself(craft: Any, data: st.DataObject) -> None:
    kinds = data.draw(st.lists(_vms(craft), min_size=1, max_size=3))
    before, after = (data.draw(st.lists(st.sampled_from(kinds), max_size=6)) for _ in range(2))
    after = [*after, *after[:2]]
    host, some = data.draw(_hosts(craft)), data.draw(st.lists(_configs(craft), min_size=1, max_size=2))
    configs = [data.draw(st.sampled_from(some)) for _ in after]
    made = {"counts": data.draw(st.booleans()), "with_state": data.draw(st.booleans())}
    with_window = data.draw(st.booleans())

    def look(first: int, last: int) -> tuple[Any, Window | None]:
        now = craft.sample(*after[first:last], at_s=2, first=first, **made)
        then = craft.sample(*before[first:last], first=first, **made)
        return now, Window(then, now) if with_window else None

    sample, window = look(0, len(after))
    together, foreseen = judge(sample, host, configs, window), what_if(sample, host, configs, window)
    for row, vm in enumerate(together.vms):
        judge_case.cache_clear()
        predict_case.cache_clear()
        alone, its_window = look(row, row + 1)
        (expected,) = judge(alone, host, [configs[row]], its_window).vms
        assert (vm.row, vm.id, vm.body) == (row, expected.id, expected.body)
        rows = range(sample.vcpus_of_vm[row].start, sample.vcpus_of_vm[row].stop)
        assert [vcpu.row for vcpu in vm.vcpus] == list(rows)
        (outcome,) = what_if(alone, host, [configs[row]], its_window)
        assert (foreseen[row].outcome, foreseen[row].predictions) == (outcome.outcome, outcome.predictions)
    assert together.active == [vcpu.active for vm in together.vms for vcpu in vm.vcpus]


def test_vms_that_are_alike_share_one_verdict(craft: Any) -> None:
    vms = [craft.VerdictVm([craft.VerdictVcpu(0), craft.VerdictVcpu(1)]) for _ in range(3)]
    first, second, third = judge(craft.sample(*vms), craft.host()).vms
    assert first.body is second.body is third.body
    assert [vcpu.row for vcpu in third.vcpus] == [4, 5]


def test_interrupt_windows_make_vms_unlike_only_where_they_bear_on_the_verdict(craft: Any) -> None:
    def cases(inhibits: list[str]) -> set[Any]:
        before = craft.sample(*(craft.VerdictVm([craft.VerdictVcpu()], inhibits) for _ in range(2)))
        after = craft.sample(*(craft.VerdictVm([craft.VerdictVcpu(irq_windows=n)], inhibits) for n in (3, 4)), at_s=1)
        return set(read_cases(after, Window(before, after)))

    assert len(cases([])) == 1
    assert {facts_of(case).vcpus[0].irq_windows for case in cases(["irqwin"])} == {3, 4}


def test_a_case_says_what_is_not_known(craft: Any) -> None:
    (case,) = read_cases(craft.sample(craft.VerdictVm(), registers=False, without=["sev_active"]))
    facts = facts_of(case)
    assert (facts.sev, facts.before, facts.vcpus[0].apic_id, facts.vcpus[0].irq_windows) == (None, None, None, None)
    assert facts.vcpus[0].has_apic is True
    (unread,) = read_cases(craft.sample(craft.VerdictVm(), with_state=False))
    assert (facts_of(unread).inhibits, facts_of(unread).vcpus[0].has_apic) == (None, None)
