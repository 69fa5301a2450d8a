"""A simulated fleet: what is planted in it is what numpy finds in its recording, and it is the same each time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

from kvmscope.analysis.apicv import State
from kvmscope.analysis.window import Window
from kvmscope.catalog.findings import load_findings
from kvmscope.errors import UsageError
from kvmscope.lab.fleet import ANSWERS, write_fleet
from kvmscope.lab.fleet_plan import FleetSize
from kvmscope.scene import Scene
from kvmscope.store.recording import Recording
from kvmscope.view.judging import Examiner, judge_scene

ALL_KINDS = FleetSize(hosts=36, vms=10, vcpus=2, samples=4)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fleet") / "recording"
    write_fleet(directory, ALL_KINDS)
    return directory


def planted(directory: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((directory / ANSWERS).read_text())["planted"]
    return found


def due(directory: Path) -> set[tuple[str, str, str]]:
    return {(each["host"], each["vm"], each["rule"]) for each in planted(directory) if each["rule"]}


def found_by_numpy(directory: Path) -> set[tuple[str, str, str]]:
    """Host, VM and rule of every finding, by what judges a live host."""
    return {
        (scene.origin.host, str(finding.vm), finding.rule.slug)
        for scene, window, examiner in windows(directory)
        for finding in examiner.update(scene, window).findings
        if scene.origin is not None
    }


def windows(directory: Path) -> Iterator[tuple[Scene, Window, Examiner]]:
    last: Scene | None = None
    examiner = Examiner()
    for scene in Recording(str(directory)).scenes():
        if last is not None and last.origin == scene.origin:
            yield scene, Window(last.sample, scene.sample), examiner
        else:
            examiner = Examiner()
        last = scene


def _last_scenes(directory: Path) -> list[Scene]:
    series = Recording(str(directory))
    last = {moment.host: moment for moment in series.moments()}
    return [series.scene(moment) for moment in last.values()]


def test_every_planted_trouble_is_found_and_nothing_else(fleet: Path) -> None:
    assert found_by_numpy(fleet) == due(fleet)


def test_every_rule_of_the_catalogue_is_planted(fleet: Path) -> None:
    assert {rule for _, _, rule in due(fleet)} == {rule.slug for rule in load_findings()}


@pytest.mark.parametrize("vcpus", [1, 24])
def test_the_number_of_vcpus_makes_no_rule_fire(tmp_path: Path, vcpus: int) -> None:
    write_fleet(tmp_path, FleetSize(hosts=12, vms=6, vcpus=vcpus, samples=4, interval_s=2.0, seed=3))
    assert found_by_numpy(tmp_path) == due(tmp_path)


def test_the_verdict_names_each_planted_inhibit_and_no_other(fleet: Path) -> None:
    inhibits = {(each["host"], each["vm"]): each["inhibit"] for each in planted(fleet) if each["inhibit"]}
    found = {}
    for scene in _last_scenes(fleet):
        origin = scene.sample.origin
        for vm in judge_scene(scene).vms:
            if origin is not None and vm.state is State.INHIBITED and vm.reasons[0].name != "disabled":
                found[origin.host, str(vm.id)] = vm.reasons[0].name
    assert found == inhibits
    assert set(inhibits.values()) >= {"pit_reinj", "hyperv", "sev", "apic_id_modified", "nested"}


def test_the_same_seed_writes_the_same_bytes_and_another_seed_another_fleet(tmp_path: Path) -> None:
    written = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_fleet(tmp_path / name, FleetSize(2, 2, 2, 4, 10.0, seed))
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        written.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert written[0].keys() != written[2].keys()
    assert len([path for path in written[0] if path.startswith("scenes/")]) == 2


def test_a_directory_with_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write_fleet(tmp_path, FleetSize(hosts=1))
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
