"""What a VMM in another process publishes is read to the same values by kvmscope and by QEMU's rules."""

from __future__ import annotations

import json
import math
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmscope.codec.statsfile import parse
from kvmscope.schema import Kind, Scope, Unit
from kvmscope.sources.published import PublishedSource

HERE = Path(__file__).parent
query_stats = runpy.run_path(str(HERE / "oracle_qemu.py"))["query_stats"]

KINDS = {
    Kind.CUMULATIVE: "cumulative",
    Kind.INSTANT: "instant",
    Kind.PEAK: "peak",
    Kind.LINEAR_HISTOGRAM: "linear-histogram",
    Kind.LOG_HISTOGRAM: "log2-histogram",
}


class OraclePublisher:
    """A process that publishes what it is told."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, HERE / "publisher.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def publish(self, order: dict[str, Any]) -> dict[str, Any]:
        """The answer; what was published stays until ``end``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("end\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def publisher() -> Iterator[OraclePublisher]:
    publisher = OraclePublisher()
    yield publisher
    publisher.close()


@pytest.fixture(scope="module")
def source(publisher: OraclePublisher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublishedSource]:
    """Reads that process and no other."""
    proc = tmp_path_factory.mktemp("proc")
    (proc / "self").symlink_to(str(os.getpid()))
    for pid in (os.getpid(), publisher.pid):
        (proc / str(pid)).symlink_to(f"/proc/{pid}")
    with PublishedSource(proc=proc, walk_share=math.inf) as source:
        yield source


COUNTS = st.integers(0, 2**62 - 1) | st.integers(0, 300)
SCALES = [
    {"unit": unit, "base": base, "exponent": exponent if unit != "SECONDS" else -exponent}
    for unit in ("NONE", "SECONDS", "BYTES", "CYCLES")
    for base in ("POW10", "POW2")
    for exponent in (0, 3, 9, 32767)
]


@st.composite
def stats(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from("Counter Instant Peak Boolean Bit LinearHistogram LogHistogram".split()))
    options: dict[str, Any] = {} if kind in ("Boolean", "Bit") else dict(draw(st.sampled_from(SCALES)))
    if kind.endswith("Histogram"):
        options["size"] = draw(st.integers(2, 40))
    if kind == "LinearHistogram":
        options["bucket_size"] = draw(st.integers(1, 2**32 - 1) | st.integers(1, 50))
    options["group"] = draw(st.sampled_from(["", "", "a", "b"]))
    values: st.SearchStrategy[int] = COUNTS
    if kind == "Instant":
        values = st.integers(-(2**63), 2**64 - 1)
    elif kind in ("Boolean", "Bit"):
        values = st.booleans()
    return {"kind": kind, "options": options, "updates": draw(st.lists(values, max_size=3))}


STEMS = ["a", "Z", "_", "exits_of_", "x" * 46]
declarations = st.lists(st.tuples(st.sampled_from(STEMS), stats()), min_size=1, max_size=6).map(
    lambda drawn: {f"{stem}{number}": about for number, (stem, about) in enumerate(drawn)}
)


def expected(about: dict[str, Any]) -> list[int]:
    """The words that such updates must leave; the kernel's bucket rules are written by their bounds here."""
    kind, options, updates = about["kind"], about["options"], about["updates"]
    if kind == "Counter":
        return [sum(updates)]
    if kind == "Peak":
        return [max(updates, default=0)]
    if not kind.endswith("Histogram"):
        return [(updates or [0])[-1] % 2**64]
    size = options["size"]
    if kind == "LinearHistogram":
        lows = [number * options["bucket_size"] for number in range(size)]
    else:
        lows = [0, *(2**number for number in range(size - 1))]
    return [sum(low <= v < high for v in updates) for low, high in zip(lows, [*lows[1:], math.inf], strict=True)]


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(declarations, st.sampled_from(Scope), st.sets(st.sampled_from("ab")))
def test_any_declaration_is_read_to_the_same_values_by_kvmscope_and_by_qemus_rules(
    publisher: OraclePublisher, source: PublishedSource, stated: dict[str, Any], scope: Scope, wanted: set[str]
) -> None:
    groups = wanted & {about["options"]["group"] for about in stated.values()}
    enabled = {name: about for name, about in stated.items() if about["options"]["group"] in {"", *groups}}
    answer = publisher.publish({"scope": scope.value, "groups": sorted(groups), "stats": stated})
    try:
        sample = source.read()
        raw = b"" if answer["fd"] is None else Path(f"/proc/{publisher.pid}/fd/{answer['fd']}").read_bytes()
    finally:
        publisher.end()
    assert sample.gaps == ()
    if not enabled:
        assert (raw, sample.blocks) == (b"", ())
        return
    (block,) = sample.blocks
    assert block.schema.scope is scope
    assert list(block.schema.names) == list(enabled)

    file = parse(raw)
    oracle = query_stats(raw)
    assert list(oracle) == [name for name, about in enabled.items() if about["kind"] != "Bit"]
    for name, about in enabled.items():
        words = expected(about)
        assert np.atleast_1d(block.column(name)[0]).tolist() == words == answer["raw"][name]
        value = file[name]
        assert value == (tuple(words) if len(words) > 1 else words[0])
        assert isinstance(value, bool) is (about["kind"] in ("Bit", "Boolean"))
        if about["kind"] != "Bit":
            shown = oracle[name]
            assert shown["value"] == (list(value) if isinstance(value, tuple) else value)
            assert type(shown["value"]) is (list if isinstance(value, tuple) else type(value))
            descriptor = block.schema[name]
            assert KINDS[Kind(descriptor.kind)] == shown["type"]
            assert (None if descriptor.unit is Unit.NONE else Unit(descriptor.unit).name.lower()) == shown.get("unit")
            assert descriptor.exponent == shown.get("exponent", 0)
            assert (descriptor.bucket_size or None) == shown.get("bucket-size")
    assert all(answer["raw"][name] == [] for name in stated.keys() - enabled.keys())
