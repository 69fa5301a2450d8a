"""The capabilities of this process, against those that setpriv gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kvmscope.linux.capabilities import Capability, effective_capabilities

SHOW = "from kvmscope.linux.capabilities import *; print(sorted(c.name for c in effective_capabilities()))"


@pytest.mark.needs("root", "setpriv")
def test_what_setpriv_gives_is_what_is_in_effect() -> None:
    given = ["--inh-caps=+bpf,+perfmon", "--ambient-caps=+bpf,+perfmon"]
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *given, "--", sys.executable, "-c", SHOW]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"an unprivileged user may not run {sys.executable}: {done.stderr[-200:]}")
    assert done.stdout.strip() == "['BPF', 'PERFMON']"


def test_none_are_known_where_the_kernel_does_not_say(tmp_path: Path) -> None:
    assert effective_capabilities(proc_root=str(tmp_path)) == frozenset()
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text("Name:\tx\nCapEff:\t0000000000200000\n")
    assert effective_capabilities(proc_root=str(tmp_path)) == {Capability.SYS_ADMIN}
