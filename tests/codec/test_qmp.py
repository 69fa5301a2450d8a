"""QMP's description of statistics becomes the kernel's; the answers below have the shape of QEMU 7.2's."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.codec.qmp import BucketOrder, QmpSchema, parse_entries, parse_schemas, votes_for_order
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
