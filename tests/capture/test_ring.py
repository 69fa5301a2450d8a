"""The scenes that are held in memory are bounded by time and by size, and hold what was read alone."""

from __future__ import annotations

from collections.abc import Callable

from kvmscope.capture.ring import SceneRing, scene_bytes
from kvmscope.scene import Scene

Storms = Callable[..., list[Scene]]


def test_scenes_older_than_the_span_go(host_with_storms: Storms) -> None:
    ring = SceneRing(10, 1 << 30)
    scenes = host_with_storms(30, web=())
    for scene in scenes:
        ring.add(scene)
    assert [scene.sample.taken_ns for scene in ring.take()] == [scene.sample.taken_ns for scene in scenes[-11:]]
    assert (len(ring), ring.size_bytes) == (0, 0)


def test_scenes_beyond_the_size_go(host_with_storms: Storms) -> None:
    scenes = host_with_storms(30, web=())
    ring = SceneRing(1000, 5 * scene_bytes(scenes[0]))
    for scene in scenes:
        ring.add(scene)
        assert ring.size_bytes <= 5 * scene_bytes(scenes[0])
    assert len(ring) == 5


def test_a_scene_larger_than_the_room_is_not_held(host_with_storms: Storms) -> None:
    ring = SceneRing(1000, 10)
    ring.add(host_with_storms(1, web=())[0])
    assert len(ring) == 0


def test_columns_that_were_copied_to_judge_a_scene_are_not_held(host_with_storms: Storms) -> None:
    [scene] = host_with_storms(1, web=())
    block = scene.sample.blocks[0]
    assert block.single_words
    ring = SceneRing(1000, 1 << 20)
    ring.add(scene)
    [held] = ring.take()
    assert "single_words" not in vars(held.sample.blocks[0])
    assert held.sample.blocks[0].values is block.values
