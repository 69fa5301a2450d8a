"""Screens lose no finding: what is asked of all hosts and then of a few VMs is what would be found without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_fleet import NumpyFleet

from kvmscope.catalog.findings import Rule, find_rule, load_findings
from kvmscope.catalog.metrics import formulas, load_metrics
from kvmscope.engines.fleets import open_recorded_fleet
from kvmscope.engines.screens import ScreenedRules
from kvmscope.formula.tree import StatName
from kvmscope.lab.fleet import BEGAN_NS, host_scenes
from kvmscope.lab.fleet_plan import FleetSize, PlannedHost, plan_fleet
from kvmscope.scene import Scene
from kvmscope.schema import Scope
from kvmscope.store.columns import tables_of
from kvmscope.store.epochs import EpochTracker
from kvmscope.store.layout import ABOUT, SegmentPlace, about_text
from kvmscope.store.segment import write_segment
from kvmscope.store.storage import Storage

METRICS = formulas(load_metrics())
HISTOGRAMS = frozenset({StatName("kvm", "halt_wait_hist"), StatName("wakeups", "wakeup_to_entry_hist")})
COSTLY = ("poll-too-short", "poll-cut-short", "halts-without-rest", "wakeups-late", "stats-reset")
VMS = [(host, vm) for host in ("a", "b") for vm in (1, 2)]
Holds = Mapping[tuple[str, tuple[str, int]], frozenset[int]]
"""The windows in which a rule of this slug holds of this VM."""


@dataclass(frozen=True)
class Fleet:
    """In which windows costly rules hold, what is necessary for them, and what suffices for ``stats-reset``."""

    may: Holds
    holds: Holds
    surely: Holds

    def rows(self, rules: Sequence[Rule], vms: Sequence[tuple[str, int]]) -> Iterator[dict[str, Any]]:
        """What an engine answers, the costly rules by their ``whens``."""
        for rule in rules:
            slug = rule.slug.removeprefix("may be ")
            for vm in vms:
                is_whole = rule.when == find_rule(slug).when
                source = self.may if rule.slug != slug else self.holds if is_whole else self.surely
                for window in source[slug, vm]:
                    yield _row(rule.slug, vm, window)


def _row(slug: str, vm: tuple[str, int], window: int) -> dict[str, Any]:
    return {"rule": slug, "host": vm[0], "vm": vm[1], "boot": "x", "source": "s", "simulated": True, "window": window}


@st.composite
def any_fleets(draw: st.DrawFn) -> Fleet:
    """What surely holds holds, and what holds may hold."""
    windows = st.frozensets(st.integers(1, 3))
    may, holds, surely = {}, {}, {}
    for slug in COSTLY:
        for vm in VMS:
            may[slug, vm] = draw(windows)
            holds[slug, vm] = may[slug, vm] & draw(windows)
            surely[slug, vm] = holds[slug, vm] & draw(windows)
    return Fleet(may, holds, surely)


@settings(deadline=None, max_examples=40)
@given(fleet=any_fleets())
def test_two_passes_find_what_one_would(fleet: Fleet) -> None:
    screened = ScreenedRules([find_rule(slug) for slug in COSTLY], METRICS, HISTOGRAMS)
    found = list(screened.sift(fleet.rows(screened.first, VMS)))
    assert not found, "all of these rules are costly"
    found += screened.decided()
    for rules, suspects in screened.second():
        found += fleet.rows(rules, [(host, vm) for host, vms in suspects.items() for vm in vms])
    due = [_row(slug, vm, window) for (slug, vm), windows in fleet.holds.items() for window in windows]
    assert sorted(map(str, found)) == sorted(map(str, due))


def test_rules_that_read_buckets_are_costly_and_the_others_are_asked_as_they_are() -> None:
    screened = ScreenedRules(load_findings(), METRICS, HISTOGRAMS)
    weaker = {rule.slug.removeprefix("may be ") for rule in screened.first if rule.slug.startswith("may be ")}
    assert weaker == set(COSTLY)
    assert {rule.slug for rule in screened.first} >= {rule.slug for rule in load_findings()} - weaker


def with_a_fall(scenes: Sequence[Scene], stat: str) -> Iterator[Scene]:
    """The same host, of whose second VM a count is cleared before the third scene."""
    for at, scene in enumerate(scenes):
        blocks = []
        for block in scene.sample.blocks:
            words = block.values.copy()
            if at >= 2 and block.schema.scope is Scope.VCPU and stat in block.schema:
                its = scene.sample.vcpus.vm[block.rows] == 1
                column = block.schema[stat].offset // 8
                first = scenes[1].sample.blocks[scene.sample.blocks.index(block)].values[:, column]
                words[its, column] = words[its, column] - first[its]
            blocks.append(replace(block, values=words))
        yield replace(scene, sample=replace(scene.sample, blocks=tuple(blocks)))


def write_host(directory: Path, host: PlannedHost, scenes: Sequence[Scene]) -> None:
    (directory / ABOUT).write_text(about_text())
    place = SegmentPlace.of(0, host.id, BEGAN_NS)
    write_segment(Storage(str(directory)), place, tables_of(scenes, EpochTracker()))


@pytest.mark.parametrize("stat", ["exits", "host_state_reload"])
def test_a_fall_is_found_in_a_count_that_other_rules_read_and_in_one_that_none_reads(stat: str, tmp_path: Path) -> None:
    size = FleetSize(hosts=3, vms=4, vcpus=2, samples=6)
    for host in plan_fleet(size):
        write_host(tmp_path, host, list(with_a_fall(list(host_scenes(host, size)), stat)))
    with open_recorded_fleet([str(tmp_path)], interval_s=10) as store:
        found = store.findings().findings
    due = NumpyFleet(str(tmp_path), every_s=10).findings().findings
    assert {(each.rule, each.host, each.vm, each.windows, each.since_ns) for each in found} == {
        (each.rule, each.host, each.vm, each.windows, each.since_ns) for each in due
    }
    assert any(each.rule == "stats-reset" for each in found)
