"""Tree to text, and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvmscope.formula.parse import parse
from kvmscope.formula.text import write
from kvmscope.formula.tree import (
    Arithmetic,
    Compare,
    Comparison,
    Either,
    Expression,
    FactTerm,
    Fold,
    Join,
    Junction,
    Minus,
    Negation,
    Number,
    Operator,
    OverVcpus,
    QuantileTerm,
    Ratio,
    Reduction,
    Reference,
    ShareTerm,
    StatName,
    StatTerm,
)
from kvmscope.schema import Unit

_names = st.sampled_from(["exits", "halts", "num_2M_pages", "a", "rate", "unknowns"])
_stats = st.builds(StatName, st.sampled_from(["kvm", "apicv"]), _names)
_values = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
_numbers = st.builds(Number, _values, st.sampled_from([Unit.NONE, Unit.SECONDS, Unit.BYTES]))
_leaves = st.one_of(
    _numbers,
    st.builds(StatTerm, st.sampled_from(Reduction), _stats),
    st.builds(QuantileTerm, _stats, st.floats(min_value=0, max_value=1)),
    st.builds(ShareTerm, _stats, _numbers, st.booleans()),
    st.builds(FactTerm, _names),
    st.builds(Reference, _names),
)


def _larger(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    zeros = st.none() | st.floats(allow_nan=False, allow_infinity=False)
    return st.one_of(
        st.builds(Minus, inner),
        st.builds(Negation, inner),
        st.builds(Arithmetic, st.sampled_from(Operator), inner, inner),
        st.builds(Ratio, inner, inner, zeros),
        st.builds(Either, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(OverVcpus, st.sampled_from(Fold), inner),
        st.builds(Compare, st.sampled_from(Comparison), inner, inner),
        st.builds(Join, st.sampled_from(Junction), inner, inner),
    )


expressions = st.recursive(_leaves, _larger, max_leaves=12)


@given(expressions)
def test_what_is_printed_is_read_as_the_same_tree(expression: Expression) -> None:
    assert parse(write(expression)) == expression
