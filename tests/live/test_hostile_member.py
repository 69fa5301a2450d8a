"""A member of the group who makes and destroys VMs gets out of the mapped arrays what VMs have, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.needs("kvm", "bpf", "root")]

REPOSITORY = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("KVMSCOPE_ATTACKS", "1000"))
"""How often the member tries; 1,000 take 40 s."""


def test_a_member_who_churns_vms_finds_nothing_of_freed_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.inside.hostile", str(ROUNDS)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["uid"], answer["capabilities"]) == (65534, 0)
    assert answer["runs"]["with VMs"] > ROUNDS // 10
    assert answer["found"] == {}
