"""The file of caveats: whole, strict, and with conditions that are what they look like."""

from __future__ import annotations

import re

import pytest

from kvmscope.catalog.caveats import (
    AllOf,
    AlwaysHolds,
    AnyOf,
    ApicvActivity,
    ApicvIs,
    ArchitectureIs,
    Condition,
    HasCpuFlag,
    HasStat,
    HasVmmOption,
    Inverted,
    ModuleIs,
    Paging,
    PagingIs,
    ParameterIs,
    SettingIs,
    Undecidable,
    ValueIs,
    load_caveats,
    parse_caveats,
)
from kvmscope.errors import CatalogError
from kvmscope.schema import Kind, Scope

HEAD = """
[[caveat]]
slug = "some"
text = "It says less."
"""


def condition(text: str) -> Condition:
    return parse_caveats(f"{HEAD}holds_if = {text}\n")["some"].holds_if


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{parameter = "kvm_intel.pml", is = "Y"}', ParameterIs("kvm_intel", "pml", ("Y",))),
        ('{parameter = "kvm.nx", is = ["N", "never"]}', ParameterIs("kvm", "nx", ("N", "never"))),
        ('{module = "kvm_amd"}', ModuleIs("kvm_amd")),
        ('{architecture = "s390"}', ArchitectureIs("s390")),
        ('{cpu_flag = "x2avic"}', HasCpuFlag("x2avic")),
        ('{paging = "tdp"}', PagingIs(Paging.TDP)),
        ('{stat = "pf_fast"}', HasStat("kvm", Scope.VCPU, "pf_fast")),
        ('{stat = "x", scope = "vm", provider = "apicv"}', HasStat("apicv", Scope.VM, "x")),
        ('{apicv = "inactive"}', ApicvIs(ApicvActivity.INACTIVE)),
        ('{value = "exits", is = 0}', ValueIs("kvm", Scope.VCPU, "exits", 0, equal=True)),
        ('{value = "guest_mode", is_not = 0}', ValueIs("kvm", Scope.VCPU, "guest_mode", 0, equal=False)),
        ('{setting = "confidential", is = "tdx"}', SettingIs("confidential", "tdx")),
        ('{vmm_option = "cpu-pm=on"}', HasVmmOption(("cpu-pm=on",))),
        ('{always = "so"}', AlwaysHolds("so")),
        ('{cannot_tell = "dark"}', Undecidable("dark")),
        ('{not = {module = "a"}}', Inverted(ModuleIs("a"))),
        ('{all = [{module = "a"}, {any = [{module = "b"}]}]}', AllOf((ModuleIs("a"), AnyOf((ModuleIs("b"),))))),
    ],
)
def test_a_condition_is_read_as_it_is_written(text: str, expected: Condition) -> None:
    assert condition(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "found none of them"),
        ('{module = "a", paging = "tdp"}', "found module and paging"),
        ('{parameter = "pml", is = "Y"}', "expected module.parameter"),
        ('{parameter = "kvm.pml"}', "expected a text or a list of texts, found none"),
        ('{parameter = "kvm.pml", is = "Y", scope = "vm"}', "found 'scope'"),
        ('{paging = "nested"}', "expected one of tdp, shadow"),
        ('{apicv = "on"}', "expected one of active, inactive"),
        ('{value = "exits"}', "expected either is or is_not, found neither"),
        ('{value = "exits", is = 0, is_not = 1}', "expected either is or is_not, found both"),
        ('{value = "exits", is = "0"}', "expected a whole number"),
        ('{stat = "exits", scope = "host"}', "expected one of vm, vcpu"),
        ("{all = []}", "expected a list of conditions"),
        ('{not = "kvm_amd"}', "expected a table"),
        ('{modul = "kvm_amd"}', "found none of them"),
        ('{all = [{module = "a"}, {modul = "b"}]}', "found none of them"),
    ],
)
def test_a_wrong_condition_is_an_error_that_names_its_line(text: str, message: str) -> None:
    with pytest.raises(CatalogError, match=re.escape(message)) as caught:
        condition(text)
    assert caught.value.line == 5


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        (HEAD, "expected a key 'holds_if'"),
        (HEAD + 'holds_if = {always = "so"}\nwhy = "?"\n', "found 'why'"),
        (2 * (HEAD + 'holds_if = {always = "so"}\n'), "which line 2 has"),
        (HEAD + 'holds_if = {always = "so"}\nevery = {kinds = ["cumulative"]}\n', "expected a key 'providers'"),
        (HEAD + 'holds_if = {always = "so"}\nevery = {providers = ["kvm"], kinds = ["count"]}\n', "found 'count'"),
    ],
)
def test_a_wrong_caveat_is_an_error(spoiled: str, message: str) -> None:
    with pytest.raises(CatalogError, match=re.escape(message)):
        parse_caveats(spoiled)


def test_a_caveat_covers_the_stats_of_its_sort() -> None:
    every = parse_caveats(
        f'{HEAD}holds_if = {{always = "so"}}\nevery = {{providers = ["kvm"], scope = "vm", kinds = ["peak"]}}\n'
    )["some"].every
    assert every is not None
    assert every.covers("kvm", Scope.VM, Kind.PEAK)
    assert not every.covers("apicv", Scope.VM, Kind.PEAK)
    assert not every.covers("kvm", Scope.VCPU, Kind.PEAK)
    assert not every.covers("kvm", Scope.VM, Kind.INSTANT)


def test_every_caveat_is_told_in_sentences() -> None:
    for caveat in load_caveats().values():
        assert re.fullmatch(r"(kvm_|[A-Z]).*\.", caveat.text), caveat.slug
        assert "  " not in caveat.text, caveat.slug


def test_no_condition_compares_versions() -> None:
    # Stable kernels carry changes of later ones, so that a version decides nothing.
    for caveat in load_caveats().values():
        assert "release" not in repr(caveat.holds_if), caveat.slug
