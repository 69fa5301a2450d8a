"""Advice on the halt polling limit, as a finding has it: values, and the sentences of a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from crafted_host import CraftedHost

from kvmscope.linux.facts import Fact, KernelModule
from kvmscope.scene import Scene, VmIdentity
from kvmscope.view.findings import ReportedFinding
from kvmscope.view.findings_text import finding_lines
from kvmscope.view.watch import Watch

LATE_WAKEUPS = {"fail_us:190": 1000, "wait_us:800": 1000, "success_us:3": 4000, "halt_wakeup": 1000}
"""Most polls succeed at once, and some run to the end for nothing."""


def finding_of(rates: Mapping[str, float], crafted: Any, *, limit_ns: str | None = "200000") -> ReportedFinding:
    host = CraftedHost()
    host.add("web", vcpus=1)
    parameters = {} if limit_ns is None else {"halt_poll_ns": Fact(limit_ns)}
    machine = replace(crafted.machine, kvm=Fact(KernelModule("kvm", False, MappingProxyType(parameters))))
    watch = Watch()
    for _ in range(4):
        view = watch.add(Scene(host.sample(), (VmIdentity("web", None),), machine, {}))
        host.run(1.0, rates, vm="web")
    assert view is not None
    [finding] = [each for each in view.findings if each.rule.startswith("poll-")]
    return finding


def text_of(finding: ReportedFinding) -> str:
    return " ".join(line.strip() for line in finding_lines(finding, width=1000))


def test_waste_comes_with_the_best_limit_and_what_it_frees(crafted: Any) -> None:
    finding = finding_of(LATE_WAKEUPS, crafted)
    polling = finding.polling
    assert polling is not None and polling.best is not None
    assert (finding.rule, polling.limit_ns, polling.best.limit_ns) == ("poll-waste", 200_000, 4096)
    assert polling.best.freed_cpus == pytest.approx(1000 * (190_000 - 4096) / 1e9)
    assert polling.best.saved_wakeups_per_s == 0
    text = text_of(finding)
    assert "halt polling costs 0.18 CPU net at a limit of 200000 ns" in text
    assert "best limit: 4096 ns, which frees 0.19 CPU; wakeups are as fast as before" in text


def test_short_sleeps_come_with_the_price_of_longer_polls(crafted: Any) -> None:
    finding = finding_of({"wait_us:50": 3000, "halt_wakeup": 3000}, crafted, limit_ns="0")
    assert finding.rule == "poll-too-short" and finding.polling is not None
    fewer = finding.polling.fewer_sleeps
    assert fewer is not None and fewer.limit_ns == 65_536
    assert fewer.saved_wakeups_per_s == 3000
    assert fewer.freed_cpus_low <= 3000 * (5 - 50) / 1e6 <= fewer.freed_cpus_high
    text = text_of(finding)
    assert "halt polling neither saves nor costs CPU time at a limit of 0 (off); no other limit frees more CPU" in text
    assert "for faster wakeups: 65536 ns, which takes 0.13 CPU (0.083 to 0.18); 3k fewer wakeups/s go" in text


def test_without_the_limit_there_is_no_advice(crafted: Any) -> None:
    assert finding_of(LATE_WAKEUPS, crafted, limit_ns=None).polling is None
