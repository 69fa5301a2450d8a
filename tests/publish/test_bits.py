"""Booleans that share a word, from the writer to the window: each is 0 or 1, whatever its neighbours do."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import new_class
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmscope import publish
from kvmscope.analysis.window import Window, find_column
from kvmscope.schema import Scope
from kvmscope.sources.published import PublishedSource

States: Any = new_class(
    "States",
    (publish.Stats,),
    {"provider": "vmm", "scope": Scope.VCPU},
    lambda body: body.update({f"state_{number}": publish.Bit("A state.") for number in range(70)}),
)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[PublishedSource]:
    (tmp_path / "self").symlink_to(str(os.getpid()))
    (tmp_path / str(os.getpid())).symlink_to("/proc/self")
    with PublishedSource(proc=tmp_path, walk_share=math.inf) as source:
        yield source


flips = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 69), st.booleans()), max_size=30)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips, flips)
def test_every_bit_is_what_it_was_last_set_to(
    source: PublishedSource, first: list[tuple[int, int, bool]], second: list[tuple[int, int, bool]]
) -> None:
    with publish.Vm("web") as vm:
        vcpus = [States(vm, vcpu=number) for number in range(2)]
        model = np.zeros((2, 70))
        samples = []
        for some in (first, second):
            for vcpu, bit, value in some:
                getattr(vcpus[vcpu], f"state_{bit}").set(value)
                model[vcpu, bit] = value
            samples.append(source.read())
        window = Window(*samples)
        for bit in range(70):
            assert window.value("vmm", Scope.VCPU, f"state_{bit}").tolist() == model[:, bit].tolist()
        column = find_column(samples[1], "vmm", Scope.VCPU, "state_69")
        assert column is not None
        assert column.words.tolist() == model[:, 69].tolist()
        assert window.resets == ()


def test_70_booleans_take_two_words() -> None:
    assert States.stat_set.data_size == 16
    assert States.stat_set.costs[""] == publish.StatCost(stats=70, data_bytes=16, descriptor_bytes=70 * 64)
