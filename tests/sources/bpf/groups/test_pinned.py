"""What stands beside a pinned group; for live pins see live/test_groups.py."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmscope.errors import FormatError, Unavailable, UsageError
from kvmscope.schema import Scope
from kvmscope.sources.bpf.groups import exits, pinned
from kvmscope.sources.bpf.groups.base import GroupShape
from kvmscope.sources.bpf.groups.pinned import GroupMeta
from kvmscope.sources.bpf.pins import META_SIZE

LARGEST = exits.schema_of(tuple(f"reason_of_number_{i}" for i in range(120)))
SMALL = exits.schema_of(("hlt",))
META = GroupMeta(GroupShape("exits", SMALL, 300, "silent", (("a", "b"),)), "f" * 64, 7)


def test_a_description_comes_back_as_it_was_written() -> None:
    assert GroupMeta.parse(META.encode().ljust(META_SIZE, b"\0")) == META
    of_vm = replace(META, shape=GroupShape("exits", replace(SMALL, scope=Scope.VM), 1))
    assert GroupMeta.parse(of_vm.encode()) == of_vm


def test_the_largest_group_has_room() -> None:
    assert len(replace(META, shape=GroupShape("exits", LARGEST, 300)).encode()) < META_SIZE * 3 // 4


@pytest.mark.parametrize("key", sorted(json.loads(META.encode())))
@pytest.mark.parametrize("value", [None, [], {}, -1, 1 << 40, "x", [["a"]]])
def test_a_part_that_is_wrong_or_missing_is_a_format_error_or_another_description(key: str, value: object) -> None:
    text = json.loads(META.encode())
    with suppress(FormatError):
        assert GroupMeta.parse(json.dumps({**text, key: value}).encode()) != META or text[key] == value
    del text[key]
    with pytest.raises(FormatError):
        GroupMeta.parse(json.dumps(text).encode())


@settings(deadline=None)
@given(st.integers(0, len(META.encode()) - 1), st.integers(0, 255))
def test_with_any_byte_changed_it_is_a_description_or_a_format_error(place: int, byte: int) -> None:
    data = bytearray(META.encode())
    data[place] = byte
    with suppress(FormatError):
        GroupMeta.parse(bytes(data))


def test_a_group_that_is_not_pinned_is_told_with_what_root_can_do(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        pinned.PinnedGroup(tmp_path, "exits")
    assert caught.value.reason == "group exits is not pinned"
    assert caught.value.remedy == "as root: kvmscope attach --count exits"
    assert pinned.pinned_names(tmp_path) == ()


def test_only_what_is_a_group_can_be_pinned() -> None:
    with pytest.raises(UsageError, match="no group 'apicv' to pin; there are exits"):
        pinned.plans_of(("apicv",))
