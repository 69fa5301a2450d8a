"""The id of this boot, as its users need it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmscope.linux.boot import boot_key, read_boot_id

Write = Callable[[str, str], None]
BOOT_ID = "proc/sys/kernel/random/boot_id"


def test_this_boot_has_the_id_that_the_kernel_gives() -> None:
    there = uuid.UUID(Path("/", BOOT_ID).read_text().strip())
    assert read_boot_id() == there.hex
    assert boot_key() == there.bytes


@pytest.mark.parametrize("text", ["", "none\n", "0" * 31, "g" * 32, "0" * 33, "é" * 32])
def test_what_is_no_id_is_no_boot(write: Write, tmp_path: Path, text: str) -> None:
    write(BOOT_ID, text)
    assert read_boot_id(str(tmp_path / "proc")) == ""


def test_a_kernel_that_gives_none_has_none(tmp_path: Path) -> None:
    assert read_boot_id(str(tmp_path)) == ""
