"""Who can read what was attached, by the mode and the group of the pinned files."""

from __future__ import annotations

import grp

import pytest

from kvmscope.view.attached import attached_lines

OPS = grp.struct_group(("ops", "x", 1000, ["ann", "bob"]))
EMPTY = grp.struct_group(("ops", "x", 1000, []))
ROOT = grp.struct_group(("root", "x", 0, []))


@pytest.mark.parametrize(
    ("group", "mode", "readers"),
    [
        (OPS, 0o440, "root and group ops (ann, bob)"),
        (EMPTY, 0o440, "root and group ops (no user so far; usermod -aG ops USER adds one)"),
        (OPS, 0o400, "root alone"),
        (ROOT, 0o440, "root alone"),
        (OPS, 0o444, "every user"),
    ],
)
def test_readers_are_those_whom_the_mode_lets_read(group: grp.struct_group, mode: int, readers: str) -> None:
    lines = attached_lines("/run/x", group, mode, groups=("exits",), memory_bytes=1 << 20, is_new=True)
    assert lines == [
        "state     attached",
        "where     /run/x",
        f"readers   {readers}",
        "counting  exits",
        "memory    1 MiB of the kernel, until `kvmscope detach`",
    ]


def test_attaching_again_is_reported_as_a_change_of_access() -> None:
    first, *_ = attached_lines("/run/x", OPS, 0o440, groups=(), memory_bytes=0, is_new=False)
    assert first == "state    already attached; access updated"
