"""The same guest on two kernels: a diff names what differs between them, and what it does not compare for that."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from kvmscope.analysis.schema_diff import ChangeKind, compare
from kvmscope.catalog.kernels import find_kernel
from kvmscope.catalog.stats import load_stats
from kvmscope.scene import Scene, decode
from kvmscope.view.diff import DiffSource, DiffView, diff_view

OLD, NEW = "6.1", "6.12"


@pytest.fixture
def view(x86_kernel: str, inside: Callable[..., Any]) -> DiffView:
    if x86_kernel != NEW:
        pytest.skip(f"compared is {OLD} with {NEW}")
    older = OLD
    try:
        old = inside(older, "moments")
    except KeyError:
        pytest.skip(f"KVMSCOPE_KERNELS does not name {OLD}")
    new = inside(x86_kernel, "moments")
    return diff_view(DiffSource(OLD, [scenes(old)]), DiffSource(NEW, [scenes(new)]))


def scenes(texts: list[str]) -> list[Scene]:
    return [decode(base64.b64decode(text)) for text in texts]


def test_the_kernels_and_the_stats_that_mean_something_else_are_named(view: DiffView) -> None:
    kernel = next(setting for setting in view.settings if setting.name == "kernel")
    assert kernel.a is not None
    assert kernel.b is not None
    assert (kernel.a[:4], kernel.b[:5]) == ("6.1.", "6.12.")
    expected = compare(find_kernel(OLD), find_kernel(NEW), load_stats()).differences
    of_kvm = {(stat.name, stat.what) for stat in view.stats if stat.provider == "kvm"}
    assert of_kvm == {(each.name, each.turn) for each in expected}
    # Linux 6.2 told two causes of inhibits apart by reasons of their own.
    reasons = {(stat.name, stat.what) for stat in view.stats if stat.provider == "apicv"}
    assert {(f"apicv_inhibit_{kind}_id_aliased", ChangeKind.ADDED) for kind in ("logical", "physical")} <= reasons
    why_not = {metric.name: metric.reason for metric in view.not_compared}
    assert why_not["exits_per_s"].startswith("exits means something else since 6.4.")


def test_a_guest_with_the_same_name_is_paired_and_what_means_the_same_is_compared(view: DiffView) -> None:
    assert (view.pairing, view.a.vms, view.only_a, view.only_b) == ("paired", 1, (), ())
    halts = next(metric for metric in view.metrics if metric.name == "halts_per_s")
    assert halts.values_a == halts.values_b == 24
    assert halts.a > 0
