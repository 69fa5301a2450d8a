"""What changes the meaning of a stat on some hosts, from caveats.toml: texts, and the conditions under which they hold.

Not here: whether a condition holds (``analysis.caveats``).
Rule: a condition names what to inspect, never a kernel version; a condition that cannot be seen is ``Undecidable``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import TypeAlias

from ..schema import Kind, Scope
from .data import read_toml
from .tomlfile import TomlEntry, read_tables, shown, unique
from .words import KINDS

FILE = "caveats.toml"
# A limit on keys and list indices; dotted keys nest without limit in TOML.
_DEPTH_MAX = 32


class ApicvActivity(Enum):
    """The APICv state of some vCPU of the VM."""

    ACTIVE = "active"
    INACTIVE = "inactive"


class Paging(Enum):
    """How guest addresses are translated: by two-dimensional paging (EPT/NPT), or by page tables that KVM shadows."""

    TDP = "tdp"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class ParameterIs:
    """A parameter of a module has one of these values, as sysfs writes them.

    ``absent``: the value to assume for a module without the parameter; "" if that is unknown.
    """

    module: str
    name: str
    values: tuple[str, ...]
    absent: str = ""


@dataclass(frozen=True, slots=True)
class ModuleIs:
    """This module runs the guests."""

    name: str


@dataclass(frozen=True, slots=True)
class ArchitectureIs:
    """Architecture of the host, named as its directory in the kernel (``x86``)."""

    name: str


@dataclass(frozen=True, slots=True)
class HasCpuFlag:
    name: str


@dataclass(frozen=True, slots=True)
class PagingIs:
    paging: Paging


@dataclass(frozen=True, slots=True)
class HasStat:
    """The kernel (or a group of kvmscope's) describes this stat."""

    provider: str
    scope: Scope
    name: str


@dataclass(frozen=True, slots=True)
class ApicvIs:
    state: ApicvActivity


@dataclass(frozen=True, slots=True)
class ValueIs:
    """A stat of the VM, or of some of its vCPUs, has this value; ``equal`` false: has another value."""

    provider: str
    scope: Scope
    name: str
    number: int
    equal: bool


@dataclass(frozen=True, slots=True)
class SettingIs:
    """A setting of the VM: a field of ``host.config.settings.InterruptConfig``."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class HasVmmOption:
    """The VMM's command line contains one of these, as an argument or between commas in one."""

    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AlwaysHolds:
    why: str


@dataclass(frozen=True, slots=True)
class Undecidable:
    why: str


@dataclass(frozen=True, slots=True)
class AllOf:
    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class FirstKnown:
    """The truth of the first part for which it is known; the best evidence comes first."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Inverted:
    part: Condition


Condition: TypeAlias = (
    ParameterIs
    | ModuleIs
    | ArchitectureIs
    | HasCpuFlag
    | PagingIs
    | HasStat
    | ApicvIs
    | ValueIs
    | SettingIs
    | HasVmmOption
    | AlwaysHolds
    | Undecidable
    | AllOf
    | AnyOf
    | FirstKnown
    | Inverted
)


@dataclass(frozen=True, slots=True)
class StatSelector:
    """Stats to which a caveat applies though their entries do not list it; None: any scope, any kind."""

    providers: tuple[str, ...]
    scope: Scope | None
    kinds: tuple[Kind, ...] | None

    def covers(self, provider: str, scope: Scope, kind: Kind) -> bool:
        """Whether a stat is one of them."""
        return provider in self.providers and self.scope in (None, scope) and (self.kinds is None or kind in self.kinds)


@dataclass(frozen=True, slots=True)
class Caveat:
    """``text``: how it changes the meaning of the number, and what to look at instead."""

    slug: str
    text: str
    holds_if: Condition
    every: StatSelector | None = None


@cache
def load_caveats() -> Mapping[str, Caveat]:
    """Every caveat by its slug, in the order of the file."""
    return parse_caveats(read_toml(FILE))


def parse_caveats(text: str, file: str = FILE) -> Mapping[str, Caveat]:
    """Caveats from TOML. Raises CatalogError if a key is missing, unknown or out of range, or a slug is not unique."""
    entries = read_tables(text, file, "caveat")
    for entry in entries:
        entry.check_keys(("slug", "text", "holds_if"), ("every",))
    unique(entries, "slug")
    return MappingProxyType({entry.string("slug"): _parse_caveat(entry) for entry in entries})


def _parse_caveat(entry: TomlEntry) -> Caveat:
    return Caveat(
        slug=entry.string("slug"),
        text=entry.string("text"),
        holds_if=parse_condition(entry.table("holds_if")),
        every=_parse_every(entry.table("every")) if "every" in entry else None,
    )


def _parse_every(entry: TomlEntry) -> StatSelector:
    entry.check_keys(("providers",), ("scope", "kinds"))
    kinds = entry.strings("kinds")
    for kind in kinds:
        if kind not in KINDS:
            raise entry.error("kinds", f"one of {', '.join(KINDS)}", shown(kind))
    return StatSelector(
        providers=entry.strings("providers"),
        scope=entry.choice("scope", Scope) if "scope" in entry else None,
        kinds=tuple(KINDS[kind] for kind in kinds) if "kinds" in entry else None,
    )


def parse_condition(entry: TomlEntry) -> Condition:
    """The condition of one table. Raises CatalogError."""
    if len(entry.path) > _DEPTH_MAX:
        raise entry.error("", "conditions within at most a dozen others", "more")
    heads = [key for key in entry if key in _FORMS]
    if len(heads) != 1:
        found = " and ".join(heads) if heads else "none of them"
        raise entry.error("", f"a condition, with one of {', '.join(_FORMS)}", found)
    head = heads[0]
    optional, parse = _FORMS[head]
    entry.check_keys((head,), optional)
    return parse(entry)


def _parse_parameter(entry: TomlEntry) -> Condition:
    module, dot, name = entry.string("parameter").partition(".")
    if not (module and dot and name):
        raise entry.error("parameter", "module.parameter", shown(entry["parameter"]))
    return ParameterIs(module, name, _one_or_more(entry, "is"), entry.string("absent", ""))


def _parse_value(entry: TomlEntry) -> Condition:
    if ("is" in entry) == ("is_not" in entry):
        raise entry.error("value", "either is or is_not", "both" if "is" in entry else "neither")
    key = "is" if "is" in entry else "is_not"
    return ValueIs(*_subject(entry), entry.string("value"), number=entry.integer(key), equal=key == "is")


def _subject(entry: TomlEntry) -> tuple[str, Scope]:
    return entry.string("provider", "kvm"), entry.choice("scope", Scope) if "scope" in entry else Scope.VCPU


def _one_or_more(entry: TomlEntry, key: str) -> tuple[str, ...]:
    if isinstance(entry.get(key), str):
        return (entry.string(key),)
    values = entry.strings(key)
    if not values:
        raise entry.error(key, "a text or a list of texts", "none")
    return values


def _parse_parts(entry: TomlEntry, key: str) -> tuple[Condition, ...]:
    parts = entry.tables(key)
    if not parts:
        raise entry.error(key, "a list of conditions", "an empty one")
    return tuple(parse_condition(part) for part in parts)


_FORMS: Mapping[str, tuple[tuple[str, ...], Callable[[TomlEntry], Condition]]] = {
    "parameter": (("is", "absent"), _parse_parameter),
    "module": ((), lambda entry: ModuleIs(entry.string("module"))),
    "architecture": ((), lambda entry: ArchitectureIs(entry.string("architecture"))),
    "cpu_flag": ((), lambda entry: HasCpuFlag(entry.string("cpu_flag"))),
    "paging": ((), lambda entry: PagingIs(entry.choice("paging", Paging))),
    "stat": (("scope", "provider"), lambda entry: HasStat(*_subject(entry), entry.string("stat"))),
    "apicv": ((), lambda entry: ApicvIs(entry.choice("apicv", ApicvActivity))),
    "value": (("scope", "provider", "is", "is_not"), _parse_value),
    "setting": (("is",), lambda entry: SettingIs(entry.string("setting"), entry.string("is"))),
    "vmm_option": ((), lambda entry: HasVmmOption(_one_or_more(entry, "vmm_option"))),
    "always": ((), lambda entry: AlwaysHolds(entry.string("always"))),
    "cannot_tell": ((), lambda entry: Undecidable(entry.string("cannot_tell"))),
    "all": ((), lambda entry: AllOf(_parse_parts(entry, "all"))),
    "any": ((), lambda entry: AnyOf(_parse_parts(entry, "any"))),
    "first_known": ((), lambda entry: FirstKnown(_parse_parts(entry, "first_known"))),
    "not": ((), lambda entry: Inverted(parse_condition(entry.table("not")))),
}
