"""The catalogue of kernels against kernels that run: what is marked captured is what they tell today."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kvmscope.analysis.schema_diff import compare
from kvmscope.catalog.kernels import find_kernel, version_of
from kvmscope.catalog.stats import load_stats
from kvmscope.codec.schema_json import parse
from kvmscope.lab import kernel_catalog

ARCHITECTURES = {"amd64": "x86", "arm64": "arm64"}


def test_a_known_kernel_is_what_it_tells_itself(kernel: str, inside: Callable[..., Any]) -> None:
    spec = kernel_catalog.find_kernel(kernel)
    told = parse(json.dumps(inside(kernel, "schemas")), file=kernel)
    known = find_kernel(f"{ARCHITECTURES[spec.arch]}-{spec.series}")
    assert (told.architecture, told.captured, known.captured) == (known.architecture, True, True)
    assert (version_of(told) or ())[:2] == version_of(known)
    assert compare(known, told, load_stats()).differences == ()
    assert {(table.scope, table.data_size) for table in told.tables} == {
        (table.scope, table.data_size) for table in known.tables
    }
