"""The known kernels: all there, equal to what such kernels told themselves, and where history says they differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmscope.catalog.kernels import (
    PROVIDER,
    architecture_of,
    find_kernel,
    known_kernels,
    read_kernels,
    read_stat,
    version_of,
)
from kvmscope.codec.statsfile import parse
from kvmscope.errors import CatalogError, UsageError
from kvmscope.schema import KernelTables, Kind, Scope, Shape, Unit

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
CAPTURED = Path(__file__).parent.parent / "data" / "statsfile"
RAN = ("x86-6.1", "x86-6.12", "x86-6.18", "x86-7.3", "arm64-6.1")


def names(kernel: KernelTables, scope: Scope) -> set[str]:
    return {name for table in kernel.tables if table.scope is scope for name in table.stats}


def test_every_series_of_every_architecture_is_known() -> None:
    series = [*((5, m) for m in range(14, 20)), *((6, m) for m in range(20)), *((7, m) for m in range(4))]
    first = {"riscv": (5, 16), "loongarch": (6, 7)}
    for architecture in ("x86", "arm64", "riscv", "s390", "powerpc", "mips", "loongarch"):
        wanted = [each for each in series if each >= first.get(architecture, series[0])]
        for major, minor in wanted:
            kernel = find_kernel(f"{major}.{minor}", architecture)
            assert (kernel.architecture, version_of(kernel)) == (architecture, (major, minor))
            assert [(table.provider, table.scope) for table in kernel.tables] == [(PROVIDER, scope) for scope in Scope]
            assert all(table.stats for table in kernel.tables)
            assert kernel.how


@pytest.mark.parametrize(
    ("page", "words"),
    [("commands.md", "Known are 5.14 to {newest}."), ("schemas.md", "whose stats describe themselves, to {newest}:")],
)
def test_the_reference_names_the_newest_kernel(page: str, words: str) -> None:
    newest = max(version for kernel in known_kernels() if (version := version_of(kernel)))
    text = " ".join((REFERENCE / page).read_text(encoding="utf-8").split())
    assert words.format(newest=".".join(map(str, newest[:2]))) in text


def test_names_are_unique() -> None:
    kernels = [kernel.name for kernel in known_kernels()]
    assert len(kernels) == len(set(kernels))


@pytest.mark.parametrize("name", RAN)
def test_what_is_marked_captured_is_what_the_kernel_told(name: str) -> None:
    kernel = find_kernel(name)
    assert kernel.captured
    files = [parse((CAPTURED / f"{name}-{scope.value}.bin").read_bytes()) for scope in Scope]
    told = tuple(file.schema(PROVIDER, scope).table for file, scope in zip(files, Scope, strict=True))
    assert kernel.tables == told


def test_nothing_else_is_marked_captured() -> None:
    assert {kernel.name for kernel in known_kernels() if kernel.captured} == set(RAN)


@pytest.mark.parametrize("name", RAN)
def test_captured_kernels_agree_with_neighbours_that_are_derived(name: str) -> None:
    """The x86 table changed once between 6.0 and 7.3, that of arm64 never after 5.15."""
    architecture, _, series = name.partition("-")
    neighbour = {"6.1": "6.0", "6.12": "6.11", "6.18": "6.17", "7.3": "7.2"}[series]
    derived = find_kernel(neighbour, architecture)
    assert not derived.captured
    assert [table.stats for table in derived.tables] == [table.stats for table in find_kernel(name).tables]


def test_counts_are_those_of_the_stats_files() -> None:
    """The numbers of descriptors that kernels were seen to have (kernel selftest output, stats fd headers)."""
    counts = {"arm64": 18, "riscv": 25, "s390": 106, "powerpc": 40, "mips": 37, "mips-loongson64": 38, "loongarch": 22}
    for architecture, count in counts.items():
        assert len(names(find_kernel(f"{architecture}-7.3"), Scope.VCPU)) == count
    assert len(names(find_kernel("s390-7.3"), Scope.VM)) == 21


def test_histograms_and_booleans_have_their_shape() -> None:
    vcpu = {table.scope: table for table in find_kernel("7.3").tables}[Scope.VCPU].stats
    assert vcpu["halt_wait_hist"] == Shape(Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32)
    assert vcpu["guest_mode"] == Shape(Kind.INSTANT, Unit.BOOLEAN)
    before = {table.scope: table for table in find_kernel("5.18").tables}[Scope.VCPU].stats
    assert before["guest_mode"] == Shape(Kind.INSTANT)


def test_a_stable_release_with_more_than_its_series_is_there_too() -> None:
    added = {"preemption_reported", "preemption_other"}
    assert names(find_kernel("5.15.100"), Scope.VCPU) - names(find_kernel("5.15"), Scope.VCPU) == added
    assert "gmap_shadow_create" in names(find_kernel("s390-6.1.192"), Scope.VM) - names(
        find_kernel("s390-6.1"), Scope.VM
    )


def test_ports_of_one_architecture_differ() -> None:
    book3s, booke = find_kernel("powerpc-7.3"), find_kernel("powerpc-booke-7.3")
    assert book3s.architecture == booke.architecture == "powerpc"
    assert names(book3s, Scope.VCPU) - names(booke, Scope.VCPU) >= {"pf_storage", "ld_slow"}


def test_an_unknown_kernel_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no kernel called '5.13' is known; did you mean .*x86-5.1"):
        find_kernel("5.13")


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [
        ("x86_64", "x86"), ("i686", "x86"), ("aarch64", "arm64"), ("riscv64", "riscv"), ("s390x", "s390"),
        ("ppc64le", "powerpc"), ("mips64", "mips"), ("loongarch64", "loongarch"), ("sparc64", "sparc64"),
        ("ia64", "ia64"),
    ],
)  # fmt: skip
def test_machines_have_the_kernels_word(machine: str, architecture: str) -> None:
    assert architecture_of(machine) == architecture


def test_versions_come_from_the_name_or_the_release() -> None:
    assert version_of(find_kernel("5.15.100")) == (5, 15, 100)
    live = KernelTables("here", "6.18.44-cloud", "x86", True, "", ())
    assert version_of(live) == (6, 18, 44)
    assert version_of(KernelTables("kernel-9.9.json", None, "x86", True, "", ())) is None


@pytest.mark.parametrize("text", ["", "exits sum", "exits cumulative 10^-9", "a b c d e", "exits cumulative none@3^1"])
def test_what_is_no_stat_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        read_stat(text)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kernels": [{}], "tables": {"vm": [], "vcpu": []}}', '{"tables": {"vm": [["a b"]]}}']
)
def test_a_malformed_file_is_a_catalog_error(text: str) -> None:
    with pytest.raises(CatalogError, match=r"^x86\.json:1: expected the kernels of an architecture"):
        read_kernels(text, "x86.json")
