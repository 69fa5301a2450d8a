"""Totals over runs of subjects, beside sums that are done one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kvmscope.analysis.columns import Runs

LENGTHS = [[], [0], [1], [3, 0, 2], [0, 0], [2, 2, 2, 2, 2], [9], [0, 7, 1, 0, 30, 2]]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (5,)])
@pytest.mark.parametrize("dtype", [np.uint64, np.float64])
def test_a_run_is_summed_over_its_members(lengths: list[int], shape: tuple[int, ...], dtype: type) -> None:
    edges = np.cumsum([0, *lengths])
    values = np.arange(edges[-1] * int(np.prod(shape)), dtype=dtype).reshape(int(edges[-1]), *shape)
    values.flags.writeable = False
    summed = Runs(edges).sum(values)
    assert summed.dtype == dtype
    assert summed.shape == (len(lengths), *shape)
    for run, (first, last) in enumerate(pairwise(edges)):
        assert summed[run].tolist() == sum(values[first:last], start=np.zeros(shape, dtype)).tolist()


def test_the_lengths_of_runs_are_their_numbers_of_members() -> None:
    assert Runs(np.array([0, 3, 3, 5])).lengths.tolist() == [3, 0, 2]
