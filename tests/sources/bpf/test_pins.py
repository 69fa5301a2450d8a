"""What stands beside a pinned iterator, and what is said where there is none; for live pins see live/test_attach.py.

Directories here are ordinary ones: what differs about a BPF file system is not what these tests are about.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmscope.codec.snapshot import VERSION
from kvmscope.errors import FormatError, SourceError, Unavailable
from kvmscope.sources.bpf.layout import Layout
from kvmscope.sources.bpf.pins import META_SIZE, Meta, kvm_inode, open_pinned, remove, set_access
from kvmscope.sources.bpf.place import directory_in
from kvmscope.sources.kvm_schema import KvmSchemas

CAPTURED = Path(__file__).parent.parent.parent / "data" / "statsfile"
SCHEMAS = KvmSchemas.from_files(*((CAPTURED / f"x86-6.18-{scope}.bin").read_bytes() for scope in ("vm", "vcpu")))
LAYOUT = Layout(SCHEMAS.vm.data_size, SCHEMAS.vcpu.data_size, vm_room=3, vcpu_room=5, slots=2)
META = Meta(LAYOUT, SCHEMAS, {0: "disabled", 8: "pit_reinj"}, kvm_inode(), "6.18.0", "0" * 64)


def as_read(meta: Meta) -> bytes:
    """As a reader finds it: the whole array, zeros behind the text."""
    return meta.encode().ljust(META_SIZE, b"\0")


def test_a_description_comes_back_as_it_was_written() -> None:
    assert Meta.parse(as_read(META)) == META


def test_the_description_of_a_real_kernel_has_room_to_grow() -> None:
    assert len(META.encode()) < META_SIZE // 3


def change(text: dict[str, Any], where: str, value: object) -> bytes:
    *path, last = where.split("/")
    inner = text
    for key in path:
        inner = inner[key]
    inner[last] = value
    return json.dumps(text).encode()


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("format", "kvmscope-pins/0"),
        ("format", None),
        ("layout", []),
        ("layout", None),
        ("layout/slots", "2"),
        ("layout/vm_room", -1),
        ("layout/vcpu_room", 1 << 40),
        ("layout/vm_stat_size", 1.5),
        ("layout/unheard_of", 1),
        ("schemas", []),
        ("schemas", ["", ""]),
        ("schemas", ["AAAA", "AAAA"]),
        ("schemas", [1, 2]),
        ("schemas", "ab"),
        ("inhibits", []),
        ("inhibits", {"x": "name"}),
        ("kvm_inode", "x"),
        ("kvm_inode", None),
    ],
)
def test_a_description_with_one_wrong_part_is_a_format_error(where: str, value: object) -> None:
    with pytest.raises(FormatError):
        Meta.parse(change(json.loads(META.encode()), where, value))


@pytest.mark.parametrize("key", sorted(json.loads(META.encode())))
def test_a_description_that_lacks_a_part_is_a_format_error(key: str) -> None:
    text = json.loads(META.encode())
    del text[key]
    with pytest.raises(FormatError):
        Meta.parse(json.dumps(text).encode())


def test_every_truncation_is_a_format_error() -> None:
    whole = META.encode()
    for size in range(0, len(whole), 97):
        with pytest.raises(FormatError):
            Meta.parse(whole[:size].ljust(META_SIZE, b"\0"))


@pytest.mark.parametrize("data", [b"[" * META_SIZE, b'{"a":' * 9000, b"1" * META_SIZE, b"\x80", b"Infinity"])
def test_text_that_wears_a_parser_out_is_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        Meta.parse(data)


@settings(deadline=None)
@given(st.integers(0, len(META.encode()) - 1), st.integers(0, 255))
def test_with_any_byte_changed_it_is_a_description_or_a_format_error(place: int, byte: int) -> None:
    data = bytearray(as_read(META))
    data[place] = byte
    with suppress(FormatError):
        Meta.parse(bytes(data))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(json.loads(META.encode()))), JSON)
def test_with_anything_in_the_place_of_a_part_it_is_a_description_or_a_format_error(key: str, value: object) -> None:
    text = {**json.loads(META.encode()), key: value}
    with suppress(FormatError):
        Meta.parse(json.dumps(text).encode())


def test_another_loading_of_kvm_is_told() -> None:
    META.check_kvm()
    with pytest.raises(Unavailable, match="reloaded") as caught:
        replace(META, kvm_inode=META.kvm_inode + 1).check_kvm()
    assert "kvmscope attach" in caught.value.remedy


# -- what is said where there is nothing to read ---------------------------------------------------------------------


def test_where_there_is_no_directory_nothing_is_attached(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nothing is attached") as caught:
        open_pinned(tmp_path / "absent")
    assert caught.value.path == str(directory_in(tmp_path / "absent"))


def test_the_versions_that_are_attached_are_named(tmp_path: Path) -> None:
    for version in ("v998", "v999"):
        (tmp_path / version).mkdir()
    with pytest.raises(Unavailable, match=r"another version \(v998, v999\)"):
        open_pinned(tmp_path)


def test_a_file_in_the_place_of_the_directory_is_unavailable(tmp_path: Path) -> None:
    directory_in(tmp_path).write_text("not a directory")
    with pytest.raises(Unavailable, match="Not a directory"):
        open_pinned(tmp_path)


def test_ordinary_files_in_the_place_of_the_arrays_are_refused_and_nothing_stays_open(tmp_path: Path) -> None:
    directory = directory_in(tmp_path)
    directory.mkdir()
    for name in ("control", "vms", "vcpus", "meta", "read"):
        (directory / name).touch()
    opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(SourceError) as caught:
        open_pinned(tmp_path)
    assert str(directory) in caught.value.reason
    assert len(os.listdir("/proc/self/fd")) == opened  # noqa: PTH208


def test_there_is_nothing_to_remove_where_nothing_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    assert remove(tmp_path) is False
    assert (tmp_path / "precious").exists()


# -- who may read ----------------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "pins"
    made.mkdir(mode=0o700)
    for name in ("control", "vms", "vcpus", "meta", "read"):
        (made / name).touch(mode=0o600)
    return made


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    ("mode", "of_directory", "of_iterator", "of_arrays"),
    [
        (0o440, 0o750, 0o440, 0o660),
        (0o444, 0o755, 0o444, 0o666),
        (0o400, 0o700, 0o400, 0o600),
        (0o000, 0o700, 0o000, 0o000),
    ],
)
def test_who_may_read_may_enter_and_map(
    directory: Path, mode: int, of_directory: int, of_iterator: int, of_arrays: int
) -> None:
    set_access(directory, gid=4242, mode=mode)

    def mode_of(path: Path) -> int:
        return path.stat().st_mode & 0o7777

    assert mode_of(directory) == of_directory
    assert mode_of(directory / "read") == of_iterator
    assert {mode_of(directory / name) for name in ("control", "vms", "vcpus", "meta")} == {of_arrays}
    assert {path.stat().st_gid for path in (directory, *directory.iterdir())} == {4242}


def test_a_version_of_the_format_has_a_directory_of_its_own(tmp_path: Path) -> None:
    assert directory_in(tmp_path) == tmp_path / f"v{VERSION}"
