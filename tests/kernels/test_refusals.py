"""Lockdown, which only ever tightens and so is tried on a kernel that can be thrown away."""

from __future__ import annotations

import json
from pathlib import Path

from kvmscope.lab import kernels

SCRIPT = Path(__file__).parent / "inside" / "refusals.py"


def test_lockdown_for_integrity_is_no_hindrance_and_for_confidentiality_is_named(any_kernel: str) -> None:
    result = kernels.run(any_kernel, ["python3", "/refusals.py"], put={"/refusals.py": SCRIPT}, timeout_s=200)
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["none"] == ["works"]
    assert answer["integrity"] == ["works"]
    kind, reason, remedy = answer["confidentiality"]
    assert kind == "Unavailable"
    assert "locked down for confidentiality" in reason
    assert "statsfd" in remedy
