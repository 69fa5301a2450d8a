"""Scenes as bytes: what comes back is what went in, and other bytes are told apart."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from any_scene import TEXT, assert_same, scenes
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmscope.errors import FormatError
from kvmscope.host.facts import Machine
from kvmscope.linux.facts import Fact
from kvmscope.sample import NOT_KNOWN, Block, Origin, Sample, Vcpus, Vms
from kvmscope.scene import Scene, VmIdentity, decode, encode
from kvmscope.schema import Descriptor, Kind, Schema, Scope


@settings(max_examples=1000, deadline=None)
@given(scenes())
def test_a_scene_comes_back_as_it_was(scene: Scene) -> None:
    data = encode(scene)
    back = decode(data)
    assert_same(back, scene)
    assert encode(back) == data


@settings(max_examples=200, deadline=None)
@given(scenes(), st.data())
def test_a_truncated_or_changed_scene_is_a_format_error(scene: Scene, data: st.DataObject) -> None:
    whole = encode(scene)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(FormatError):
        decode(whole[:cut])
    changed = bytearray(whole)
    changed[cut] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError):
        decode(bytes(changed))


def resealed(data: bytes, header: Any) -> bytes:
    """The scene with another header, its checksum right."""
    _, version, length = struct.unpack_from("<8sII", data)
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = struct.pack("<8sII", b"KVMSCENE", version, len(text)) + text + data[16 + length : -4]
    return body + struct.pack("<I", zlib.crc32(body))


def header_of(data: bytes) -> Any:
    [length] = struct.unpack_from("<I", data, 12)
    return json.loads(data[16 : 16 + length])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, itself included."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        found += places(each, (*path, key))
    return found


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


@settings(max_examples=500, deadline=None)
@given(scenes(), st.data())
def test_any_other_header_gives_a_scene_or_a_format_error(scene: Scene, data: st.DataObject) -> None:
    whole = encode(scene)
    header = header_of(whole)
    changed = put(header, data.draw(st.sampled_from(places(header))), data.draw(JSON_VALUES))
    try:
        found = decode(resealed(whole, changed))
    except FormatError:
        return
    assert len(found.identities) == len(found.sample.vms)
    for block in found.sample.blocks:
        for stat in block.schema.descriptors:
            assert len(block.column(stat.name)) == len(block.rows)


@pytest.mark.parametrize("header", [b"", b"[", b"[" * 100_000, b"NaN", b"\xff", b"{}"], ids=repr)
def test_a_header_that_is_none_is_a_format_error(crafted_scene: Scene, header: bytes) -> None:
    with pytest.raises(FormatError, match="scene header"):
        decode(resealed(encode(crafted_scene), header))


def test_a_key_that_a_later_version_adds_is_passed_over(crafted_scene: Scene) -> None:
    data = encode(crafted_scene)
    header = header_of(data)
    header["colour"] = "blue"
    header["machine"]["temperature"] = 40
    assert_same(decode(resealed(data, header)), crafted_scene)


def test_a_later_version_is_refused_by_its_number(crafted_scene: Scene) -> None:
    data = bytearray(encode(crafted_scene))
    data[8] = 2
    with pytest.raises(FormatError, match="version"):
        decode(bytes(data))


@pytest.fixture
def crafted_scene() -> Scene:
    schema = Schema("kvm", Scope.VM, (Descriptor("remote_tlb_flush", Kind.CUMULATIVE),), 8)
    machine = Machine(*(Fact.unknown("not asked") for _ in range(7)))
    ids = np.array([7], dtype=np.uint64)
    none = np.zeros(0, dtype=np.int64)
    vms = Vms(ids, np.array([42]), np.array([NOT_KNOWN]), ("web",))
    block = Block(schema, np.array([[5]], dtype=np.uint64), np.array([0]))
    sample = Sample(1, 2, "bpf", False, vms, Vcpus(none, none, none), (block,), origin=Origin("h", "b"))
    return Scene(sample, (VmIdentity("web", None),), machine, {"pinned": "nothing is attached"})


def test_a_window_is_of_one_origin(crafted_scene: Scene) -> None:
    from kvmscope.analysis.window import Window
    from kvmscope.errors import UsageError

    later = replace(crafted_scene, sample=replace(crafted_scene.sample, monotonic_ns=3))
    assert Window(crafted_scene, later).interval_s == 1e-9
    for origin in (Origin("h", "other"), Origin("other", "b")):
        elsewhere = replace(later, sample=replace(later.sample, origin=origin))
        with pytest.raises(UsageError, match="one boot of one host"):
            Window(crafted_scene, elsewhere)
        with pytest.raises(UsageError, match="one boot of one host"):
            Window(crafted_scene.sample, elsewhere.sample)
