"""Contracts: what they say, and what is wrong with those that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmscope.catalog.contracts import Kernels, parse_contract
from kvmscope.catalog.kernels import version_of
from kvmscope.errors import CatalogError
from kvmscope.schema import Kind, Scope, Shape, Unit

EXAMPLE = Path(__file__).parents[2] / "examples" / "contract.toml"
HEAD = 'name = "x"\narchitectures = ["x86"]\n'
STAT = '[[stat]]\nname = "exits"\nscope = "vcpu"\nkind = "cumulative"\n'


def test_the_example_is_one() -> None:
    contract = parse_contract(EXAMPLE.read_text(encoding="utf-8"), "contract.toml")
    assert [promise.name for promise in contract.promises] == [
        *("halt_poll_fail_ns", "halt_wait_hist", "pages_2m", "mmu_shadow_pages")
    ]
    first, second, third, last = contract.promises
    assert first.shape == Shape(Kind.CUMULATIVE, Unit.SECONDS, exponent=-9)
    assert second.shape == Shape(Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32)
    assert (third.provider, third.scope, third.shape) == ("kvm", Scope.VM, Shape(Kind.INSTANT))
    assert last.kernels is not None
    assert (7, 2) in last.kernels
    assert (7, 1) not in last.kernels
    versions = [version_of(kernel) for kernel in contract.stated()]
    assert versions[0] == (5, 15)
    assert {kernel.architecture for kernel in contract.stated()} == {"x86"}


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=5.15", [(5, 15), (5, 15, 100), (6, 1), (7, 3)], [(5, 14), (5, 14, 2)]),
        (">= 5.15, <6.1", [(6, 0), (6, 0, 19)], [(6, 1), (6, 1, 192)]),
        (">=5.15 <=6.1", [(6, 1), (6, 1, 192)], [(6, 2)]),
        (">6.1", [(6, 2)], [(6, 1, 192)]),
        (">=6.1.100", [(6, 1, 192), (6, 2)], [(6, 1), (6, 1, 99)]),
        ("==6.12", [(6, 12), (6, 12, 95)], [(6, 1), (6, 13)]),
    ],
)  # fmt: skip
def test_bounds_hold_with_as_many_parts_as_they_have(
    text: str, inside: list[tuple[int, ...]], outside: list[tuple[int, ...]]
) -> None:
    kernels = parse_contract(f'{HEAD}kernels = "{text}"\n{STAT}', "c.toml").kernels
    assert kernels is not None
    assert [version in kernels for version in inside + outside] == [True] * len(inside) + [False] * len(outside)


def test_a_list_has_series_and_releases() -> None:
    kernels = Kernels("", series=((6, 1), (5, 15, 100)))
    assert all(version in kernels for version in [(6, 1), (6, 1, 192), (5, 15, 100)])
    assert not any(version in kernels for version in [(6, 12), (5, 15)])


def test_a_contract_may_state_no_kernels() -> None:
    contract = parse_contract(f'name = "x"\n{STAT}', "c.toml")
    assert (contract.kernels, contract.stated()) == (None, ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "c.toml:1: expected TOML"),
        (STAT, "c.toml:1: expected a key 'name', found none"),
        ('name = "x"\n', "expected a key 'stat'"),
        ('name = "x"\nstat = []\n', "c.toml:2: x: stat: expected at least one [[stat]], found none"),
        (
            f'name = "x"\nkernel = "6.1"\n{STAT}',
            "c.toml:2: x: kernel: expected one of architectures, kernels, name, stat",
        ),
        (f'name = "x"\nkernels = ["6.1"]\n{STAT}', "expected both kernels and architectures"),
        (
            f'name = "x"\narchitectures = ["x64"]\nkernels = ["6.1"]\n{STAT}',
            "c.toml:2: x: architectures: expected archi",
        ),
        (f'{HEAD}kernels = "6.1"\n{STAT}', 'c.toml:3: x: kernels: expected bounds such as ">=5.15 <6.12", or a list'),
        (f'{HEAD}kernels = ">=6.1 or so"\n{STAT}', 'c.toml:3: x: kernels: expected bounds such as ">=5.15 <6.12"'),
        (f'{HEAD}kernels = ["v6.1"]\n{STAT}', "c.toml:3: x: kernels: expected versions such as 6.1, found 'v6.1'"),
        (
            f'name = "x"\narchitectures = []\nkernels = ">=6.1"\n{STAT}',
            "c.toml:2: x: architectures: expected at least one architecture, found an empty list",
        ),
        (f"{HEAD}kernels = []\n{STAT}", "c.toml:3: x: kernels: expected at least one version, found an empty list"),
        (f'{HEAD}kernels = ">=٦.١"\n{STAT}', "c.toml:3: x: kernels: expected bounds such as"),
        (f'name = "x"\n{STAT}kernels = []\n', "c.toml:6: stat exits: kernels: expected at least one version"),
        (f'{HEAD}kernels = ">=99.0"\n{STAT}', "c.toml:3: x: kernels: expected some of 5.14 to "),
        (f'name = "x"\n{STAT}scop = "vm"\n', "c.toml:6: stat exits: scop: expected one of kernels, kind, name"),
        ('name = "x"\n[[stat]]\nname = "a"\nscope = "vm"\n', "c.toml:2: stat a: expected a key 'kind', found none"),
        (f'name = "x"\n{STAT}'.replace("vcpu", "host"), "c.toml:4: stat exits: scope: expected one of vm, vcpu"),
        (f'name = "x"\n{STAT}'.replace("cumulative", "sum"), "c.toml:5: stat exits: kind: expected one of cumulative"),
        (f'name = "x"\n{STAT}unit = "ns"\n', "c.toml:6: stat exits: unit: expected one of none, nanoseconds"),
        (f'name = "x"\n{STAT}size = 0\n', "c.toml:6: stat exits: size: expected a number of values or buckets"),
        (f'name = "x"\n{STAT}kernels = 6\n', "c.toml:6: stat exits: kernels: expected a list of texts"),
        (f'name = "x"\n{STAT}{STAT}', "c.toml:7: stat exits: name: expected a stat of its own"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(CatalogError) as caught:
        parse_contract(text, "c.toml")
    assert message in str(caught.value)
    assert caught.value.file == "c.toml"
