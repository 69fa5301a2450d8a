"""An episode of real lock contention: the group is on from the second window on, and the file alone shows the cause."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.lab.workloads import Engine, find_engine
from kvmscope.store.recording import Recording

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "root"), pytest.mark.usefixtures("favoured")]

KVMSCOPE = [sys.executable, "-m", "kvmscope"]
CONTENDED = LabSpec(workload="logged", vcpus=2)
RECORD = ("--for", "16s", "--after", "2s", "--longest-episode", "10s", "--source", "bpf", "--count-during", "mmu_lock")
SECOND_NS = 10**9


def run(*arguments: str) -> str:
    done = subprocess.run([*KVMSCOPE, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_contention_is_caught_with_the_group_on_and_the_episode_alone_shows_it(tmp_path: Path) -> None:
    if find_engine() is not Engine.PVM:
        pytest.skip("what shows here without a group, emulated page faults, is of shadow paging")
    with process.start(CONTENDED) as guest:
        guest.go()
        run("record", str(tmp_path / "recording"), *RECORD)
    answer = json.loads(run("episodes", str(tmp_path / "recording"), "--json"))
    assert answer["episodes"], "no finding began an episode"
    place = answer["episodes"][0]["place"]
    scenes = list(Recording(place).scenes())
    has_group = [any(block.schema.provider == "mmu_lock" for block in scene.sample.blocks) for scene in scenes]
    began_ns = _began_ns(place)
    after = [index for index, scene in enumerate(scenes) if scene.sample.taken_ns >= began_ns]
    on_ns = min((scenes[index].sample.taken_ns for index in after if has_group[index]), default=None)
    assert on_ns is not None, answer["episodes"][0]["groups"]
    if on_ns - began_ns > SECOND_NS:
        pytest.skip(f"the machine is too busy: the group was on {(on_ns - began_ns) / 1e9:.1f} s after the finding")
    windows = [a and b for a, b in pairwise(has_group[after[0] :])]
    assert False not in windows[windows.index(True) :], "the group was off in between"
    assert windows.index(True) <= 2
    rules = {finding["rule"]: finding for finding in answer["episodes"][0]["findings"]}
    told = run("doctor", "--from", place)
    if "mmu-lock-contended" not in rules:
        pytest.skip(f"the vCPUs hardly met: {_waited(scenes)}")
    assert "mmu-lock-contended" in told
    assert rules["mmu-lock-contended"]["evidence"]["mmu_lock_wait_cpus"] >= 0.1


def _began_ns(place: str) -> int:
    note = json.loads((Path(place) / "kvmscope-episode.json").read_text(encoding="utf-8"))
    began_ns: int = note["began_ns"]
    return began_ns


def _waited(scenes: list[Any]) -> str:
    blocks = [block for scene in scenes for block in scene.sample.blocks if block.schema.provider == "mmu_lock"]
    waits = blocks[-1].column("mmu_lock_write_contended").sum() - blocks[0].column("mmu_lock_write_contended").sum()
    return f"{waits} waits for the lock in {len(blocks)} looks"
