"""/proc/cpuinfo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kvmscope.linux.cpu import read_cpu

Write = Callable[[str, str], None]


def test_vmx_flags_count_as_flags(tmp_path: Path, write: Write) -> None:
    write("proc/cpuinfo", "flags\t\t: fpu vmx\nvmx flags\t: vnmi apicv posted_intr\n")
    found = read_cpu(proc_root=str(tmp_path / "proc")).value
    assert found is not None
    assert found.flags == {"fpu", "vmx", "vnmi", "apicv", "posted_intr"}


def test_the_family_is_a_number_or_unknown(tmp_path: Path, write: Write) -> None:
    for text, family in (("23", 23), ("", None), ("x", None), ("9" * 30, None)):
        write("proc/cpuinfo", f"vendor_id\t: AuthenticAMD\ncpu family\t: {text}\n")
        found = read_cpu(proc_root=str(tmp_path / "proc")).value
        assert found is not None
        assert found.family == family
