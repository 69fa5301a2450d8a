"""A stat that a host's kernel does not count is unknown in every face, and each says why or has the gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from crafted import MACHINE, ListSource, VcpuSpec, VmSpec, make_sample
from loads import record

import kvmscope
from kvmscope.analysis.totals import VmTotals
from kvmscope.collect import Host
from kvmscope.export.exposition import ExportOptions, Reading, expose
from kvmscope.export.stats import Detail
from kvmscope.export.subjects import Subjects
from kvmscope.export.text import TextFormat, write_text
from kvmscope.linux.facts import Fact, KernelModule
from kvmscope.sample import Gap, Sample
from kvmscope.scene import Scene
from kvmscope.view.jsonout import to_value
from kvmscope.view.reading import reading_lines, reading_view, stat_query, unknown_lines
from kvmscope.view.watch import HostView, Watch

PVM = replace(MACHINE, kvm_vendor=Fact(KernelModule("kvm_pvm", False, {})))
REASON = "KVM does not count io_exits on this host (caveat pvm-io-exits)"


def sample(second: int) -> Sample:
    stats = {"exits": 1000 * second, "mmio_exits": 10 * second, "fpu_reload": 500 * second}
    return make_sample([VmSpec("web", [VcpuSpec(0, stats), VcpuSpec(1, stats)])], at_s=second)


@pytest.fixture
def scenes() -> list[Scene]:
    with Host(ListSource([sample(1), sample(2)]), {}, machine=PVM) as host:
        return [host.look(), host.look()]


def view_of(scenes: Sequence[Scene]) -> HostView:
    watch = Watch()
    found = [watch.add(scene) for scene in scenes][-1]
    assert found is not None
    return found


def test_a_look_has_the_gap(scenes: list[Scene]) -> None:
    assert Gap(REASON, provider="kvm", stat="io_exits") in scenes[0].sample.gaps


def test_a_raw_read_by_name_says_why_there_is_no_value(scenes: list[Scene]) -> None:
    query = stat_query(scenes[1], "web/0", ("io_exits", "mmio_exits"))
    assert [line.split()[-2:] for line in reading_lines(scenes[1], query)] == [["mmio_exits", "20"]]
    assert unknown_lines(scenes[1], query) == [f"missing data: {REASON}"]
    answer: Any = to_value(reading_view(scenes[1], query))
    assert answer["vms"][0]["vcpus"][0]["stats"] == {"mmio_exits": 20}
    assert REASON in [gap["reason"] for gap in answer["gaps"]]


def test_the_only_stat_that_is_asked_for_may_be_unknown(scenes: list[Scene]) -> None:
    query = stat_query(scenes[1], "io_exits", ())
    assert reading_lines(scenes[1], query) == []
    assert unknown_lines(scenes[1], query) == [f"missing data: {REASON}"]
    assert unknown_lines(scenes[1], stat_query(scenes[1], "web", ("mmio_exits",))) == []


def test_json_has_null_for_its_metrics_of_the_host_of_vms_and_of_vcpus(scenes: list[Scene]) -> None:
    overview: Any = to_value(view_of(scenes).overview)
    rows = [overview["total"], overview["vms"][0], *overview["vms"][0]["vcpus"]]
    for name in ("io_exits_per_s", "port_exits_per_s", "exits_io_share"):
        assert [row["metrics"][name] for row in rows] == [None] * 4, name
    assert [row["metrics"]["mmio_exits_per_s"] for row in rows] == [20, 20, 10, 10]


@pytest.mark.parametrize("detail", Detail)
def test_monitoring_gets_no_series_of_it(scenes: list[Scene], detail: Detail) -> None:
    totals = VmTotals()
    sums = [totals.update(scene.sample) for scene in scenes][-1]
    reading = Reading(scenes[1], Subjects(scenes[1]), sums, view_of(scenes))
    text = b"".join(write_text(expose(reading, ExportOptions(detail)), TextFormat.PROMETHEUS)).decode()
    names = {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    assert not [name for name in names if "io_exits" in name and "mmio_exits" not in name]
    assert "kvm_vm_mmio_exits_total" in names
    assert REASON in text


def test_a_recording_gives_the_same(scenes: list[Scene], tmp_path: Path) -> None:
    with kvmscope.open_recording(record(scenes, tmp_path / "recording")) as recorded:
        replayed = [recorded.look(), recorded.look()]
    assert to_value(view_of(replayed).overview) == to_value(view_of(scenes).overview)
