"""What became of the stats from one kernel to another, of known kernels and of some made by hand."""

from __future__ import annotations

from types import MappingProxyType

from kvmscope.analysis.schema_diff import ChangeKind, Difference, compare, shape_words
from kvmscope.catalog.kernels import find_kernel
from kvmscope.catalog.stats import load_stats, parse_stats
from kvmscope.schema import Base, KernelTables, Kind, Scope, Shape, Table, Tier, Unit, Unknown

STATS = load_stats()


def between(before: str, after: str) -> tuple[Difference, ...]:
    return compare(find_kernel(before), find_kernel(after), STATS).differences


def by_turn(differences: tuple[Difference, ...], turn: ChangeKind) -> dict[str, Difference]:
    return {each.name: each for each in differences if each.turn is turn}


def made(release: str | None, **stats: Shape) -> KernelTables:
    table = Table("kvm", Scope.VCPU, MappingProxyType(stats))
    return KernelTables("made", release, "x86", True, "by hand", (table,))


COUNTER = Shape(Kind.CUMULATIVE)


def test_a_kernel_does_not_differ_from_itself() -> None:
    assert between("7.3", "7.3") == ()


def test_what_changed_in_the_tables_from_6_1_to_7_3_is_one_new_vm_stat() -> None:
    differences = between("6.1", "7.3")
    described = [each for each in differences if each.turn is not ChangeKind.MEANING]
    assert [(each.turn, each.scope, each.name) for each in described] == [
        (ChangeKind.ADDED, Scope.VM, "mmu_shadow_pages")
    ]
    assert (described[0].tier, described[0].after) == (Tier.VOLATILE, "instant")


def test_what_changed_from_5_14_to_6_0() -> None:
    """The numbers of the history: 5.15 replaced lpages and added histograms, 5.17, 5.19 and 6.0 added the rest."""
    differences = between("5.14", "6.0")
    assert set(by_turn(differences, ChangeKind.ADDED)) == {
        *("remote_tlb_flush_requests", "pages_4k", "pages_2m", "pages_1g", "max_mmu_rmap_size"),
        *("halt_wait_ns", "halt_poll_success_hist", "halt_poll_fail_hist", "halt_wait_hist", "blocking"),
        *("pf_taken", "pf_emulate", "pf_spurious", "pf_fast", "pf_mmio_spte_created"),
        *("preemption_reported", "preemption_other", "notify_window_exits"),
    }
    gone = by_turn(differences, ChangeKind.REMOVED)
    assert {name: each.replaced_by for name, each in gone.items()} == {"lpages": ("pages_4k", "pages_2m", "pages_1g")}
    units = by_turn(differences, ChangeKind.UNIT)
    assert {name: (each.before, each.after) for name, each in units.items()} == {"guest_mode": ("none", "boolean")}
    assert units["guest_mode"].text
    assert "pf_fixed" in by_turn(differences, ChangeKind.MEANING)
    assert by_turn(differences, ChangeKind.KIND) == by_turn(differences, ChangeKind.RENAMED) == {}


def test_a_changed_meaning_is_told_in_both_directions_and_only_across_its_kernel() -> None:
    for before, after in (("6.3", "6.4"), ("6.4", "6.3")):
        exits = by_turn(between(before, after), ChangeKind.MEANING)["exits"]
        assert (exits.after, exits.tier) == ("since 6.4", Tier.ABI_LIKE)
    for before, after in (("6.2", "6.3"), ("6.4", "7.3")):
        assert "exits" not in by_turn(between(before, after), ChangeKind.MEANING)


def test_a_changed_meaning_is_told_only_of_its_architecture() -> None:
    assert "remote_tlb_flush" in by_turn(between("arm64-6.5", "arm64-6.6"), ChangeKind.MEANING)
    assert "remote_tlb_flush" not in by_turn(between("x86-6.5", "x86-6.6"), ChangeKind.MEANING)


def test_without_a_version_only_the_descriptors_are_compared() -> None:
    stats = find_kernel("6.3").tables
    unknown = KernelTables("f", None, "x86", True, "", stats)
    assert compare(unknown, find_kernel("6.4"), STATS).differences == ()


