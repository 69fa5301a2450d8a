"""QMP's description of statistics becomes the kernel's; the answers below have the shape of QEMU 7.2's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.codec.qmp import (
    BucketOrder,
    QmpCpu,
    QmpSchema,
    parse_apic_id,
    parse_cpus,
    parse_entries,
    parse_name,
    parse_schemas,
    votes_for_order,
)
from kvmscope.errors import FormatError
from kvmscope.schema import Base, Kind, Scope, Unit, Unknown

NS = {"unit": "seconds", "base": 10, "exponent": -9}
STATS: list[dict[str, Any]] = [
    {"name": "guest_mode", "type": "instant", "unit": "boolean", "exponent": 0},
    {"name": "halt_wait_hist", "type": "log2-histogram", **NS},
    {"name": "halt_wait_ns", "type": "cumulative", **NS},
    {"name": "exits", "type": "cumulative", "exponent": 0},
]


def schema_of(*stats: dict[str, Any], target: str = "vcpu") -> QmpSchema:
    (schema,) = parse_schemas([{"provider": "kvm", "target": target, "stats": list(stats)}])
    return schema


def answer(*, path: str = "/cpu[0]", **values: Any) -> dict[str, Any]:
    stats = [{"name": name, "value": value} for name, value in values.items()]
    return {"provider": "kvm", "qom-path": path, "stats": stats}


def named(stat: str) -> dict[str, Any]:
    return {"provider": "kvm", "qom-path": "/cpu[0]", "stats": [{"name": stat, "value": 1}]}


def log_buckets(values: list[int], size: int = 32) -> list[int]:
    """As the kernel counts them: bucket 0 is {0}, bucket i is [2^(i-1), 2^i), the last is unbounded."""
    buckets = [0] * size
    for value in values:
        buckets[min(value.bit_length(), size - 1)] += 1
    return buckets


def test_descriptors_have_the_kernels_words() -> None:
    descriptors = {d.name: d for d in schema_of(*STATS).descriptors}
    wait = descriptors["halt_wait_hist"]
    assert (wait.kind, wait.unit, wait.base, wait.exponent) == (Kind.LOG_HISTOGRAM, Unit.SECONDS, Base.POW10, -9)
    assert descriptors["guest_mode"].is_boolean
    assert (descriptors["exits"].unit, descriptors["exits"].scale) == (Unit.NONE, 1.0)


@pytest.mark.parametrize(
    ("stat", "kind", "unit", "base", "bucket_size"),
    [
        ({"type": "peak", "unit": "bytes", "base": 2, "exponent": 10}, Kind.PEAK, Unit.BYTES, Base.POW2, 0),
        (
            {"type": "linear-histogram", "unit": "cycles", "bucket-size": 7},
            Kind.LINEAR_HISTOGRAM,
            Unit.CYCLES,
            Base.POW10,
            7,
        ),
    ],
)
def test_every_kind_unit_and_base_is_understood(
    stat: dict[str, Any], kind: Kind, unit: Unit, base: Base, bucket_size: int
) -> None:
    (descriptor,) = schema_of({"name": "x", **stat}).descriptors
    assert (descriptor.kind, descriptor.unit, descriptor.base) == (kind, unit, base)
    assert descriptor.bucket_size == bucket_size
    assert descriptor.is_understood


@pytest.mark.parametrize("odd", [{"type": "gauge"}, {"unit": "parsecs"}, {"base": 3}])
def test_an_unknown_word_is_kept_as_not_understood_with_its_values(odd: dict[str, Any]) -> None:
    schema = schema_of({"name": "x", "type": "instant", **odd}, {"name": "y", "type": "instant"})
    (entry,) = parse_entries([answer(x=[1, 2], y=3)])
    laid_out = schema.laid_out([entry])
    assert [d.is_understood for d in laid_out.descriptors] == [False, True]
    assert any(isinstance(part, Unknown) for part in (laid_out["x"].kind, laid_out["x"].unit, laid_out["x"].base))
    assert entry.words(laid_out, BucketOrder.LAST_FIRST).tolist() == [1, 2, 3]


def test_targets_other_than_vm_and_vcpu_are_left_out() -> None:
    schemas = parse_schemas([{"provider": "p", "target": t, "stats": []} for t in ("vm", "cryptodev", "vcpu")])
    assert [schema.scope for schema in schemas] == [Scope.VM, Scope.VCPU]


def test_words_stand_where_the_schema_says() -> None:
    (entry,) = parse_entries([answer(exits=5, halt_wait_ns=7, halt_wait_hist=[0, 0, 0, 1], guest_mode=True)])
    schema = schema_of(*STATS).laid_out([entry])
    words = entry.words(schema, BucketOrder.FIRST_FIRST)
    assert schema.data_size == words.nbytes == 8 * 7
    by_name = {d.name: words[d.offset // 8 : d.offset // 8 + d.size].tolist() for d in schema.descriptors}
    assert by_name == {"guest_mode": [1], "halt_wait_hist": [0, 0, 0, 1], "halt_wait_ns": [7], "exits": [5]}


def test_reversed_histograms_are_turned_and_nothing_else() -> None:
    (entry,) = parse_entries([answer(guest_mode=False, halt_wait_hist=[3, 2, 1], halt_wait_ns=0, exits=2**64 - 1)])
    schema = schema_of(*STATS).laid_out([entry])
    assert entry.words(schema, BucketOrder.LAST_FIRST).tolist() == [0, 1, 2, 3, 0, 2**64 - 1]


@given(st.lists(st.integers(min_value=0, max_value=2**40), max_size=30), st.sampled_from(BucketOrder))
def test_no_values_vote_for_the_wrong_order(values: list[int], order: BucketOrder) -> None:
    buckets = log_buckets(values)
    given_ = buckets if order is BucketOrder.FIRST_FIRST else buckets[::-1]
    entries = parse_entries([answer(halt_wait_hist=given_, halt_wait_ns=sum(values))])
    votes = votes_for_order(schema_of(*STATS), entries)
    assert all(count == 0 for other, count in votes.items() if other is not order)


@pytest.mark.parametrize("order", BucketOrder)
def test_usual_waits_tell_the_order(order: BucketOrder) -> None:
    values = [40_000, 900_000, 1_200_000]
    buckets = log_buckets(values)
    given_ = buckets if order is BucketOrder.FIRST_FIRST else buckets[::-1]
    entries = parse_entries([answer(halt_wait_hist=given_, halt_wait_ns=sum(values))])
    assert votes_for_order(schema_of(*STATS), entries)[order] == 1


def test_a_histogram_that_reads_the_same_from_both_ends_needs_no_order() -> None:
    schema = schema_of(*STATS)
    empty, skewed = parse_entries([answer(halt_wait_hist=[0, 0, 0]), answer(halt_wait_hist=[0, 0, 1])])
    assert empty.needing_order(schema) == ()
    assert skewed.needing_order(schema) == ("halt_wait_hist",)
    assert "halt_wait_hist" not in schema.without(["halt_wait_hist"]).laid_out([empty])


@pytest.mark.parametrize(
    "broken",
    [
        None,
        {},
        [1],
        [{"provider": "kvm"}],
        [{"stats": []}],
        [answer(exits=-1)],
        [answer(exits=2**64)],
        [answer(exits=1.5)],
        [answer(exits="1")],
        [answer(exits=[1, None])],
        [{"provider": "kvm", "stats": [{"value": 1}]}],
    ],
)
def test_what_is_not_an_answer_is_a_format_error(broken: object) -> None:
    with pytest.raises(FormatError):
        parse_entries(broken)


def test_a_missing_stat_is_a_format_error_and_not_zero() -> None:
    (full, lacking) = parse_entries([answer(a=1, b=2), answer(a=1)])
    schema = schema_of({"name": "a", "type": "instant"}, {"name": "b", "type": "instant"}).laid_out([full, lacking])
    with pytest.raises(FormatError, match="'b'"):
        lacking.words(schema, BucketOrder.FIRST_FIRST)


def test_entries_that_disagree_on_a_size_are_a_format_error() -> None:
    entries = parse_entries([answer(exits=[1, 2]), answer(exits=[1, 2, 3])])
    with pytest.raises(FormatError, match="exits"):
        schema_of(*STATS).laid_out(entries)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["provider", "target", "stats", "name", "type", "value"]), inner, max_size=4
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_parses_or_is_a_format_error(value: object) -> None:
    for parse in (parse_schemas, parse_entries):
        with contextlib.suppress(FormatError):
            parse(value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["name", "value", "stats", "provider", "target", "type", "qom-path", "cpu-index", "thread-id"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)
PARSERS = (parse_schemas, parse_entries, parse_cpus, parse_apic_id, parse_name)


@given(_JSON, st.sampled_from(PARSERS))
def test_any_answer_is_values_or_a_format_error(answer: object, parse: Callable[[object], object]) -> None:
    with contextlib.suppress(FormatError):
        parse(answer)


@pytest.mark.parametrize("parse", PARSERS)
def test_an_answer_deeper_than_python_can_write_out_is_a_format_error(parse: Callable[[object], object]) -> None:
    deep: object = []
    for _ in range(100_000):
        deep = [deep]
    for answer in (deep, {"name": deep}, [{"provider": deep, "target": deep, "qom-path": deep}]):
        with pytest.raises(FormatError):
            parse(answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([answer(x=[])], "1 to 4096 buckets"),
        ([answer(x=[0] * 4097)], "1 to 4096 buckets"),
        ([answer(x=-1)], "a number from 0"),
        ([answer(x=2**64)], "a number from 0"),
        ([answer(x=1.5)], "a number from 0"),
        ([named("\x1b[31m")], "printable"),
        ([named("\ud800")], "printable"),
        ([answer()] * 32769, "at most 32768 objects"),
        ([answer(x=[0] * 4096)] * 1025, "at most 4194304 numbers"),
    ],
)
def test_an_answer_beyond_the_limits_is_refused(answer: list[Any], expected: str) -> None:
    with pytest.raises(FormatError, match=expected):
        parse_entries(answer)


def test_a_schema_that_names_a_stat_or_itself_twice_is_refused() -> None:
    twice = [{"name": "x", "type": "instant"}] * 2
    with pytest.raises(FormatError, match="each name once"):
        schema_of(*twice)
    with pytest.raises(FormatError, match="each provider and target once"):
        parse_schemas([{"provider": "kvm", "target": "vm", "stats": []}] * 2)


@pytest.mark.parametrize("missing", ["qom-path", "cpu-index", "thread-id"])
def test_a_vcpu_that_lacks_what_it_is_known_by_is_refused(missing: str) -> None:
    cpu = {"qom-path": "/m/0", "cpu-index": 0, "thread-id": 7, "target": "x86_64"}
    assert parse_cpus([cpu]) == (QmpCpu("/m/0", 0, 7, is_x86=True),)
    with pytest.raises(FormatError):
        parse_cpus([{key: value for key, value in cpu.items() if key != missing}])
    with pytest.raises(FormatError, match="once"):
        parse_cpus([cpu, cpu])


def test_the_order_of_buckets_is_told_in_a_time_that_grows_with_their_number() -> None:
    def cost_s(buckets: int) -> float:
        entries = parse_entries([answer(halt_wait_hist=[1] * buckets, halt_wait_ns=1)] * 200)
        started = time.process_time()
        votes_for_order(schema_of(*STATS), entries)
        return time.process_time() - started

    small = min(cost_s(64) for _ in range(5))
    assert min(cost_s(4096) for _ in range(5)) < 64 * small


def test_a_name_that_cannot_be_encoded_is_written_out() -> None:
    assert parse_name({"name": "web\ud800"}) == "web\\ud800"
    assert parse_name({}) == ""
