"""Stat sets: the rules of the format fail where the stats are declared."""

from __future__ import annotations

import pytest

from kvmscope.codec import statsfile
from kvmscope.publish import About, StatCost, StatSet
from kvmscope.schema import Base, Descriptor, Kind, Scope, Unit, Unknown

GOOD = Descriptor("exits", Kind.CUMULATIVE)


@pytest.mark.parametrize(
    ("descriptor", "rule"),
    [
        (Descriptor("", Kind.CUMULATIVE), "does not match"),
        (Descriptor("two words", Kind.CUMULATIVE), "does not match"),
        (Descriptor("esc\x1b", Kind.CUMULATIVE), "does not match"),
        (Descriptor("n" * 48, Kind.CUMULATIVE), "48 characters; 47 are allowed"),
        (Descriptor("a", Unknown(9)), "must be known ones"),
        (Descriptor("a", Kind.CUMULATIVE, Unit.SECONDS, exponent=1), "seconds is not positive"),
        (Descriptor("a", Kind.CUMULATIVE, Unit.BYTES, exponent=-1), "bytes and cycles is not negative"),
        (Descriptor("a", Kind.CUMULATIVE, Unit.NONE, Base.POW2, exponent=2**15), "not in ±32767"),
        (Descriptor("a", Kind.INSTANT, Unit.BOOLEAN, exponent=1), "boolean has no exponent"),
        (Descriptor("a", Kind.CUMULATIVE, size=0), "not in 1 to 65535"),
        (Descriptor("a", Kind.CUMULATIVE, size=2**16), "not in 1 to 65535"),
        (Descriptor("a", Kind.LOG_HISTOGRAM, size=1), "at least two buckets"),
        (Descriptor("a", Kind.LINEAR_HISTOGRAM, size=4), "has a bucket size"),
        (Descriptor("a", Kind.LOG_HISTOGRAM, size=4, bucket_size=3), "only a linear histogram"),
        (Descriptor("a", Kind.LOG_HISTOGRAM, Unit.BOOLEAN, size=2), "not a log histogram"),
        (Descriptor("a", Kind.INSTANT, Unit.BIT, bucket_size=64), "one of 64"),
        (Descriptor("a", Kind.CUMULATIVE, Unit.BIT), "a bit is an instant"),
        (Descriptor("a", Kind.LINEAR_HISTOGRAM, Unit.BOOLEAN, size=3, bucket_size=1), "has two buckets"),
    ],
)
def test_a_stat_that_breaks_a_rule_is_refused_with_the_rule(descriptor: Descriptor, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        StatSet("disk", Scope.VM, (descriptor,))


@pytest.mark.parametrize("provider", ["", "Disk", "1disk", "disk io", "d" * 33, "disk\n"])
def test_a_providers_name_that_breaks_the_rule_is_refused(provider: str) -> None:
    with pytest.raises(ValueError, match="does not match"):
        StatSet(provider, Scope.VM, (GOOD,))


def test_two_stats_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="exits declared twice"):
        StatSet("disk", Scope.VM, statsfile.place((GOOD, GOOD)))


def test_stats_that_share_words_are_refused_but_for_bits() -> None:
    bits = [Descriptor(name, Kind.INSTANT, Unit.BIT) for name in ("a", "b")]
    assert StatSet("disk", Scope.VM, statsfile.place(bits)).data_size == 8
    with pytest.raises(ValueError, match="b has words of a"):
        StatSet("disk", Scope.VM, tuple(bits))
    with pytest.raises(ValueError, match="late has words of exits"):
        StatSet("disk", Scope.VM, (GOOD, Descriptor("late", Kind.CUMULATIVE)))


def test_what_is_said_of_a_stat_must_be_of_a_stat_and_name_a_group_that_can_be() -> None:
    with pytest.raises(ValueError, match="no stat entries to say more about"):
        StatSet("disk", Scope.VM, (GOOD,), {"entries": About("x")})
    with pytest.raises(ValueError, match="exits: group 'All of it' does not match"):
        StatSet("disk", Scope.VM, (GOOD,), {"exits": About("x", group="All of it")})


def test_a_set_that_readers_would_not_accept_is_refused() -> None:
    many = statsfile.place([Descriptor(f"s{i}", Kind.CUMULATIVE) for i in range(1025)])
    with pytest.raises(ValueError, match="1025 stats"):
        StatSet("disk", Scope.VM, many)
    with pytest.raises(ValueError, match="bytes of data"):
        StatSet("disk", Scope.VM, (Descriptor("a", Kind.LOG_HISTOGRAM, size=2**15 + 1),))


def test_the_cost_of_a_subject_is_known() -> None:
    stats = statsfile.place((GOOD, Descriptor("waits", Kind.LOG_HISTOGRAM, size=32)))
    assert StatSet("disk", Scope.VM, stats).data_size == 8 + 256


def test_costs_are_by_group_and_add_up_with_the_bits_of_each_in_words_of_their_own() -> None:
    bits = [Descriptor(f"bit_{number}", Kind.INSTANT, Unit.BIT) for number in range(80)]
    about = {f"bit_{number}": About(group="states" if number % 2 else "") for number in range(80)}
    about |= {"waits": About(group="latency")}
    stats = [*bits, GOOD, Descriptor("waits", Kind.LOG_HISTOGRAM, size=32)]
    stat_set = StatSet.place("disk", Scope.VM, stats, about)
    assert stat_set.groups == ("states", "latency")
    assert stat_set.costs == {
        "": StatCost(41, 16, 41 * 64),
        "states": StatCost(40, 8, 40 * 64),
        "latency": StatCost(1, 256, 64),
    }
    assert sum(cost.data_bytes for cost in stat_set.costs.values()) == stat_set.data_size
    only = stat_set.enabled(["states"])
    assert only.costs == {group: stat_set.costs[group] for group in ("", "states")}
    assert stat_set.enabled([]).data_size == 16
    assert stat_set.enabled(["latency", "states"]) is stat_set
