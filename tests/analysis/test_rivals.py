"""Who ran while vCPUs waited: added up over vCPUs, from 0 for a process that took over a place."""

from __future__ import annotations

from rival_samples import sample_of

from kvmscope.analysis.rivals import Rival, rivals
from kvmscope.analysis.window import Window


def test_processes_are_added_up_over_the_vcpus_of_a_vm_and_the_worst_comes_first() -> None:
    before = sample_of(10, {0: [(7, b"spin", 5, 100)], 1: [(9, b"a-name-of-15-by", 1, 50), (7, b"spin", 1, 1)]})
    after = sample_of(
        12,
        {
            0: [(7, b"spin", 9, 400_000_100), (9, b"a-name-of-15-by", 3, 300_000_000)],
            1: [(9, b"a-name-of-15-by", 2, 700_000_050), (7, b"spin", 2, 200_000_001)],
        },
        others={0: [(5, b"other", 1, 9)]},
    )
    assert rivals(Window(before, after), 0) == [
        Rival(9, "a-name-of-15-by", 4, 0.5, 0.625),
        Rival(7, "spin", 5, 0.3, 0.375),
    ]


def test_a_process_that_lost_its_place_meanwhile_begins_at_0() -> None:
    before = sample_of(10, {0: [(7, b"spin", 5, 900_000_000)]})
    after = sample_of(11, {0: [(7, b"spin", 2, 100_000_000)]})
    assert rivals(Window(before, after), 0) == [Rival(7, "spin", 2, 0.1, 1.0)]


def test_nobody_is_named_of_a_vcpu_that_did_not_wait_or_was_not_there_before() -> None:
    still = {0: [(7, b"spin", 5, 900)]}
    assert rivals(Window(sample_of(10, still), sample_of(11, {**still, 1: [(9, b"new", 1, 5)]})), 0) == []


def test_a_name_that_is_no_text_is_escaped() -> None:
    after = sample_of(11, {0: [(7, b"\xffx", 1, 1_000_000)]})
    (found,) = rivals(Window(sample_of(10, {0: []}), after), 0)
    assert found.name == "\\xffx"


def test_a_process_is_named_if_it_ran_for_a_hundredth_of_the_wait() -> None:
    """Of 2 s that a vCPU waited the places know half; the rest was behind processes that have none."""
    ran = [(7, b"spin", 900, 979_000_000), (8, b"kworker", 1, 19_000_000), (9, b"shell", 1, 21_000_000)]
    before, after = sample_of(10, {0: []}), sample_of(12, {0: ran}, wait_ns=2_000_000_000)
    found = rivals(Window(before, after), 0)
    assert [(rival.name, round(rival.share, 4)) for rival in found] == [("spin", 0.4895), ("shell", 0.0105)]
