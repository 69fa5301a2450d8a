"""The examples in examples/ run, and what they publish can be read: by kvmscope, and by who is handed the files."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kvmscope.sample import Block, Sample
from kvmscope.schema import Scope
from kvmscope.sources.published import PublishedSource

pytestmark = pytest.mark.whole_host

EXAMPLES = Path(__file__).parents[2] / "examples"


@contextmanager
def running(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, *arguments]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def published(is_there: Callable[[Block], bool]) -> tuple[Sample, Block]:
    """A sample in which the two vCPUs of the example have such stats."""
    with PublishedSource(simulated=False, walk_share=math.inf) as source:
        deadline = time.monotonic() + 20
        while True:
            sample = source.read()
            block = sample.block("examplevmm", Scope.VCPU)
            if block is not None and len(block.rows) == 2 and is_there(block):
                return sample, block
            assert time.monotonic() < deadline, "the example publishes nothing that moves"


def command(*arguments: str) -> dict[str, Any]:
    line = [sys.executable, "-m", "kvmscope", *arguments, "--source", "published", "--json"]
    answer: dict[str, Any] = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
    return answer


def test_the_example_publishes_a_vm_whose_stats_move() -> None:
    with running(EXAMPLES / "publish_vmm.py", "--detailed"):
        sample, block = published(lambda block: bool(block.column("userspace_exits").all()))
        assert "example-1" in sample.vms.label
        assert block.column("handling_hist").sum(axis=1).all()


def test_the_example_has_no_histograms_unless_asked_and_its_bits_are_booleans_everywhere() -> None:
    with running(EXAMPLES / "publish_vmm.py"):
        _, block = published(lambda block: bool(block.column("userspace_exits").all()))
        assert set(block.schema.names) == {"userspace_exits", "handling_ns"}
        (vm,) = command("read", "example-1")["vms"]
        stats = {stat["name"]: stat for stat in command("list")["stats"] if stat["provider"] == "examplevmm"}
    assert (type(vm["stats"]["is_stalled"]), vm["stats"]["is_readonly"]) == (bool, False)
    assert (stats["is_readonly"]["unit"], stats["is_readonly"]["bit"]) == ("bit", 1)
    assert "bit" not in stats["queued"]


def test_the_example_hands_its_files_to_the_other_example(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with running(EXAMPLES / "receive_stats.py", path, "60") as receiver:
        deadline = time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < deadline
        with running(EXAMPLES / "publish_vmm.py", "--hand-to", path):
            assert receiver.stdout is not None
            lines = [receiver.stdout.readline().split() for _ in range(7)]
    found = {name: values for name, *values in lines}
    assert set(found) == {
        *("requests", "queued", "most_queued", "is_stalled", "is_readonly"),
        *("userspace_exits", "handling_ns"),
    }
    assert found["is_readonly"] == ["False"]
    assert len(found["handling_ns"]) == 2
