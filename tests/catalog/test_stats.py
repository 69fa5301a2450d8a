"""The catalogue of statistics: whole, strict, and in agreement with what kernels say of their stats."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from kvmscope.catalog.caveats import load_caveats
from kvmscope.catalog.inhibits import load_inhibits
from kvmscope.catalog.kernels import known_kernels
from kvmscope.catalog.stats import ChangedPart, StatCatalog, load_stats, parse_stats, release
from kvmscope.codec import apicv, statsfile
from kvmscope.codec.snapshot import Feature
from kvmscope.errors import CatalogError
from kvmscope.schema import Descriptor, Kind, Schema, Scope, Shape, Tier, Unit

DATA = Path(__file__).parent.parent / "data" / "statsfile"

ENTRY = """
[architectures]
x86 = "5.14"
riscv = "5.16"

[[stat]]
name = "waits"
scope = "vcpu"
since = "5.15"
kind = "log-histogram"
unit = "nanoseconds"
tier = "abi-like"
meaning = "Waits by how long they lasted."
compare = ["waits"]
caveats = ["lost-counts"]
changed = [{since = "5.19", what = "unit", was = "none", text = "A bare number.", architectures = ["x86"]}]
"""


def captured(scope: str) -> Schema:
    return statsfile.parse((DATA / f"x86-6.18-{scope}.bin").read_bytes()).schema("kvm", Scope(scope))


def uncatalogued(schema: Schema) -> list[str]:
    stats = load_stats()
    found = {d.name: stats.find(schema.provider, schema.scope, d.name) for d in schema.descriptors}
    return [d.name for d in schema.descriptors if (e := found[d.name]) is None or not e.agrees_with(d)]


@pytest.mark.parametrize("scope", ["vm", "vcpu"])
def test_every_stat_of_a_captured_kernel_is_catalogued_as_that_kernel_describes_it(scope: str) -> None:
    schema = captured(scope)
    assert len(schema.descriptors) == {"vm": 15, "vcpu": 45}[scope]
    assert uncatalogued(schema) == []


@pytest.mark.parametrize("scope", ["vm", "vcpu"])
def test_what_a_captured_kernel_has_is_what_the_catalogue_says_it_has(scope: str) -> None:
    by_catalogue = {e.name for e in load_stats().of_kernel("x86", "6.18") if e.scope is Scope(scope)}
    assert by_catalogue == set(captured(scope).names)


def test_the_schemas_of_simulated_hosts_are_catalogued() -> None:
    tables = json.loads(files("kvmscope.lab").joinpath("data/kvm-x86.json").read_text(encoding="utf-8"))
    stats = load_stats()
    for scope in Scope:
        for table in tables[scope.value]:
            entry = stats.find("kvm", scope, table["name"])
            assert entry is not None, table["name"]
            assert entry.shape == Shape(
                Kind[table["kind"].upper().replace("-", "_")],
                Unit[table["unit"].upper()],
                exponent=table["exponent"],
                size=table["size"],
            )


def test_every_stat_of_provider_apicv_is_catalogued_for_every_reason() -> None:
    reasons = dict(enumerate(load_inhibits()))
    every = Feature(0)
    for feature in Feature:
        every |= feature
    counted = frozenset(apicv.Counted)
    vm = apicv.vm_schema(reasons, every, counted, registers=True)
    vcpu = apicv.vcpu_schema(counted, registers=True)
    assert len(vm.descriptors) > 4 * len(reasons)
    assert uncatalogued(vm) + uncatalogued(vcpu) == []


# Numbers of descriptors, vCPU and VM, read from the tables in the kernels' source.
@pytest.mark.parametrize(
    ("architecture", "kernel", "vcpu", "vm"),
    [
        ("x86", "5.14", 32, 11),
        ("x86", "5.16", 36, 15),
        ("x86", "5.18", 37, 15),
        ("x86", "5.19", 44, 15),
        ("x86", "6.0", 45, 15),
        ("x86", "7.1", 45, 15),
        ("x86", "7.3", 45, 16),
        ("arm64", "6.1", 18, 2),
        ("arm64", "7.3", 18, 2),
        ("riscv", "5.14", 0, 0),
        ("riscv", "5.18", 16, 2),
        ("riscv", "6.1", 19, 2),
        ("riscv", "6.12", 20, 2),
        ("riscv", "7.3", 25, 2),
        ("s390", "5.18", 104, 7),
        ("s390", "6.12", 105, 15),
        ("s390", "7.3", 106, 21),
        ("powerpc", "6.1", 40, 4),
        ("powerpc", "7.3", 40, 4),
        ("mips", "7.3", 38, 2),
        ("loongarch", "6.1", 0, 0),
        ("loongarch", "6.12", 16, 4),
        ("loongarch", "7.3", 22, 4),
    ],
)
def test_each_kernel_has_as_many_stats_as_its_tables(architecture: str, kernel: str, vcpu: int, vm: int) -> None:
    stats = load_stats().of_kernel(architecture, kernel)
    assert sum(entry.scope is Scope.VCPU for entry in stats) == vcpu
    assert sum(entry.scope is Scope.VM for entry in stats) == vm


@pytest.mark.parametrize("architecture", ["x86", "arm64", "riscv", "s390", "powerpc", "mips", "loongarch"])
def test_every_known_kernel_has_what_the_catalogue_says_and_nothing_else(architecture: str) -> None:
    stats = load_stats()
    had: dict[str, dict[tuple[Scope, str], Shape]] = {}
    for kernel in known_kernels():
        # It says nothing of stable kernels such as 5.15.100. Ports share an architecture, as Book E does with powerpc.
        if kernel.architecture == architecture and kernel.name.count(".") == 1:
            found = had.setdefault(kernel.name.rsplit("-", 1)[1], {})
            found.update({(table.scope, name): shape for table in kernel.tables for name, shape in table.stats.items()})
    assert len(had) >= 17
    for series, found in had.items():
        entries = stats.of_kernel(architecture, series)
        assert {(e.scope, e.name): e.shape_in(series) for e in entries} == found, series


def test_the_catalogue_has_no_stat_that_no_known_kernel_has() -> None:
    known = {(table.scope, name) for kernel in known_kernels() for table in kernel.tables for name in table.stats}
    assert {(e.scope, e.name) for e in load_stats() if e.provider == "kvm"} == known


def test_every_meaning_is_one_sentence() -> None:
    for entry in load_stats():
        assert re.fullmatch(r"[1A-Z].*[^.]\.", entry.meaning), entry.name
        assert not re.search(r"\. [A-Z]", entry.meaning), entry.name


def test_booleans_say_when_they_are_1() -> None:
    for entry in load_stats():
        assert (entry.unit is Unit.BOOLEAN) == entry.meaning.startswith("1 "), entry.name


def test_no_two_stats_of_one_subject_mean_the_same() -> None:
    seen = [(e.provider, e.scope, tuple(e.since), e.meaning) for e in load_stats() if e.template is None]
    assert len(seen) == len(set(seen))


def test_the_stats_that_programs_lean_on_are_marked_so() -> None:
    tiers = {entry.name: entry.tier for entry in load_stats() if entry.provider == "kvm"}
    for name in "guest_mode halt_wait_ns halt_exits exits signal_exits remote_tlb_flush".split():
        assert tiers[name] is Tier.ABI_LIKE
    for name in "irq_injections pf_fast io_exits".split():
        assert tiers[name] is Tier.STABLE
    for name in "mmu_recycled host_state_reload fpu_reload req_event l1d_flush".split():
        assert tiers[name] is Tier.VOLATILE


def test_a_removed_stat_names_what_replaced_it() -> None:
    (lpages,) = load_stats().named("lpages")
    assert (lpages.until, lpages.replaced_by) == ("5.15", ("pages_4k", "pages_2m", "pages_1g"))
    assert lpages.had_by("x86", "5.14")
    assert not lpages.had_by("x86", "5.15")
    assert not lpages.had_by("arm64", "5.14")


def test_a_stat_is_told_as_an_older_kernel_describes_it() -> None:
    (guest_mode,) = load_stats().named("guest_mode")
    assert guest_mode.shape_in("5.18") == Shape(Kind.INSTANT, Unit.NONE)
    assert guest_mode.shape_in("5.19") == guest_mode.shape == Shape(Kind.INSTANT, Unit.BOOLEAN)


def test_a_changed_meaning_is_told_with_its_kernel() -> None:
    (pf_fixed,) = load_stats().named("pf_fixed")
    assert [(change.since, change.what) for change in pf_fixed.changed] == [("5.19", ChangedPart.MEANING)]
    assert pf_fixed.shape_in("5.14") == pf_fixed.shape


def test_one_name_can_be_of_several_providers_and_scopes() -> None:
    assert {(e.provider, e.scope) for e in load_stats().named("signal_exits")} == {("kvm", Scope.VCPU)}
    assert load_stats().named("apicv_inhibit_sev")[0].scope is Scope.VM


def test_what_the_catalogue_lacks_is_not_found() -> None:
    stats = load_stats()
    assert stats.find("kvm", Scope.VCPU, "invented") is None
    assert stats.find("kvm", Scope.VM, "exits") is None
    assert stats.find("apicv", Scope.VM, "inhibit_sev") is None
    assert stats.named("invented") == ()


def test_a_stat_of_many_is_found_by_the_name_with_the_most_letters_of_its_own() -> None:
    stats = load_stats()
    held = stats.find("apicv", Scope.VM, "apicv_inhibit_unchanged_pit_reinj_ns")
    assert held is not None
    assert held.template == "apicv_inhibit_unchanged_{reason}_ns"
    assert "reason pit_reinj " in held.meaning
    assert held.compare == ("apicv_inhibited_pit_reinj_ns",)
    state = stats.find("apicv", Scope.VM, "apicv_inhibit_apic_id_modified")
    assert state is not None
    assert state.template == "apicv_inhibit_{reason}"


def test_templates_tell_a_count_from_a_time_of_the_same_reason() -> None:
    text = ENTRY + "".join(
        f'[[stat]]\nname = "exit_{{reason}}{end}"\nprovider = "exits"\nscope = "vcpu"\nsince = {{x86 = "6.1"}}\n'
        f'tier = "volatile"\nmeaning = "Of {{reason}}{end}."\n'
        for end in ("", "_ns", "_hist")
    )
    stats = parse_stats(text)
    for end in ("", "_ns", "_hist"):
        found = stats.find("exits", Scope.VCPU, f"exit_ept_violation{end}")
        assert found is not None
        assert found.meaning == f"Of ept_violation{end}."


def test_a_stat_of_all_architectures_is_as_old_as_the_kvm_of_each() -> None:
    (waits,) = parse_stats(ENTRY)
    assert dict(waits.since) == {"x86": "5.15", "riscv": "5.16"}
    assert waits.shape == Shape(Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32)
    assert waits.shape_in("5.18") == Shape(Kind.LOG_HISTOGRAM, Unit.NONE, size=32)
    assert waits.agrees_with(Descriptor("waits", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32))
    assert not waits.agrees_with(Descriptor("waits", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=8))


def test_releases_are_ordered_as_numbers() -> None:
    assert release("6.9") < release("6.10") < release("7.0")
    with pytest.raises(ValueError, match="not a kernel release"):
        release("6.1.176")


def test_caveats_of_a_sort_of_stats_need_not_be_named() -> None:
    (waits,) = parse_stats(ENTRY)
    assert waits.caveats == ("lost-counts", "since-creation", "cleared-by-root")
    (guest_mode,) = load_stats().named("guest_mode")
    assert "cleared-by-root" not in guest_mode.caveats


def test_every_caveat_is_of_some_stat() -> None:
    assert {slug for entry in load_stats() for slug in entry.caveats} == set(load_caveats())


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('scope = "vcpu"', "", 6, "expected a key 'scope'"),
        ('scope = "vcpu"', 'scope = "host"', 8, "expected one of vm, vcpu, found 'host'"),
        ("tier", "teir", 12, "found 'teir'"),
        ('"abi-like"', '"eternal"', 12, "expected one of abi-like, stable, volatile"),
        ('"log-histogram"', '"counter"', 10, "found 'counter'"),
        ('"nanoseconds"', '"ns"', 11, "found 'ns'"),
        ('since = "5.15"', 'since = "v5"', 9, "expected a kernel such as 6.12, found 'v5'"),
        ('since = "5.15"', 'since = {arm = "5.15"}', 9, "expected an architecture, of x86, riscv, found 'arm'"),
        ('compare = ["waits"]', 'compare = ["wait"]', 14, "expected stats of this file, found 'wait'"),
        ('["lost-counts"]', '["lost"]', 15, "expected slugs of caveats.toml, found 'lost'"),
        ('was = "none", ', "", 16, "expected a key 'was'"),
        ('meaning = "Waits by how long they lasted."', 'meaning = " "', 13, "found blank text"),
        ("[[stat]]", "[[stats]]", 6, "[[stat]]"),
        ('name = "waits"', 'name = "wai ts"', 7, "found 'wai ts'"),
    ],
)
def test_a_wrong_entry_is_an_error_that_names_its_line(old: str, new: str, line: int, message: str) -> None:
    assert old in ENTRY
    with pytest.raises(CatalogError) as caught:
        parse_stats(ENTRY.replace(old, new, 1), "some.toml")
    assert caught.value.line == line
    assert str(caught.value).startswith(f"some.toml:{line}: ")
    assert message in str(caught.value)


def test_a_stat_that_comes_twice_is_an_error_that_names_both_lines() -> None:
    twice = ENTRY + ENTRY[ENTRY.index("[[stat]]") :]
    with pytest.raises(CatalogError, match=r":18: .*which line 6 has"):
        parse_stats(twice)


def test_the_catalogue_iterates_in_the_order_of_its_file() -> None:
    stats = load_stats()
    assert isinstance(stats, StatCatalog)
    assert len(list(stats)) == len(stats)
    assert next(iter(stats)).name == "remote_tlb_flush"
