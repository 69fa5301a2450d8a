"""Schema files: what is written is read again, and what is wrong is told with its place."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.codec.schema_json import FORMAT, encode, parse
from kvmscope.errors import CatalogError
from kvmscope.schema import Base, KernelTables, Kind, Scope, Shape, Table, Unit, Unknown

SIX_ONE = KernelTables(
    name="six.json",
    release="6.1.0-56-cloud-amd64",
    architecture="x86",
    captured=True,
    how="by hand",
    tables=(
        Table("kvm", Scope.VM, MappingProxyType({"mmu_unsync": Shape(Kind.INSTANT)}), 120),
        Table(
            "kvm",
            Scope.VCPU,
            MappingProxyType(
                {
                    "exits": Shape(Kind.CUMULATIVE),
                    "halt_wait_hist": Shape(Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32),
                    "sizes": Shape(Kind.LINEAR_HISTOGRAM, Unit.BYTES, Base.POW2, 10, 4, 16),
                    "inhibited": Shape(Kind.INSTANT, Unit.BIT, bucket_size=3),
                    "new": Shape(Unknown(7), Unknown(9), Unknown(5)),
                }
            ),
        ),
    ),
)
"""One of everything."""


def test_what_is_written_is_read_again() -> None:
    assert parse(encode(SIX_ONE), file="six.json") == SIX_ONE


def test_a_file_is_plain_json_with_a_line_a_stat() -> None:
    text = encode(SIX_ONE)
    root = json.loads(text)
    assert root["format"] == FORMAT
    assert root["kernel"] == {
        "release": "6.1.0-56-cloud-amd64",
        "architecture": "x86",
        "captured": True,
        "how": "by hand",
    }
    stats = [stat for schema in root["schemas"] for stat in schema["stats"]]
    assert len([line for line in text.splitlines() if '"name"' in line]) == len(stats) == 6
    assert stats[2] == {
        "name": "halt_wait_hist",
        "kind": "log_histogram",
        "unit": "seconds",
        "base": 10,
        "exponent": -9,
        "size": 32,
        "bucket_size": None,
    }


def test_a_kernel_without_stats_is_read_again() -> None:
    empty = KernelTables("f", None, None, False, "", (Table("kvm", Scope.VM, MappingProxyType({})),))
    assert parse(encode(empty), file="f") == empty
    none = KernelTables("f", None, None, False, "", ())
    assert parse(encode(none), file="f") == none


def test_further_keys_are_passed_over() -> None:
    root = json.loads(encode(SIX_ONE))
    root["later"] = root["schemas"][0]["stats"][0]["later"] = [1, {"a": 2}]
    assert parse(json.dumps(root), file="six.json") == SIX_ONE


shapes = st.builds(
    Shape,
    st.sampled_from([Kind.CUMULATIVE, Kind.INSTANT, Kind.PEAK, Kind.LOG_HISTOGRAM, Unknown(5), Unknown(15)]),
    st.sampled_from([Unit.NONE, Unit.BYTES, Unit.SECONDS, Unit.CYCLES, Unit.BOOLEAN, Unknown(6), Unknown(14)]),
    st.sampled_from([*Base, Unknown(2), Unknown(10), Unknown(15)]),
    st.integers(-(2**15), 2**15 - 1),
    st.integers(0, 2**16 - 1),
)


@given(st.dictionaries(st.text(), shapes), st.text(), st.none() | st.text())
def test_any_stats_are_read_again(stats: dict[str, Shape], provider: str, release: str | None) -> None:
    table = Table(provider, Scope.VCPU, MappingProxyType(stats), None)
    kernel = KernelTables("f", release, "arm64", False, "made up", (table,))
    assert parse(encode(kernel), file="f") == kernel


def _with(path: str, value: Any) -> str:
    """The text of the file with another value at a path; ``...`` takes the key away."""
    root = json.loads(encode(SIX_ONE))
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    node = root
    for part in parents:
        node = node[part]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return json.dumps(root, indent=1)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", "kvmscope/2", 'expected an object with "format": "kvmscope/1"'),
        ("schemas", ..., 'expected an object with "format": "kvmscope/1", "kernel" and "schemas"'),
        ("kernel", ..., 'expected a key "kernel", found none'),
        ("kernel", [], "kernel: expected an object, found a list"),
        ("kernel.release", 6.1, "kernel.release: expected text, found 6.1"),
        ("kernel.captured", "yes", 'kernel.captured: expected true or false, found "yes"'),
        ("schemas", {}, "schemas: expected a list, found an object"),
        ("schemas.0", 1, "schemas.0: expected an object, found 1"),
        ("schemas.0.scope", "host", 'schemas.0.scope: expected "vm" or "vcpu", found "host"'),
        ("schemas.1.scope", "vm", "schemas.1: expected one schema of kvm vm, found a second one"),
        ("schemas.0.data_size", -8, "schemas.0.data_size: expected a whole number from 0, found -8"),
        ("schemas.1.stats.1.name", "exits", 'schemas.1.stats.1.name: expected a unique name, found "exits" again'),
        ("schemas.1.stats.1.kind", "sum", 'schemas.1.stats.1.kind: expected one of cumulative, instant, peak'),
        ("schemas.1.stats.1.kind", "code 1", 'expected one of cumulative, instant, peak'),
        ("schemas.1.stats.1.unit", None, "schemas.1.stats.1.unit: expected one of none, bytes, seconds"),
        ("schemas.1.stats.1.base", True, "schemas.1.stats.1.base: expected one of 10, 2, found true"),
        ("schemas.1.stats.1.exponent", "9", 'schemas.1.stats.1.exponent: expected a whole number, found "9"'),
        ("schemas.1.stats.1.size", ..., 'schemas.1.stats.1: expected a key "size", found none'),
        ("schemas.1.stats.2.bucket_size", None, "schemas.1.stats.2.bucket_size: expected a whole number from 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(path: str, value: Any, message: str) -> None:
    text = _with(path, value)
    with pytest.raises(CatalogError) as caught:
        parse(text, file="six.json")
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"six.json:{caught.value.line}: ")
    if caught.value.what and value is not ...:
        key = caught.value.what.split(".")[-1]
        assert key.isdigit() or f'"{key}"' in text.splitlines()[caught.value.line - 1]


def test_the_line_is_that_of_the_stat() -> None:
    lines = encode(SIX_ONE).splitlines()
    number = next(i for i, line in enumerate(lines) if '"halt_wait_hist"' in line)
    lines[number] = lines[number].replace('"log_histogram"', '"histogram"')
    with pytest.raises(CatalogError) as caught:
        parse("\n".join(lines), file="six.json")
    assert (caught.value.line, caught.value.found) == (number + 1, '"histogram"')


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "{}", "null", '{"format": "kvmscope/1"}', "[1, 2"])
def test_what_is_no_schema_file_is_a_catalog_error(text: str) -> None:
    with pytest.raises(CatalogError, match=r"^six\.json:1"):
        parse(text, file="six.json")


def test_every_shorter_file_is_a_catalog_error() -> None:
    text = encode(SIX_ONE).rstrip()
    for length in range(len(text)):
        with pytest.raises(CatalogError):
            parse(text[:length], file="six.json")
