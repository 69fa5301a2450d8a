"""OpenMetrics with time stamps: read by parsers that are not ours, and by promtool into blocks of Prometheus."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from loads import NOON_NS, Load, simulated_scenes

from kvmscope.export.backfill import TimedText
from kvmscope.schema import Scope
from kvmscope.view.dump import DumpChoice, DumpReader, metrics_called

LOAD = Load(vms=2, vcpus=2, names=('<b>"\\', "db"))


def dumped_text(choice: DumpChoice, *, count: int = 5, in_memory_bytes: int = 1 << 20, **labels: str) -> str:
    reader = DumpReader(choice)
    scenes = enumerate(simulated_scenes(count, step_s=15, load=LOAD))
    with TimedText(labels, in_memory_bytes=in_memory_bytes) as text:
        return "".join(text.text_of(reader.read(scene, is_first=not number) for number, scene in scenes))


def families(text: str) -> dict[str, Any]:
    parser = pytest.importorskip("prometheus_client.openmetrics.parser", reason="prometheus-client is not installed")
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def test_another_parser_reads_every_point_at_its_time() -> None:
    found = families(dumped_text(DumpChoice(("exits",))))
    points = [sample for sample in found["kvm_vcpu_exits"].samples if sample.labels["vcpu"] == "1"]
    assert len(points) == 10
    begin = NOON_NS / 1e9
    assert [float(sample.timestamp) for sample in points[:5]] == [begin + 15 * number for number in range(5)]
    scenes = simulated_scenes(5, step_s=15, load=LOAD)
    block = scenes[4].sample.block("kvm", Scope.VCPU)
    assert block is not None
    assert points[4].value == block.column("exits")[1]


def test_histograms_have_the_exact_bounds_of_their_buckets() -> None:
    """At one time: prometheus_client drops buckets of the second point of a histogram as duplicates."""
    samples = families(dumped_text(DumpChoice(("halt_wait_hist",)), count=1))["kvm_vcpu_halt_wait_hist_seconds"].samples
    bounds = [sample.labels["le"] for sample in samples if sample.name.endswith("_bucket")]
    assert bounds[:5] == ["0.0", "1e-09", "3e-09", "7e-09", "1.5e-08"]
    assert bounds[30:32] == ["1.073741823", "+Inf"]


@pytest.mark.parametrize("in_memory_bytes", [0, 1 << 30])
def test_lines_that_do_not_fit_in_memory_are_the_same(in_memory_bytes: int) -> None:
    choice = DumpChoice(("exits", "io_exits"), metrics_called(["exits_per_s"]))
    assert dumped_text(choice, in_memory_bytes=in_memory_bytes) == dumped_text(choice)


def test_counts_of_a_vm_have_another_name_than_those_of_its_vcpus() -> None:
    found = families(dumped_text(DumpChoice(("exits", "remote_tlb_flush"), level=Scope.VM)))
    assert {"kvm_vm_exits", "kvm_vm_remote_tlb_flush", "kvm_vm_info"} <= found.keys()
    assert not [name for name in found if name.startswith("kvm_vcpu")]


def test_metrics_are_gauges_without_a_point_where_there_is_no_interval() -> None:
    found = families(dumped_text(DumpChoice(metrics=metrics_called(["exits_per_s"]))))
    family = found["kvm_vcpu_metric_exits_per_second"]
    assert (family.type, len(family.samples)) == ("gauge", 4 * 4)


def test_every_series_has_the_labels_that_were_asked_for() -> None:
    found = families(dumped_text(DumpChoice(("exits",)), instance="node-1", job="kvm"))
    for family in found.values():
        for sample in family.samples:
            assert (sample.labels["instance"], sample.labels["job"]) == ("node-1", "kvm")


def test_promtool_makes_blocks_of_it(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: Debian's package prometheus")
    place = tmp_path / "dump.txt"
    place.write_text(dumped_text(DumpChoice(), count=20, instance="node-1"), encoding="utf-8")
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(place), str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    blocks = [path for path in (tmp_path / "data").iterdir() if (path / "meta.json").is_file()]
    assert blocks
    listed = subprocess.run(
        [promtool, "tsdb", "analyze", str(tmp_path / "data")], capture_output=True, text=True, check=False
    )
    assert "kvm_vcpu_halt_wait_hist_seconds_bucket" in listed.stdout, listed.stderr
