"""Generated hosts: ``status``, ``apicv`` and ``doctor`` of scenes that were bytes are those of the host, byte for byte.

``KVMSCOPE_SCENES`` says how many scenes are generated.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from any_scene import GAPS, IDENTITIES, MACHINES, TEXT
from crafted_host import REASONS, CraftedHost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from troubles import BUSY, TROUBLES

from kvmscope.sample import Origin
from kvmscope.scene import Scene, decode, encode
from kvmscope.view.apicv_text import apicv_nodes
from kvmscope.view.doctor_text import report_lines
from kvmscope.view.jsonout import dump, to_object
from kvmscope.view.overview_text import overview_lines, rows_shown
from kvmscope.view.text import plain
from kvmscope.view.tree import indented
from kvmscope.view.watch import HostView, Watch

MOMENTS = 3
"""Scenes of each host: most rules fire after two intervals."""
SCENES = int(os.environ.get("KVMSCOPE_SCENES", "45"))


@st.composite
def hosts(draw: st.DrawFn) -> list[Scene]:
    """Some moments of a host. Its VMs do what rules are for, by turns, and the last of them may end."""
    names = draw(st.lists(st.sampled_from(sorted(TROUBLES)), max_size=4, unique=True))
    host = CraftedHost()
    host.count(*sorted({rate for name in names for rate in TROUBLES[name].rates if "." in rate}))
    for name in names:
        reasons = draw(st.none() | st.frozensets(st.sampled_from(REASONS)))
        vm = host.add(name, draw(st.integers(1, 3)), apicv=reasons, active=draw(st.booleans()))
        vm.vm_stats |= TROUBLES[name].values
    machine, origin = draw(MACHINES), draw(st.none() | st.builds(Origin, TEXT, TEXT))
    why_not = draw(st.dictionaries(st.sampled_from(["bpf", "pinned"]), TEXT))
    who = draw(st.lists(IDENTITIES, min_size=len(names), max_size=len(names)))
    scenes = []
    for _ in range(MOMENTS):
        host.now_s += draw(st.floats(0.01, 9))
        for vm in host.vms:
            host.run(1, BUSY if draw(st.booleans()) else TROUBLES[vm.name].rates, vm=vm.name)
        gaps = tuple(draw(st.lists(GAPS, max_size=2)))
        sample = replace(host.sample(), gaps=gaps, origin=origin)
        scenes.append(Scene(sample, tuple(who[: len(host.vms)]), machine, why_not))
        del host.vms[draw(st.integers(len(host.vms) - 1, len(host.vms))) :]
    return scenes


def views(scenes: Sequence[Scene]) -> Iterator[HostView]:
    watch = Watch(keeps_ended=True)
    return (view for scene in scenes if (view := watch.add(scene)) is not None)


def answers(view: HostView, width: int) -> Iterator[str]:
    """What the three commands say, as JSON and as text."""
    overview, apicv, report = view.overview, view.apicv, view.report()
    yield from (dump(to_object(answer)) for answer in (overview, apicv, report))
    yield from plain(overview_lines(overview, rows_shown(overview), width=width))
    yield from indented(apicv_nodes(apicv, each_vm=True))
    yield from report_lines(report, width=width, lists_unchecked=True, shows_ended=True)


@settings(max_examples=-(-SCENES // MOMENTS), deadline=None, suppress_health_check=list(HealthCheck))
@given(hosts(), st.integers(40, 250))
def test_a_recorded_host_gives_the_answers_of_the_host_itself(scenes: list[Scene], width: int) -> None:
    recorded = [decode(encode(scene)) for scene in scenes]
    live, again = ([list(answers(view, width)) for view in views(each)] for each in (scenes, recorded))
    assert len(live) == MOMENTS - 1
    assert again == live


class Reads:
    """What this process opens or asks the system for while ``is_armed``; Python keeps a hook to its end."""

    def __init__(self) -> None:
        self.is_armed = False
        self.seen: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_armed and event.partition(".")[0] in {"ctypes", "open", "os", "shutil", "socket", "subprocess"}:
            self.seen.append(f"{event} {arguments!r}"[:200])


READS = Reads()


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(hosts())
def test_who_judges_and_shows_a_scene_opens_nothing(scenes: list[Scene]) -> None:
    for view in views(scenes):  # which loads the catalogue
        list(answers(view, 100))
    READS.is_armed = True
    try:
        for view in views(scenes):
            list(answers(view, 100))
    finally:
        READS.is_armed = False
    assert READS.seen == []


def test_a_file_that_is_opened_would_be_noticed() -> None:
    READS.is_armed = True
    try:
        open(__file__, encoding="utf-8").close()  # noqa: PTH123
    finally:
        READS.is_armed = False
    assert READS.seen.pop().startswith("open ")
