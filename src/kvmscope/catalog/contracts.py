"""Contracts: the stats on which a program relies, and the kernels concerned, as a TOML file shipped with the program.

Not here: whether a kernel fulfils a contract (``analysis.contract``).

Rule: a contract is read as a whole or not at all; any mistake in it is one ``CatalogError`` with file, line, expected
and found text. A stat that no kernel has is a broken promise, not a mistake.
docs/reference/schemas.md describes the format.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from ..schema import KernelTables, Scope, Shape
from .data import read_toml
from .kernels import PROVIDER, known_kernels, version_of
from .tomlfile import TomlEntry, read_root, shown
from .words import KINDS, UNITS, Measure

_HISTOGRAM_BUCKETS = 32
_GOVERNOR = "governor.toml"

# A few ASCII digits: int() also accepts other digits, and refuses thousands of them.
_VERSION = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})+")
_BOUND = re.compile(rf"\s*(>=|<=|>|<|==)\s*({_VERSION.pattern})\s*,?")
_COMPARE: Mapping[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}


@dataclass(frozen=True, slots=True)
class Kernels:
    """A set of kernel versions: those within all ``bounds``, or those of ``series``.

    A version is compared by as many parts as the bound has: 6.1.192 is ``<=6.1`` and belongs to the series 6.1.
    """

    text: str
    bounds: tuple[tuple[str, tuple[int, ...]], ...] = ()
    series: tuple[tuple[int, ...], ...] = ()

    def __contains__(self, version: tuple[int, ...]) -> bool:
        if self.series:
            return any(version[: len(each)] == each for each in self.series)
        return all(_COMPARE[sign](version[: len(bound)], bound) for sign, bound in self.bounds)


@dataclass(frozen=True, slots=True)
class Promise:
    """One stat on which the program relies. ``kernels``: None for all of the contract's; ``why``: its use."""

    provider: str
    scope: Scope
    name: str
    shape: Shape
    kernels: Kernels | None
    why: str


@dataclass(frozen=True, slots=True)
class Contract:
    """``architectures`` and ``kernels``: those that it states; empty and None if it states none."""

    name: str
    architectures: tuple[str, ...]
    kernels: Kernels | None
    promises: tuple[Promise, ...]

    def states(self, kernel: KernelTables) -> bool:
        """Whether the contract claims to hold on this kernel; False if its version is not known."""
        version = version_of(kernel)
        if self.kernels is None or version is None or kernel.architecture not in self.architectures:
            return False
        return version in self.kernels

    def stated(self) -> tuple[KernelTables, ...]:
        """The known kernels on which it claims to hold."""
        return tuple(kernel for kernel in known_kernels() if self.states(kernel))


def parse_contract(text: str, file: str) -> Contract:
    """A contract from TOML. Raises CatalogError if it is invalid, or if none of the kernels that it states is known."""
    root = read_root(text, file)
    root.check_keys(("name", "stat"), ("kernels", "architectures"))
    if ("kernels" in root) != ("architectures" in root):
        missing = "architectures" if "kernels" in root else "kernels"
        raise root.error("", f"both kernels and architectures, or neither; {missing!r} too", "one of them")
    architectures = _parse_architectures(root)
    contract = Contract(
        name=root.string("name"),
        architectures=architectures,
        kernels=_parse_kernels(root),
        promises=tuple(map(_parse_promise, root.tables("stat"))),
    )
    if not contract.promises:
        raise root.error("stat", "at least one [[stat]]", "none")
    if contract.kernels is not None and not contract.stated():
        known = [kernel.name.rpartition("-")[2] for kernel in known_kernels() if kernel.architecture in architectures]
        raise root.error("kernels", f"some of {known[0]} to {known[-1]}", shown(contract.kernels.text))
    _check_twice(root, contract.promises)
    return contract


@cache
def load_governor_contract() -> Contract:
    """The contract of ``kvmscope govern polling``."""
    return parse_contract(read_toml(_GOVERNOR), _GOVERNOR)


def _parse_architectures(root: TomlEntry) -> tuple[str, ...]:
    known = dict.fromkeys(kernel.architecture for kernel in known_kernels())
    found = root.strings("architectures")
    if "architectures" in root and not found:
        raise root.error("architectures", "at least one architecture", "an empty list")
    for name in found:
        if name not in known:
            raise root.error("architectures", f"architectures, of {', '.join(map(str, known))}", shown(name))
    return found


def _parse_kernels(entry: TomlEntry) -> Kernels | None:
    value = entry.get("kernels")
    if value is None:
        return None
    if isinstance(value, str):
        bounds = [(bound[1], _version(bound[2])) for bound in _BOUND.finditer(value)]
        if not bounds or _BOUND.sub("", value).strip():
            raise entry.error("kernels", 'bounds such as ">=5.15 <6.12", or a list of versions', shown(value))
        return Kernels(value, bounds=tuple(bounds))
    series = entry.strings("kernels")
    if not series:
        raise entry.error("kernels", "at least one version", "an empty list")
    for text in series:
        if not _VERSION.fullmatch(text):
            raise entry.error("kernels", "versions such as 6.1", shown(text))
    return Kernels(", ".join(series), series=tuple(map(_version, series)))


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def _parse_promise(entry: TomlEntry) -> Promise:
    entry.check_keys(("name", "scope", "kind"), ("provider", "unit", "size", "kernels", "why"))
    kind = KINDS[_word(entry, "kind", KINDS)]
    measure: Measure = UNITS[_word(entry, "unit", UNITS, "none")]
    size = entry.integer("size", _HISTOGRAM_BUCKETS if kind.is_histogram else 1)
    if size < 1:
        raise entry.error("size", "a number of values or buckets, 1 or more", str(size))
    return Promise(
        provider=entry.string("provider", PROVIDER),
        scope=entry.choice("scope", Scope),
        name=entry.string("name"),
        shape=Shape(kind, measure.unit, exponent=measure.exponent, size=size),
        kernels=_parse_kernels(entry),
        why=entry.string("why") if "why" in entry else "",
    )


def _word(entry: TomlEntry, key: str, words: Mapping[str, object], default: str | None = None) -> str:
    word = entry.string(key, default)
    if word not in words:
        raise entry.error(key, f"one of {', '.join(words)}", shown(word))
    return word


def _check_twice(root: TomlEntry, promises: tuple[Promise, ...]) -> None:
    seen: set[tuple[str, Scope, str]] = set()
    for entry, promise in zip(root.tables("stat"), promises, strict=True):
        key = (promise.provider, promise.scope, promise.name)
        if key in seen:
            raise entry.error("name", "a stat of its own", f"{shown(promise.name)} of the same scope again")
        seen.add(key)
