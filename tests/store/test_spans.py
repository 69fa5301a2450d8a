"""Spans of a recording: one boot of one host each, evenly spread, read late."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")

from loads import NOON_NS, Load, record, simulated_scenes

from kvmscope.errors import UsageError
from kvmscope.store.recording import open_series
from kvmscope.store.replay import SceneMoment, TimeChoice
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
