"""Spans of a recording: one boot of one host each, evenly spread, read late."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")

from loads import NOON_NS, Load, record, simulated_scenes

from kvmscope.errors import UsageError
from kvmscope.store.recording import open_series
from kvmscope.store.replay import LookPlan, SceneMoment, SceneSeries, TimeChoice, choose, omissions
from kvmscope.store.spans import open_spans, runs, spread

BOOT_1, BOOT_2 = Load(vms=1, boot="1" * 32), Load(vms=1, boot="2" * 32)
SCENES = simulated_scenes(10, load=BOOT_1) + simulated_scenes(4, begin_s=20, load=BOOT_2)


def test_a_span_ends_where_the_boot_does() -> None:
    moments = [SceneMoment.of(scene) for scene in SCENES]
    assert [len(run) for run in runs(moments)] == [10, 4]


def test_scenes_are_spread_evenly_with_both_ends() -> None:
    moments = [SceneMoment.of(scene) for scene in SCENES[:10]]
    found = spread(moments, 4)
    assert [(moment.taken_ns - NOON_NS) // 10**9 for moment in found] == [0, 3, 6, 9]
    assert spread(moments, 10) == moments
    assert len(spread(moments, 9)) == 9


def test_the_longest_span_of_each_host_is_taken(tmp_path: Path) -> None:
    series = open_series(record(SCENES, tmp_path / "r"))
    found = open_spans(series, TimeChoice())
    assert [len(span) for span in found.spans] == [10]
    assert found.left_out == 4
    [span] = found.spans
    assert [scene.sample.taken_ns for scene in span.spread(2)] == [NOON_NS, NOON_NS + 9 * 10**9]
    assert span[-1].sample.taken_ns == NOON_NS + 9 * 10**9
    later = open_spans(series, TimeChoice(since_ns=NOON_NS + 15 * 10**9))
    assert [len(span) for span in later.spans] == [4]


def test_hosts_are_chosen_by_name_or_id(tmp_path: Path) -> None:
    series = open_series(record(SCENES, tmp_path / "r"))
    for name in ("host-7", "aaaa"):
        assert len(open_spans(series, TimeChoice(), [name]).spans) == 1
    with pytest.raises(UsageError, match="no scene of other"):
        open_spans(series, TimeChoice(), ["other"])
    with pytest.raises(UsageError, match="no scene at this time"):
        open_spans(series, TimeChoice(since_ns=NOON_NS + 10**12, until_ns=NOON_NS + 10**13))


@pytest.fixture
def fleet(tmp_path: Path) -> SceneSeries:
    """Recordings of two hosts at one time, copied into one directory: their segments have the same numbers."""
    for host in ("a", "b"):
        load = Load(vms=1, boot=host * 32, host=host * 32)
        for begin_s in (0, 20):
            record(simulated_scenes(5, begin_s=begin_s, load=load), tmp_path / host)
    shutil.copytree(tmp_path / "b", tmp_path / "a", dirs_exist_ok=True)
    return open_series(str(tmp_path / "a"))


def test_hosts_whose_recordings_were_put_together_are_read_one_after_the_other(fleet: SceneSeries) -> None:
    moments = fleet.moments()
    assert [moment.host for moment in moments] == ["a" * 32] * 10 + ["b" * 32] * 10
    for moment in moments:
        origin = fleet.scene(moment).origin
        assert origin is not None
        assert origin.host == moment.host
    assert [len(span) for span in open_spans(fleet, TimeChoice()).spans] == [10, 10]
    assert [len(span) for span in open_spans(fleet, TimeChoice(), ["b" * 32]).spans] == [10]


def test_a_screen_shows_one_of_several_hosts_and_says_so(fleet: SceneSeries) -> None:
    moments = fleet.moments()
    plan, times = LookPlan((1.0,)), TimeChoice(since_ns=NOON_NS, until_ns=NOON_NS + 10**11)
    assert {moment.host for moment in choose(moments, plan, times)} == {"b" * 32}
    assert "another host" in omissions(moments, plan, times)[0]
    assert omissions(moments, plan, TimeChoice()) == ["the recording has 2 hosts, and one of them is shown"]
