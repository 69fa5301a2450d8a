"""The committed BPF object is what its source builds to, and says under what licence it may be loaded."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BPF = ROOT / "src/kvmscope/sources/bpf"
OBJECT = BPF / "kvmscope.bpf.o"


@pytest.mark.needs("clang")
def test_the_committed_object_is_what_its_source_builds_to() -> None:
    done = subprocess.run([ROOT / "tools/build-bpf.sh", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.needs("clang")
def test_it_builds_to_the_same_anywhere_and_a_changed_byte_fails_the_check(tmp_path: Path) -> None:
    copy = tmp_path / "src/kvmscope/sources/bpf"
    shutil.copytree(BPF, copy)
    script = tmp_path / "tools/build-bpf.sh"
    script.parent.mkdir()
    shutil.copy(ROOT / "tools/build-bpf.sh", script)
    subprocess.run([script, "--check"], check=True)
    data = bytearray((copy / OBJECT.name).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (copy / OBJECT.name).write_bytes(data)
    done = subprocess.run([script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert OBJECT.name in done.stderr


def test_the_object_tells_nothing_of_the_machine_that_built_it() -> None:
    data = OBJECT.read_bytes()
    assert not re.search(rb"/(home|root|work|tmp|usr)/", data)


def test_the_program_may_call_what_only_free_programs_may() -> None:
    assert b"Dual BSD/GPL\0" in OBJECT.read_bytes()


def test_the_package_carries_the_licence_of_its_bpf_program() -> None:
    text = (BPF / "LICENSE").read_text(encoding="utf-8")
    assert "Redistribution and use in source and binary forms" in text
    assert "GNU GENERAL PUBLIC LICENSE" in text.upper()
    for source in (*BPF.glob("*.c"), *BPF.glob("*.h")):
        assert "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause" in source.read_text(encoding="utf-8"), source
