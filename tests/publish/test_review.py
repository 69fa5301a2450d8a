"""Reviews of proposed stats: what was said of real ones on the kvm list is said here, and nothing of a clean set."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmscope.errors import CatalogError
from kvmscope.publish.proposal import Proposal, parse_proposal
from kvmscope.publish.review import COST_LIMIT, cost, review

DATA = Path(__file__).parents[1] / "data" / "review"

STAT = """
[[stat]]
name = "{name}"
scope = "{scope}"
kind = "{kind}"
unit = "{unit}"
exponent = {exponent}
tier = "stable"
meaning = "One sentence of meaning."
"""


def _read(name: str) -> Proposal:
    return parse_proposal((DATA / name).read_text(encoding="utf-8"), name)


def _rules(name: str) -> set[tuple[str | None, str]]:
    return {(objection.stat, objection.rule) for objection in review(_read(name))}


def _of_one(
    name: str, *, scope: str = "vcpu", kind: str = "cumulative", unit: str = "none", exponent: int = 0, more: str = ""
) -> list[str]:
    text = STAT.format(name=name, scope=scope, kind=kind, unit=unit, exponent=exponent) + more
    return [objection.rule for objection in review(parse_proposal(text, "proposal.toml"))]


def test_the_rfc_gets_what_it_got_on_the_list() -> None:
    """Sean, 2024-04-16: tracking the negative is odd; it should be a per-vCPU stat. The counters had no objection."""
    assert _rules("rfc-2024-02.toml") == {
        ("apicv_inhibited", "negative"),
        ("apicv_inhibited", "scope"),
        ("apicv_inhibited", "boolean-word"),
    }


def test_inhibit_words_are_bitmasks() -> None:
    """Paolo, 2024-04-17: bitmask stats are "ouch"."""
    objections = review(_read("icounter-2024-04.toml"))
    assert [(objection.rule, objection.scope and objection.scope.value) for objection in objections] == [
        ("bitmask", "vm"),
        ("bitmask", "vcpu"),
    ]


def test_the_patches_get_what_they_got_on_the_list() -> None:
    """Sean, 2024-06-03 and 06-07: 8 bytes for a reflection of state; the name says injection and it is delivery;
    access exits show that the guest is active; irq_injections is there already. Paolo: derived from configuration."""
    assert _rules("patch-2024-04.toml") == {
        ("apicv_active", "boolean-word"),
        ("synic_auto_eoi_used", "configuration"),
        ("synic_auto_eoi_used", "boolean-word"),
        ("pit_reinject_mode", "configuration"),
        ("pit_reinject_mode", "boolean-word"),
        ("apicv_unaccelerated_inj", "counted"),
        ("apicv_unaccelerated_inj", "activity"),
        ("apicv_unaccelerated_inj", "name"),
    }


def test_reasons_one_by_one_are_a_matter_for_a_group() -> None:
    assert (None, "detail") in _rules("per-reason.toml")


def test_a_clean_set_gets_no_word() -> None:
    assert review(_read("clean.toml")) == ()


def test_an_objection_says_what_to_do_instead() -> None:
    for path in DATA.glob("*.toml"):
        for objection in review(_read(path.name)):
            assert objection.says
            assert objection.instead


@pytest.mark.parametrize(
    ("rule", "name", "changes"),
    [
        ("format", "9lives", {}),
        ("format", "halt_time", {"unit": "seconds", "exponent": 3}),
        ("unit", "wait_ns", {}),
        ("unit", "uptime", {"unit": "seconds"}),
        ("unit", "spent", {"unit": "cycles"}),
        ("kind", "max_chain", {}),
        ("kind", "doorbell_enabled", {}),
        ("name", "pkt_drops", {}),
        ("name", "DoorbellRings", {}),
        ("name", "doorbell_event", {}),
        ("counted", "halt_exits", {}),
        ("bitmask", "pending_flags", {"kind": "instant"}),
    ],
)
def test_a_broken_rule_is_named(rule: str, name: str, changes: dict[str, str]) -> None:
    assert rule in _of_one(name, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("doorbell_rings", {}),
        ("doorbell_wait_ns", {"unit": "seconds", "exponent": -9}),
        ("doorbell_delay_hist", {"kind": "log-histogram", "unit": "seconds", "exponent": -9, "more": 'group = "d"'}),
        ("max_doorbell_queue", {"kind": "peak"}),
        ("doorbells_pending", {"kind": "instant"}),
        ("doorbell_flags", {}),
    ],
)
def test_a_stat_that_keeps_the_rules_gets_no_word(name: str, changes: dict[str, str]) -> None:
    assert _of_one(name, **changes) == []  # type: ignore[arg-type]


def test_missing_meaning_and_tier_are_asked_for() -> None:
    proposal = parse_proposal('[[stat]]\nname = "doorbell_rings"\nscope = "vm"\nkind = "cumulative"\n', "p.toml")
    assert [objection.rule for objection in review(proposal)] == ["meaning", "tier"]


def test_cost_counts_what_is_always_on_and_shares_words_among_bits() -> None:
    bits = "".join(STAT.format(name=f"b{n}", scope="vcpu", kind="instant", unit="bit", exponent=0) for n in range(65))
    hist = STAT.format(name="h", scope="vcpu", kind="log-histogram", unit="none", exponent=0) + 'group = "heavy"\n'
    count = STAT.format(name="n", scope="vm", kind="cumulative", unit="none", exponent=0)
    found = cost(parse_proposal(bits + hist + count, "p.toml"))
    assert (found.vm, found.vcpu, found.vm_grouped, found.vcpu_grouped) == (8, 16, 0, 256)
    assert found.on_host(vms=10, vcpus=1000) == 10 * 8 + 1000 * 16


def test_many_bytes_that_are_always_on_are_asked_about() -> None:
    stats = "".join(
        STAT.format(name=f"ring_{n}s", scope="vcpu", kind="cumulative", unit="none", exponent=0)
        for n in range(COST_LIMIT // 8 + 1)
    )
    [objection] = review(parse_proposal(stats, "p.toml"))
    assert objection.rule == "cost"
    assert f"{COST_LIMIT + 8} bytes for each vCPU" in objection.says


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("", 1, "a key 'stat'"),
        ("stat = []", 1, "at least one [[stat]]"),
        ("[[stat]]\nname = 1\n", 1, "a key 'scope'"),
        ('[[stat]]\nname = "a"\nscope = "host"\nkind = "cumulative"\n', 3, "one of vm, vcpu"),
        ('[[stat]]\nname = "a"\nscope = "vm"\nkind = "counter"\n', 4, "one of cumulative"),
        ('[[stat]]\nname = "a"\nscope = "vm"\nkind = "peak"\nunits = "none"\n', 5, "one of"),
        ('[[stat]]\nname = "a"\nscope = "vm"\nkind = "peak"\nsize = "many"\n', 5, "a whole number"),
        ("[[stat]\n", 1, "TOML"),
    ],
)
def test_a_malformed_proposal_is_an_error_with_its_place(text: str, line: int, expected: str) -> None:
    with pytest.raises(CatalogError) as caught:
        parse_proposal(text, "proposal.toml")
    assert caught.value.file == "proposal.toml"
    assert caught.value.line == line
    assert expected in caught.value.expected
