"""The example in examples/ runs, and what it publishes can be read."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

from kvmscope.schema import Scope
from kvmscope.sources.published import PublishedSource

EXAMPLE = Path(__file__).parents[2] / "examples" / "publish_vmm.py"


def test_the_example_publishes_a_vm_whose_stats_move() -> None:
    with (
        subprocess.Popen([sys.executable, EXAMPLE, "--for", "60"]) as process,
        PublishedSource(simulated=False, walk_share=math.inf) as source,
    ):
        deadline = time.monotonic() + 20
        try:
            while True:
                sample = source.read()
                block = sample.block("examplevmm", Scope.VCPU)
                if block is not None and block.column("userspace_exits").all() and len(block.rows) == 2:
                    break
                assert time.monotonic() < deadline, "the example publishes nothing that moves"
        finally:
            process.kill()
    assert "example-1" in sample.vms.label
    assert block.column("handling_hist").sum(axis=1).all()
