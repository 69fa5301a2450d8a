"""Histograms: bounds, bars, quantiles, windows, and vCPUs added up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kvmscope.analysis.window import Window
from kvmscope.cli.hist import make, to_json, to_lines
from kvmscope.scene import Scene


@pytest.fixture
def scene(crafted: Any) -> Scene:
    return Scene(crafted.after, crafted.identities, crafted.machine, {})


def test_a_vcpus_histogram_is_as_expected(scene: Scene, expect: Any) -> None:
    expect("hist-vcpu.txt", "\n".join(to_lines(make(scene, "web-1/0", "halt_wait_hist", None))))


def test_a_linear_histogram_of_bytes_is_as_expected(scene: Scene, expect: Any) -> None:
    expect("hist-linear.txt", "\n".join(to_lines(make(scene, "web-1", "read_size", None))))


def test_the_json_is_as_expected(scene: Scene, expect: Any) -> None:
    expect("hist-linear.json", json.dumps(to_json(make(scene, "web-1", "read_size", None)), indent=2, allow_nan=False))


def test_a_vm_is_the_sum_of_its_vcpus(scene: Scene) -> None:
    shown = make(scene, "web-1", "halt_wait_hist", None)
    assert shown.counts is not None
    assert (shown.counts[20], shown.counts[21], shown.missing) == (1504, 907, 0)


def test_a_window_shows_what_was_added(crafted: Any, scene: Scene, expect: Any) -> None:
    window = Window(crafted.before, crafted.after)
    shown = make(scene, "web-1/0", "halt_wait_hist", None, window=window)
    assert shown.counts is not None
    assert (shown.counts[20], shown.counts[21], shown.counts[24]) == (1500, 900, 92)
    expect("hist-window.txt", "\n".join(to_lines(shown)))


def test_vcpus_that_are_not_known_are_counted(scene: Scene) -> None:
    shown = make(scene, "half", "halt_wait_hist", None)
    assert shown.missing == 1
    assert make(scene, "half/1", "halt_wait_hist", None).counts is None
    assert to_json(make(scene, "half/1", "halt_wait_hist", None))["count"] is None


def test_a_vcpu_that_came_is_not_known_in_the_window(crafted: Any, scene: Scene) -> None:
    window = Window(crafted.before, crafted.after)
    shown = make(scene, "数据库-with-a-name-that-goes-on-and-on", "halt_wait_hist", None, window=window)
    assert shown.counts is None
    assert "not known" in to_lines(shown)[-1]


def test_an_empty_histogram_says_so(scene: Scene) -> None:
    assert to_lines(make(scene, "half/0", "halt_wait_hist", None))[-1] == "no value was counted since creation"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["web-1/0", "exits"], "exits is no histogram; `kvmscope read` shows it"),
        (["web-1/0", "halt_hist"], "there is no histogram 'halt_hist' here; did you mean halt_wait_hist?"),
        (["web-9/0", "halt_wait_hist"], "there is no VM 'web-9/0'; did you mean web-1?"),
        (["web-1"], "Missing argument 'STAT'"),
    ],
)
def test_a_wrong_word_is_told_with_what_is_near(
    kvmscope: Any, crafted: Any, arguments: list[str], message: str
) -> None:
    result = kvmscope.run("hist", *arguments, on=[crafted.after])
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_command_takes_a_window(kvmscope: Any, crafted: Any) -> None:
    samples = [crafted.before, crafted.before, crafted.after]
    result = kvmscope.run("hist", "web-1/0", "halt_wait_hist", "--interval", "1ms", "--json", on=samples)
    answer = json.loads(result.stdout)
    assert (answer["count"], answer["interval_s"]) == (2492, 2.0)
    assert answer["buckets"][-1]["high"] is None


def test_a_simulated_one_says_so(crafted: Any, scene: Scene) -> None:
    simulated = replace(scene, sample=replace(crafted.after, simulated=True))
    assert to_lines(make(simulated, "web-1/0", "halt_wait_hist", None))[0].startswith("SIMULATED")
