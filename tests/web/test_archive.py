"""The past that a server shows: scenes in memory, recordings, and both together."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loads import HOST, NOON_NS, Load, machine, record, record_hosts, simulated_scenes

from kvmscope.errors import UsageError
from kvmscope.scene import Scene
from kvmscope.schema import Scope
from kvmscope.store.recording import open_series
from kvmscope.store.replay import TimeChoice
from kvmscope.store.writer import RecordingWriter
from kvmscope.units import rfc3339
from kvmscope.view.jsonout import to_value
from kvmscope.view.summary import host_summary
from kvmscope.view.watch import Watch
from kvmscope.web.server.api_host import ApiHost
from kvmscope.web.server.archive import MOST_SCENES, MergedSeries, SceneArchive
from kvmscope.web.server.history import MetricHistory
from kvmscope.web.server.scene_memory import SceneMemory

STAT = "halt_wait_hist"
Serve = Callable[[str], Any]


def at(second: float) -> str:
    return rfc3339(NOON_NS + round(second * 1e9))


def gained(scenes: list[Scene], row: int) -> int:
    """How many values the histogram of a vCPU gained."""

    def values(scene: Scene) -> int:
        block = scene.sample.block("kvm", Scope.VCPU)
        assert block is not None
        return int(block.column(STAT)[row].sum())

    return values(scenes[-1]) - values(scenes[0])


def test_a_time_is_shown_as_the_live_host_showed_it(tmp_path: Path) -> None:
    scenes = simulated_scenes(30)
    archive = SceneArchive(open_series(record(scenes, tmp_path / "r")), 1.0)
    watch = Watch()
    views = [watch.add(scene) for scene in scenes[8:21]]
    live = views[-1]
    assert live is not None
    assert to_value(host_summary(archive.view_at(None, at(20)))) == to_value(host_summary(live))


def test_without_a_time_the_end_is_shown_or_the_time_that_was_chosen(tmp_path: Path) -> None:
    series = open_series(record(simulated_scenes(30), tmp_path / "r"))
    assert SceneArchive(series, 1.0).view_at(None, None).scene.sample.taken_ns == NOON_NS + 29 * 10**9
    chosen = TimeChoice(at_ns=NOON_NS + 7 * 10**9)
    assert SceneArchive(series, 1.0, chosen).view_at(None, None).scene.sample.taken_ns == NOON_NS + 7 * 10**9


def test_the_first_scene_is_shown_with_the_interval_after_it(tmp_path: Path) -> None:
    archive = SceneArchive(open_series(record(simulated_scenes(5), tmp_path / "r")), 1.0)
    assert archive.view_at(None, at(0)).window.interval_s == 1.0


@pytest.mark.parametrize("text", ["yesterday", "2001-01-01T00:00:00Z", ""])
def test_a_time_that_is_none_or_has_no_scene_is_refused(tmp_path: Path, text: str) -> None:
    archive = SceneArchive(open_series(record(simulated_scenes(5), tmp_path / "r")), 1.0)
    with pytest.raises(UsageError):
        archive.view_at(None, text)


def test_a_heat_map_has_every_value_of_its_time_whatever_is_left_out(tmp_path: Path) -> None:
    scenes = simulated_scenes(2 * MOST_SCENES)
    host = ApiHost(SceneArchive(open_series(record(scenes, tmp_path / "r")), 1.0))
    [heat] = host.heat({"vm": "vm-1/1", "stat": STAT, "since": at(0)}).heats
    assert len(heat.columns) <= MOST_SCENES
    assert sum(sum(column.counts or ()) for column in heat.columns) == gained(scenes, 3)
    assert len(heat.bounds) == len(heat.columns[0].counts or ()) + 1


def test_a_heat_map_of_a_vm_is_the_sum_of_its_vcpus(tmp_path: Path) -> None:
    host = ApiHost(SceneArchive(open_series(record(simulated_scenes(20), tmp_path / "r")), 1.0))

    def values(vm: str) -> int:
        [heat] = host.heat({"vm": vm, "stat": STAT}).heats
        return sum(sum(column.counts or ()) for column in heat.columns)

    assert values("vm-1") == values("vm-1/0") + values("vm-1/1") > 0


def test_a_stat_of_a_vcpu_has_its_rate_in_each_interval(tmp_path: Path) -> None:
    scenes = simulated_scenes(20)
    found = ApiHost(SceneArchive(open_series(record(scenes, tmp_path / "r")), 1.0)).history(
        {"vm": "vm-0/1", "stat": "exits"}
    )
    counts = [int(block.column("exits")[1]) for scene in scenes if (block := scene.sample.block("kvm", Scope.VCPU))]
    assert found.values == pytest.approx([b - a for a, b in itertools.pairwise(counts)], rel=1e-5)


def test_what_a_writer_appends_is_there_for_the_next_question(tmp_path: Path) -> None:
    scenes = simulated_scenes(20)
    writer = RecordingWriter(tmp_path / "r")
    for scene in scenes[:10]:
        writer.append(scene)
    archive = SceneArchive(open_series(str(tmp_path / "r")), 1.0, fresh_s=0)
    before = archive.view_at(None, None).scene.sample.taken_ns
    for scene in scenes[10:]:
        writer.append(scene)
    assert (before, archive.view_at(None, None).scene.sample.taken_ns) == (NOON_NS + 9 * 10**9, NOON_NS + 19 * 10**9)
    writer.close()
    assert archive.view_at(None, at(5)).scene.sample.taken_ns == NOON_NS + 5 * 10**9


def test_memory_goes_on_where_a_recording_ends(tmp_path: Path) -> None:
    scenes, ring = simulated_scenes(40), SceneMemory()
    for scene in scenes[20:]:
        ring.add(scene)
    recorded = open_series(record(scenes[:30], tmp_path / "r"))
    host = ApiHost(SceneArchive(MergedSeries(ring, recorded), 1.0))
    [heat] = host.heat({"vm": "vm-0/0", "stat": STAT}).heats
    assert [time.ns for time in heat.times] == [NOON_NS + second * 10**9 for second in range(1, 40)]
    assert sum(sum(column.counts or ()) for column in heat.columns) == gained(scenes, 0)


def test_scenes_in_memory_stay_within_their_bytes_and_lose_no_values() -> None:
    scenes, most = simulated_scenes(300), 200_000
    ring = SceneMemory(most_bytes=most)
    for scene in scenes:
        ring.add(scene)
    kept = [ring.scene(moment) for moment in ring.moments()]
    assert sum(block.values.nbytes for scene in kept for block in scene.sample.blocks) <= most
    steps = [b.sample.taken_ns - a.sample.taken_ns for a, b in itertools.pairwise(kept)]
    assert max(steps) <= 2 * min(steps)
    [heat] = ApiHost(SceneArchive(ring, 1.0)).heat({"vm": "vm-0/0", "stat": STAT}).heats
    assert sum(sum(column.counts or ()) for column in heat.columns) == gained(kept, 0)


def test_scenes_in_memory_end_after_their_time_and_survive_a_clock_that_is_set_back() -> None:
    ring = SceneMemory(kept_s=10)
    for scene in simulated_scenes(30):
        ring.add(scene)
    assert len(ring.moments()) == 11
    [again] = simulated_scenes(1, begin_s=25)
    ring.add(again)
    assert [(moment.taken_ns - NOON_NS) // 10**9 for moment in ring.moments()] == list(range(19, 26))
    [early] = simulated_scenes(1)
    ring.add(early)
    assert [moment.taken_ns for moment in ring.moments()] == [NOON_NS]


def test_metrics_in_memory_are_as_few_after_a_clock_that_is_set_back() -> None:
    history, watch = MetricHistory(kept_s=10), Watch()
    scenes = simulated_scenes(40)
    for number, scene in enumerate(scenes):
        taken_ns = scene.sample.taken_ns - (3600 * 10**9 if number >= 20 else 0)
        view = watch.add(replace(scene, sample=replace(scene.sample, taken_ns=taken_ns)))
        if view is not None:
            history.add(view)
    assert len(history.of("exits_per_s", None).times) == 11


def test_memory_does_not_share_the_words_of_a_source() -> None:
    [scene] = simulated_scenes(1)
    ring = SceneMemory()
    ring.add(scene)
    [moment] = ring.moments()
    blocks = zip(scene.sample.blocks, ring.scene(moment).sample.blocks, strict=True)
    assert not any((mine.values == its.values).all() and mine.values is its.values for mine, its in blocks)


def two_hosts(place: Path) -> str:
    other = Load(host="c" * 32, machine=machine(hostname="host-9"), names=("a", "b", "c", "d"))
    return record_hosts([simulated_scenes(10), simulated_scenes(10, begin_s=5, load=other)], place)


def test_each_host_of_a_recording_is_shown_by_its_name(tmp_path: Path, serve_recording: Serve) -> None:
    running = serve_recording(two_hosts(tmp_path / "r"))
    timeline = json.loads(running.get("/api/v1/timeline").body)
    assert {host["name"] for host in timeline["hosts"]} == {"host-7", "host-9"}
    assert {host["id"] for host in timeline["hosts"]} == {HOST, "c" * 32}
    for name, vm in (("host-7", "vm-0"), ("host-9", "a")):
        summary = json.loads(running.get(f"/api/v1/summary?host={name}").body)
        assert (summary["host"]["name"], vm in {each["name"] for each in summary["vms"]}) == (name, True)
    assert running.get("/api/v1/summary?host=nobody").status == 404


def test_a_recording_has_no_metrics_and_events_of_now(tmp_path: Path, serve_recording: Serve) -> None:
    running = serve_recording(record(simulated_scenes(5), tmp_path / "r"))
    assert (running.get("/metrics").status, running.get("/api/v1/events").status) == (404, 404)
    assert running.get("/").status == 200


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("history?metric=exits_per_s&stat=exits", 404),
        ("history", 404),
        ("history?stat=exitz", 404),
        ("history?metric=exits_per_s&since=-1s&until=-2s", 404),
        ("history?metric=exits_per_s&vm=vm-0&until=never", 404),
        ("heat?vm=vm-0&stat=exits", 404),
        ("heat?at=-1s", 400),
        ("stats", 400),
        ("explain?name=nothing-of-this-name", 404),
        ("timeline?host=host-7", 400),
        ("summary?at=99:99", 404),
    ],
)
def test_what_cannot_be_answered_is_a_problem_in_json(
    tmp_path: Path, serve_recording: Serve, query: str, status: int
) -> None:
    answer = serve_recording(record(simulated_scenes(5), tmp_path / "r")).get(f"/api/v1/{query}")
    assert answer.status == status
    assert set(json.loads(answer.body)) == {"format", "error", "message"}


def test_a_restart_of_the_host_is_a_gap_and_not_an_interval(tmp_path: Path) -> None:
    after = simulated_scenes(10, begin_s=100, load=Load(boot="d" * 32))
    later: list[Any] = [
        replace(s, sample=replace(s.sample, monotonic_ns=s.sample.monotonic_ns - 10**15)) for s in after
    ]
    place = record([*simulated_scenes(10), *later], tmp_path / "r")
    host = ApiHost(SceneArchive(open_series(place), 1.0))
    assert len(host.history({"metric": "exits_per_s"}).times) == 18
    assert len(host.timeline().hosts[0].stretches) == 2
