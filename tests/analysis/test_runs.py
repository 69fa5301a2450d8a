"""Totals over runs of subjects, beside sums that are done one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kvmscope.analysis.runs import Runs

LENGTHS = [[], [0], [1], [3, 0, 2], [0, 0], [2, 2, 2, 2, 2], [9], [0, 7, 1, 0, 30, 2]]


def made(lengths: list[int], shape: tuple[int, ...]) -> tuple[Runs, list[slice], np.ndarray]:
    """Runs of these lengths, where they stand, and a number for each member along the last axis."""
    edges = np.cumsum([0, *lengths])
    values = np.arange(edges[-1] * int(np.prod(shape)), dtype=np.float64).reshape(*shape, int(edges[-1]))
    values.flags.writeable = False
    return Runs(edges), [slice(first, last) for first, last in pairwise(edges)], values


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (5,)])
def test_a_run_is_summed_over_its_members(lengths: list[int], shape: tuple[int, ...]) -> None:
    runs, places, values = made(lengths, shape)
    summed = runs.sum(values)
    assert summed.shape == (*shape, len(lengths))
    for run, place in enumerate(places):
        assert summed[..., run].tolist() == values[..., place].sum(axis=-1).tolist()


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_the_largest_of_a_run_is_that_of_its_members_or_0(lengths: list[int]) -> None:
    runs, places, values = made(lengths, (2,))
    largest = runs.max(values)
    for run, place in enumerate(places):
        assert largest[:, run].tolist() == values[:, place].max(axis=-1, initial=0).tolist()


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("buckets", [1, 5])
def test_histograms_are_summed_bucket_by_bucket(lengths: list[int], buckets: int) -> None:
    runs, places, values = made(lengths, (buckets,))
    counts = values.T.astype(np.uint64)
    summed = runs.sum_buckets(counts)
    assert summed.dtype == np.uint64
    for run, place in enumerate(places):
        assert summed[run].tolist() == counts[place].sum(axis=0).tolist()


def test_the_lengths_of_runs_are_their_numbers_of_members() -> None:
    runs = Runs(np.array([0, 3, 3, 5]))
    assert runs.lengths.tolist() == [3, 0, 2]
    assert runs.has_empty
