"""Scenes of any kind, for laws that hold of all of them, and what it means that two are the same."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
from hypothesis import strategies as st

from kvmscope.host.facts import Machine
from kvmscope.host.process import VmmProcess
from kvmscope.linux.facts import CpuInfo, Fact, KernelModule
from kvmscope.sample import NOT_KNOWN, Block, Gap, Origin, Sample, Vcpus, VmId, Vms
from kvmscope.scene import Scene, VmIdentity
from kvmscope.schema import Base, Descriptor, Kind, Schema, Scope, StatNote, Tier, Unit, Unknown

TEXT = st.text(max_size=12)  # any characters: names are other people's
WORDS = st.integers(0, 2**64 - 1)
TIMES = st.integers(0, 2**63 - 1)


def facts(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Fact[Any]]:
    return st.one_of(values.map(Fact), TEXT.map(Fact.unknown))


MODULES = st.builds(
    KernelModule, TEXT, st.booleans(), st.dictionaries(TEXT, facts(TEXT), max_size=3).map(MappingProxyType)
)
CPUS = st.builds(CpuInfo, st.none() | TEXT, st.none() | TEXT, st.frozensets(TEXT, max_size=4))
MACHINES = st.builds(
    Machine, facts(TEXT), facts(TEXT), facts(TEXT), facts(MODULES), facts(MODULES), facts(CPUS), facts(TEXT)
)
PROCESSES = st.builds(
    VmmProcess,
    st.integers(1, 2**22),
    st.sampled_from(["qemu", "firecracker", "other"]),
    st.none() | TEXT,
    st.none() | TEXT,
    st.none() | TEXT,
    TEXT,
    st.lists(TEXT, max_size=4).map(tuple),
    st.integers(0, 2**63 - 1),
)
IDENTITIES = st.builds(
    VmIdentity, TEXT, st.none() | PROCESSES, st.none() | st.binary(max_size=20), st.none() | st.floats(0, 1e6)
)
GAPS = st.builds(
    Gap,
    TEXT,
    vm=st.none() | WORDS.map(VmId),
    vcpu=st.none() | st.integers(0, 2**32),
    provider=st.none() | TEXT,
    stat=st.none() | TEXT,
)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    stats, offset = [], 0
    for name in draw(st.lists(TEXT, max_size=4, unique=True)):
        size = draw(st.integers(1, 3))
        stats.append(
            Descriptor(
                name,
                draw(st.sampled_from(Kind) | st.builds(Unknown, st.integers(5, 15))),
                draw(st.sampled_from(Unit) | st.builds(Unknown, st.integers(6, 15))),
                draw(st.sampled_from(Base) | st.builds(Unknown, st.integers(2, 15))),
                draw(st.integers(-40, 40)),
                size,
                draw(st.integers(0, 2**32 - 1)),
                offset,
                draw(st.integers(0, 2**32 - 1)) & ~0xFFF,
            )
        )
        offset += 8 * size
    note = st.builds(StatNote, TEXT, st.none() | st.sampled_from(Tier))
    notes = draw(st.just([]) | st.lists(note, min_size=len(stats), max_size=len(stats)))
    size = offset + 8 * draw(st.integers(0, 2))
    return Schema(draw(TEXT), draw(st.sampled_from(Scope)), tuple(stats), size, tuple(notes))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    vms = draw(st.integers(0, 4))
    owners = sorted(draw(st.lists(st.integers(0, vms - 1), max_size=6))) if vms else []
    signed = st.integers(NOT_KNOWN, 2**62)

    def column(values: st.SearchStrategy[int], count: int, kind: Any) -> Any:
        return np.array(draw(st.lists(values, min_size=count, max_size=count)), dtype=kind)

    blocks = []
    for schema in draw(st.lists(schemas(), max_size=3)):
        subjects = vms if schema.scope is Scope.VM else len(owners)
        rows = np.array([row for row in range(subjects) if draw(st.booleans())], dtype=np.int64)
        # Sources hand out views with strides, so a wider array is cut here.
        wide = column(WORDS, len(rows) * (schema.words + 1), np.uint64).reshape(len(rows), schema.words + 1)
        blocks.append(Block(schema, wide[:, 1:], rows))
    sample = Sample(
        draw(TIMES),
        draw(TIMES),
        draw(TEXT),
        draw(st.booleans()),
        Vms(
            column(WORDS, vms, np.uint64),
            column(signed, vms, np.int64),
            column(signed, vms, np.int64),
            tuple(draw(st.lists(TEXT, min_size=vms, max_size=vms))),
        ),
        Vcpus(
            np.array(owners, dtype=np.int64),
            column(signed, len(owners), np.int64),
            column(signed, len(owners), np.int64),
        ),
        tuple(blocks),
        tuple(draw(st.lists(GAPS, max_size=3))),
        draw(st.none() | st.builds(Origin, TEXT, TEXT)),
    )
    identities = tuple(draw(st.lists(IDENTITIES, min_size=vms, max_size=vms)))
    return Scene(sample, identities, draw(MACHINES), draw(st.dictionaries(TEXT, TEXT, max_size=2)))


def assert_same(a: Scene, b: Scene) -> None:
    assert (a.identities, a.machine, dict(a.why_not)) == (b.identities, b.machine, dict(b.why_not))
    assert (a.origin, a.sample.gaps, a.sample.vms.label) == (b.origin, b.sample.gaps, b.sample.vms.label)
    for name in ("taken_ns", "monotonic_ns", "source", "simulated"):
        assert getattr(a.sample, name) == getattr(b.sample, name)
    for table, names in (("vms", ("id", "pid", "created_ns")), ("vcpus", ("vm", "id", "tid"))):
        for name in names:
            one, other = (getattr(getattr(scene.sample, table), name) for scene in (a, b))
            assert one.dtype == other.dtype
            assert one.tolist() == other.tolist()
    assert [block.schema for block in a.sample.blocks] == [block.schema for block in b.sample.blocks]
    for one, other in zip(a.sample.blocks, b.sample.blocks, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        assert one.values.tolist() == other.values.tolist()
        assert one.values.shape == other.values.shape
