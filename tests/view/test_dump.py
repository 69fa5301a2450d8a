"""Dumped rows are the words of the scenes and the metrics of the intervals between them."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest
from loads import Load, simulated_scenes, without_stats

from kvmscope.errors import UsageError
from kvmscope.schema import Scope
from kvmscope.view.dump import DumpChoice, DumpedScene, DumpReader, metrics_called
from kvmscope.view.dump_text import CsvText, jsonl_lines

if TYPE_CHECKING:
    from kvmscope.scene import Scene

LOAD = Load(vms=2, vcpus=2)


def dumped(scenes: list[Scene], choice: DumpChoice) -> list[DumpedScene]:
    reader = DumpReader(choice)
    return [reader.read(scene, is_first=not number) for number, scene in enumerate(scenes)]


def test_a_row_of_a_vcpu_has_its_words() -> None:
    scenes = simulated_scenes(2, load=LOAD)
    rows = list(dumped(scenes, DumpChoice(("exits", "halt_wait_hist")))[1].rows())
    assert [(row.name, row.vcpu) for row in rows] == [("vm-0", 0), ("vm-0", 1), ("vm-1", 0), ("vm-1", 1)]
    block = scenes[1].sample.block("kvm", Scope.VCPU)
    assert block is not None
    assert [row.stats["exits"] for row in rows] == block.column("exits").tolist()
    assert rows[2].stats["halt_wait_hist"] == block.column("halt_wait_hist")[2].tolist()
    assert set(rows[0].stats) == {"exits", "halt_wait_hist"}


def test_a_row_of_a_vm_has_its_own_stats_and_the_sums_of_its_vcpus() -> None:
    scenes = simulated_scenes(1, load=LOAD)
    [vm, _] = dumped(scenes, DumpChoice(("exits", "remote_tlb_flush", "blocking"), level=Scope.VM))[0].rows()
    of_vcpus, of_vms = scenes[0].sample.block("kvm", Scope.VCPU), scenes[0].sample.block("kvm", Scope.VM)
    assert of_vcpus is not None
    assert of_vms is not None
    assert vm.vcpu is None
    assert vm.stats == {
        "exits": sum(of_vcpus.column("exits")[:2].tolist()),
        "remote_tlb_flush": of_vms.column("remote_tlb_flush")[0],
    }


def test_metrics_are_of_the_interval_before_and_unknown_at_the_first_scene() -> None:
    scenes = simulated_scenes(3, load=LOAD)
    choice = DumpChoice(metrics=metrics_called(["exits_per_s"]))
    first, second, _ = dumped(scenes, choice)
    assert [row.metrics for row in first.rows()] == [{"exits_per_s": None}] * 4
    before, now = (scene.sample.block("kvm", Scope.VCPU) for scene in scenes[:2])
    assert before is not None
    assert now is not None
    moved = (now.column("exits") - before.column("exits")).tolist()
    assert [row.metrics["exits_per_s"] for row in second.rows()] == moved
    assert all(row.stats == {} for row in second.rows())  # metrics alone were asked for


def test_one_vm_is_followed_by_its_id() -> None:
    scenes = simulated_scenes(1, load=LOAD) + simulated_scenes(1, begin_s=1, load=Load(vms=2, names=("x", "vm-0")))
    found = dumped(scenes, DumpChoice(("exits",), vm="vm-0", level=Scope.VM))
    assert [[(str(row.id), row.name) for row in scene.rows()] for scene in found] == [
        [("0000000000000001", "vm-0")],
        [("0000000000000001", "x")],
    ]
    with pytest.raises(UsageError, match="there is no VM"):
        dumped(scenes, DumpChoice(vm="nobody"))


def test_a_metric_that_does_not_exist_is_refused() -> None:
    assert next(metric.name for metric in metrics_called(["halt_poll_*"])) == "halt_poll_cpus"
    with pytest.raises(UsageError, match="there is no metric 'speed'"):
        metrics_called(["speed"])


def test_csv_has_a_cell_a_word_and_nothing_where_it_is_unknown() -> None:
    scenes = simulated_scenes(1, load=Load(vms=1, vcpus=1, names=('a "b",\nc',)))
    [scene] = dumped(scenes, DumpChoice(("exits", "halt_wait_hist"), metrics_called(["exits_per_s"])))
    [row] = csv.DictReader(io.StringIO("\n".join(CsvText(["exits_per_s"]).lines([scene]))))
    assert row["name"] == 'a "b", c'
    assert (row["exits_per_s"], row["uuid"]) == ("", "")
    [dumped_row] = scene.rows()
    assert int(row["exits"]) == dumped_row.stats["exits"]
    assert [int(row[f"halt_wait_hist.{place}"]) for place in range(32)] == dumped_row.stats["halt_wait_hist"]


def test_a_stat_that_a_later_scene_lacks_is_an_empty_cell_and_one_that_it_adds_is_named() -> None:
    whole = simulated_scenes(2, load=LOAD)
    lacking = without_stats(whole[1], "exits")
    choice = DumpChoice(("exits", "io_exits"))
    full, less = dumped([whole[0], lacking], choice)
    text = CsvText([])
    rows = list(csv.DictReader(io.StringIO("\n".join(text.lines([full, less])))))
    assert [bool(row["exits"]) for row in rows] == [True] * 4 + [False] * 4
    assert not text.missing
    other = CsvText([])
    list(other.lines([less, full]))
    assert list(other.missing) == ["exits"]


def test_json_lines_are_rows() -> None:
    [scene] = dumped(simulated_scenes(1, load=LOAD), DumpChoice(("exits",)))
    lines = list(jsonl_lines([scene]))
    assert len(lines) == 4
    assert lines[0].startswith('{"time": "2023-11-14T22:13:20.000Z", "host": "host-7", "id": "0000000000000001"')
