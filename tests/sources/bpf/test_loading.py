"""What is loaded before the iterator: it must not wait for numpy. That it loads is tested in tests/live/test_bpf.py."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "kvmscope.collect.opening",
        "kvmscope.sources.bpf.loading",
        "kvmscope.sources.bpf.place",
        "kvmscope.cli.session",
    ],
)
def test_what_loads_the_iterator_does_not_need_numpy(module: str) -> None:
    script = f"import sys, {module}; sys.exit('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == 0