def test_every_part_of_a_shape_is_compared() -> None:
    before = made(
        "6.1",
        kind=COUNTER,
        unit=COUNTER,
        scale=Shape(Kind.CUMULATIVE, Unit.SECONDS, exponent=-9),
        base=Shape(Kind.CUMULATIVE, Unit.BYTES, Base.POW2, 10),
        buckets=Shape(Kind.LOG_HISTOGRAM, size=32),
        width=Shape(Kind.LINEAR_HISTOGRAM, size=8, bucket_size=10),
        values=COUNTER,
        same=COUNTER,
    )
    after = made(
        "6.1",
        kind=Shape(Kind.INSTANT),
        unit=Shape(Kind.CUMULATIVE, Unknown(9)),
        scale=Shape(Kind.CUMULATIVE, Unit.SECONDS, exponent=-6),
        base=Shape(Kind.CUMULATIVE, Unit.BYTES, Unknown(3), 10),
        buckets=Shape(Kind.LOG_HISTOGRAM, size=64),
        width=Shape(Kind.LINEAR_HISTOGRAM, size=8, bucket_size=20),
        values=Shape(Kind.CUMULATIVE, size=4),
        same=COUNTER,
    )
    found = {each.name: (each.turn, each.before, each.after) for each in compare(before, after, STATS).differences}
    assert found == {
        "kind": (ChangeKind.KIND, "cumulative", "instant"),
        "unit": (ChangeKind.UNIT, "none", "code 9"),
        "scale": (ChangeKind.SCALE, "10^-9", "10^-6"),
        "base": (ChangeKind.SCALE, "2^10", "code 3^10"),
        "buckets": (ChangeKind.SIZE, "32 buckets", "64 buckets"),
        "width": (ChangeKind.SIZE, "8 buckets of 10", "8 buckets of 20"),
        "values": (ChangeKind.SIZE, "1 value", "4 values"),
    }


RENAMING = """
[architectures]
x86 = "5.14"

[[stat]]
name = "largepages"
scope = "vcpu"
since = "5.14"
until = "6.0"
replaced_by = ["lpages"]
tier = "stable"
meaning = "Large pages."

[[stat]]
name = "lpages"
scope = "vcpu"
since = "6.0"
tier = "stable"
meaning = "Large pages."
"""


def test_what_the_catalogue_says_is_renamed_is_neither_gone_nor_new() -> None:
    stats = parse_stats(RENAMING, caveats={})
    (difference,) = compare(made("5.19", largepages=COUNTER), made("6.0", lpages=COUNTER), stats).differences
    assert (difference.turn, difference.before, difference.after) == (ChangeKind.RENAMED, "largepages", "lpages")
    others = compare(made("5.19", largepages=COUNTER), made("6.0", lpages=Shape(Kind.PEAK)), stats).differences
    assert [(each.turn, each.replaced_by) for each in others] == [
        (ChangeKind.REMOVED, ("lpages",)),
        (ChangeKind.ADDED, ()),
    ]


def test_an_uncatalogued_stat_has_no_tier() -> None:
    (difference,) = compare(made("6.1"), made("6.1", never_heard_of=COUNTER), STATS).differences
    assert (difference.name, difference.tier) == ("never_heard_of", None)


def test_a_provider_of_one_side_alone_is_not_compared() -> None:
    kvm = made("6.1", exits=COUNTER)
    more = Table("disk", Scope.VM, MappingProxyType({"reads": COUNTER}))
    found = compare(kvm, KernelTables("f", "6.1", "x86", True, "", (*kvm.tables, more)), STATS)
    assert (found.differences, found.not_compared) == ((), ("disk",))


def test_shapes_have_words() -> None:
    words = {
        "cumulative": COUNTER,
        "cumulative, nanoseconds": Shape(Kind.CUMULATIVE, Unit.SECONDS, exponent=-9),
        "log histogram, 32 buckets, nanoseconds": Shape(Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32),
        "linear histogram, 1 buckets of 5, 2^10 bytes": Shape(Kind.LINEAR_HISTOGRAM, Unit.BYTES, Base.POW2, 10, 1, 5),
        "instant, bit 3, boolean": Shape(Kind.INSTANT, Unit.BIT, bucket_size=3),
        "code 7, code 8": Shape(Unknown(7), Unknown(8)),
    }
    assert {shape_words(shape): shape for shape in words.values()} == words
