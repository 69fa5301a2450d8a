"""Histograms: bounds, bars, quantiles, windows, and vCPUs added up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kvmscope.analysis.window import Window
from kvmscope.scene import Scene
from kvmscope.view.histogram import (
    HistogramView,
    histogram_lines,
    histogram_list_lines,
    histogram_list_view,
    histogram_view,
)
from kvmscope.view.jsonout import dump, to_value
from kvmscope.view.subjects import find_subject


@pytest.fixture
def scene(crafted: Any) -> Scene:
    return Scene(crafted.after, crafted.identities, crafted.machine, {})


def make(scene: Scene, vm: str, stat: str, *, window: Window | None = None) -> HistogramView:
    return histogram_view(scene, find_subject(scene, vm), stat, window=window)


def counts(view: HistogramView) -> list[int | None]:
    return [bucket.count for bucket in view.buckets]


def test_a_vcpus_histogram_is_as_expected(scene: Scene, expect: Any) -> None:
    expect("hist-vcpu.txt", "\n".join(histogram_lines(make(scene, "web-1/0", "halt_wait_hist"))))


def test_a_linear_histogram_of_bytes_is_as_expected(scene: Scene, expect: Any) -> None:
    expect("hist-linear.txt", "\n".join(histogram_lines(make(scene, "web-1", "read_size"))))


def test_the_json_is_as_expected(scene: Scene, expect: Any) -> None:
    expect("hist-linear.json", dump(to_value(make(scene, "web-1", "read_size"))))


def test_a_vm_is_the_sum_of_its_vcpus(scene: Scene) -> None:
    shown = make(scene, "web-1", "halt_wait_hist")
    assert (counts(shown)[20], counts(shown)[21], shown.vcpus_missing) == (1504, 907, 0)


def test_a_window_shows_what_was_added(crafted: Any, scene: Scene, expect: Any) -> None:
    window = Window(crafted.before, crafted.after)
    shown = make(scene, "web-1/0", "halt_wait_hist", window=window)
    assert (counts(shown)[20], counts(shown)[21], counts(shown)[24]) == (1500, 900, 92)
    expect("hist-window.txt", "\n".join(histogram_lines(shown)))


def test_vcpus_that_are_not_known_are_counted(scene: Scene) -> None:
    shown = make(scene, "half", "halt_wait_hist")
    assert shown.vcpus_missing == 1
    assert set(counts(make(scene, "half/1", "halt_wait_hist"))) == {None}
    assert make(scene, "half/1", "halt_wait_hist").count is None


def test_a_vcpu_that_came_is_not_known_in_the_window(crafted: Any, scene: Scene) -> None:
    window = Window(crafted.before, crafted.after)
    shown = make(scene, "数据库-with-a-name-that-goes-on-and-on", "halt_wait_hist", window=window)
    assert shown.count is None
    assert "unknown" in histogram_lines(shown)[-1]


def test_an_empty_histogram_says_so(scene: Scene) -> None:
    assert histogram_lines(make(scene, "half/0", "halt_wait_hist"))[-1] == "no value was counted since creation"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["web-1/0", "exits"], "exits is not a histogram; `kvmscope read` shows it"),
        (["web-1/0", "halt_hist"], "there is no histogram 'halt_hist' here; did you mean halt_wait_hist?"),
        (["web-9/0", "halt_wait_hist"], "there is no VM 'web-9/0'; did you mean web-1?"),
        (["web-1/0", "read_size"], "read_size is a statistic of VMs, not of vCPUs: name the VM without its vCPU"),
    ],
)
def test_a_wrong_word_is_told_with_what_is_near(
    kvmscope: Any, crafted: Any, arguments: list[str], message: str
) -> None:
    result = kvmscope.run("hist", *arguments, on=[crafted.after])
    assert result.exit_code == 2
    assert message in result.stderr


def test_without_a_stat_the_histograms_are_listed(scene: Scene, kvmscope: Any, crafted: Any, expect: Any) -> None:
    expect("hist-list.txt", "\n".join(histogram_list_lines(histogram_list_view(scene, find_subject(scene, "web-1")))))
    answer = json.loads(kvmscope.run("hist", "web-1/0", "--json", on=[crafted.after]).stdout)
    assert [(each["stat"]["name"], each["count"]) for each in answer["histograms"]] == [("halt_wait_hist", 2502)]


def test_the_command_takes_a_window(kvmscope: Any, crafted: Any) -> None:
    samples = [crafted.before, crafted.after]
    result = kvmscope.run("hist", "web-1/0", "halt_wait_hist", "--interval", "1ms", "--json", on=samples)
    answer = json.loads(result.stdout)
    assert (answer["count"], answer["interval_s"]) == (2492, 2.0)
    assert answer["buckets"][-1]["high"] is None


def test_a_simulated_one_says_so(crafted: Any, scene: Scene) -> None:
    simulated = replace(scene, sample=replace(crafted.after, simulated=True))
    assert histogram_lines(make(simulated, "web-1/0", "halt_wait_hist"))[0].startswith("SIMULATED")


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_no_line_is_longer_than_the_terminal(kvmscope: Any, crafted: Any, width: int) -> None:
    from kvmscope.view.text import cells

    scene = Scene(crafted.after, crafted.identities, crafted.machine, {})
    subject = find_subject(scene, "web-1")
    lines = [
        *histogram_lines(histogram_view(scene, subject, "halt_wait_hist"), width=width),
        *histogram_list_lines(histogram_list_view(scene, subject), width=width),
    ]
    assert max(map(cells, lines)) <= width
    assert any("█" in line for line in lines)
