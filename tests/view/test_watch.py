"""Views of a host window after window: from scenes by hand, from ``Host.watch``, and by a program of a user."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kvmscope.collect import Host
from kvmscope.errors import UsageError
from kvmscope.lab.simulate import SimulatedHost
from kvmscope.sample import Sample
from kvmscope.scene import Scene, VmIdentity
from kvmscope.view.jsonout import to_object
from kvmscope.view.watch import HostView, Watch

STORM = {"exits": 20_000, "mmio_exits": 9_000, "fpu_reload": 9_000, "halt_exits": 10}
EXAMPLE = Path(__file__).parents[2] / "examples" / "watch_findings.py"


def scene(sample: Sample, crafted: Any) -> Scene:
    return Scene(sample, tuple(VmIdentity(label, None) for label in sample.vms.label), crafted.machine, {})


def views_of(samples: Sequence[Sample], crafted: Any) -> list[HostView]:
    watch = Watch()
    return [view for sample in samples if (view := watch.add(scene(sample, crafted))) is not None]


def test_the_first_scene_gives_no_view_and_each_later_one_a_window(crafted: Any, grown: Callable[..., Any]) -> None:
    views = views_of(grown(STORM, STORM, STORM), crafted)
    assert [view.window.interval_s for view in views] == [1.0, 1.0, 1.0]
    assert [[f.rule for f in view.findings] for view in views] == [[], ["mmio-storm"], ["mmio-storm"]]
    assert [[f.rule for f in view.report().begun] for view in views] == [[], ["mmio-storm"], []]
    assert [view.log.windows for view in views] == [1, 2, 3]


def test_a_view_over_a_longer_window_keeps_its_findings(crafted: Any, grown: Callable[..., Any]) -> None:
    one, two = views_of(grown(STORM, STORM), crafted)
    whole = two.since(one)
    assert (whole.window.interval_s, whole.overview.interval_s) == (2.0, 2.0)
    assert [finding.rule for finding in whole.overview.findings] == ["mmio-storm"]
    assert whole.overview.vms[0].metrics["exits_per_s"] == 20_000.0


def test_a_view_and_its_samples_are_freed_as_soon_as_nobody_has_them(crafted: Any, grown: Callable[..., Any]) -> None:
    """Of a host with 10,000 VMs a view has 50 MB, and Python may not look for cycles for minutes."""
    gc.collect()
    gc.disable()
    try:
        watch, left = Watch(), []
        for sample in grown(STORM, STORM, STORM, STORM):
            view = watch.add(scene(sample, crafted))
            if view is not None:
                assert list(view.overview.vms[0].vcpus)
                assert [view.apicv, view.report(), *view.overview.findings]
                left.append(weakref.ref(view.evaluator))
        del view
        assert [ref() is None for ref in left] == [True] * len(left)
        assert left
    finally:
        gc.enable()


def test_scenes_that_do_not_follow_one_another_are_refused(crafted: Any, grown: Callable[..., Any]) -> None:
    before, after = grown(STORM)
    watch = Watch()
    watch.add(scene(after, crafted))
    with pytest.raises(UsageError):
        watch.add(scene(before, crafted))


def test_a_host_yields_views_from_a_scene_that_was_taken_already(crafted: Any, grown: Callable[..., Any]) -> None:
    samples = grown(STORM, STORM)

    class Listed:
        name = "test"
        schemas = ()

        def __init__(self) -> None:
            self._samples: Iterator[Sample] = iter(samples)

        def read(self) -> Sample:
            return next(self._samples)

        def close(self) -> None:
            pass

    with Host(Listed(), {}) as host:
        views = list(itertools.islice(host.watch(0.001, first=host.look()), 2))
    assert [finding.rule for finding in views[-1].findings] == ["mmio-storm"]
    assert to_object(views[-1].overview)["format"] == "kvmscope/1"
    assert [vm.id for vm in views[-1].apicv.vms] == [vm.id for vm in views[-1].overview.vms]
    assert [vm.id for vm in views[-1].verdicts.vms] == [vm.id for vm in views[-1].overview.vms]


@pytest.mark.slow
def test_the_example_runs() -> None:
    with SimulatedHost(vms=3, vcpus=1, seed=1):
        done = subprocess.run([sys.executable, EXAMPLE, "2"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
