"""What can be read here: a source that sees VMs and can read none does not work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvmscope.errors import PermissionNeeded, UsageError
from kvmscope.sample import Gap
from kvmscope.view.check import CheckView, check_lines, checked_host, failed_source, opened_source


def view(crafted: Any, *sources: Any) -> CheckView:
    return CheckView(host=checked_host(crafted.machine, user="me", is_root=False), sources=sources)


def test_a_source_that_reads_no_vm_that_it_sees_does_not_work(crafted: Any) -> None:
    blind = opened_source("statsfd", replace(crafted.after, blocks=()))
    assert (blind.works, blind.is_useful, blind.vms, blind.readable_vms) == (False, False, 4, 0)
    assert blind.reason == "sees 4 VMs and can read the statistics of none"
    lines = check_lines(view(crafted, blind))
    assert "nothing can be read here" in lines
    assert next(line for line in lines if line.startswith("statsfd")).split()[1] == "no"


def test_a_source_that_reads_some_vms_works_in_part(crafted: Any) -> None:
    sample = crafted.make_sample(
        [crafted.vm("a", [crafted.vcpu(0)]), crafted.vm("b", [crafted.vcpu(0)])], gaps=[Gap("no stats fd")]
    )
    half = opened_source("bpf", replace(sample, blocks=(replace_rows(sample.blocks[0]),)))
    assert (half.works, half.readable_vms) == (True, 1)
    lines = check_lines(view(crafted, half))
    assert next(line for line in lines if line.startswith("bpf")).split()[1:3] == ["in", "part"]
    assert f"{' ' * 11}reads 1 of 2 VMs" in lines


def replace_rows(block: Any) -> Any:
    """The first subject alone."""
    return replace(block, values=block.values[:1], rows=block.rows[:1])


def test_a_host_without_vms_can_be_read(crafted: Any) -> None:
    idle = opened_source("bpf", crafted.make_sample([]))
    assert (idle.works, idle.is_useful) == (True, True)
    assert not opened_source("published", crafted.make_sample([])).is_useful


def test_json_has_every_reason_of_a_gap_and_a_screen_the_most_frequent(crafted: Any) -> None:
    gaps = [Gap(f"reason {number}") for number in range(6)] + [Gap("reason 5")]
    source = opened_source("bpf", crafted.make_sample([crafted.vm("a", [crafted.vcpu(0)])], gaps=gaps))
    assert source.gaps == ("reason 5 (2 times)", *(f"reason {number}" for number in range(5)))
    lines = check_lines(view(crafted, source))
    assert sum("missing data" in line for line in lines) == 4
    assert lines[-3].strip() == "missing data: 3 more; --json has them all"


def test_an_error_has_its_reason_and_remedy(crafted: Any) -> None:
    failed = failed_source("bpf", PermissionNeeded("no right", remedy="run as root"))
    assert (failed.works, failed.reason, failed.remedy, failed.vms) == (False, "no right", "run as root", None)
    assert failed_source("bpf", UsageError("odd")).reason == "odd"
    assert f"{' ' * 11}try: run as root" in check_lines(view(crafted, failed))


def test_a_fact_that_is_unknown_has_its_reason(crafted: Any) -> None:
    host = view(crafted).host
    assert (host.lockdown, host.unknown["lockdown"]) == (None, "no such file")
    assert "lockdown  unknown: no such file" in check_lines(view(crafted))
