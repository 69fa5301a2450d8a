"""What the kernel says of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvmscope.linux.facts import Fact
from kvmscope.linux.kernel import read_lockdown

Write = Callable[[str, str], None]


@pytest.mark.parametrize("level", ["none", "integrity", "confidentiality"])
def test_lockdown_is_the_level_in_brackets(level: str, tmp_path: Path, write: Write) -> None:
    text = " ".join(f"[{word}]" if word == level else word for word in ("none", "integrity", "confidentiality"))
    write("sys/kernel/security/lockdown", f"{text}\n")
    assert read_lockdown(sys_root=str(tmp_path / "sys")) == Fact(level)


def test_without_securityfs_lockdown_is_unknown(tmp_path: Path, write: Write) -> None:
    found = read_lockdown(sys_root=str(tmp_path / "sys"))
    assert found.value is None
    assert "securityfs not mounted" in (found.reason or "")
    write("sys/kernel/security/lockdown", "none integrity confidentiality\n")
    assert read_lockdown(sys_root=str(tmp_path / "sys")).value is None
