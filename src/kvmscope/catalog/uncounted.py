"""Stats that some kernels describe but do not count, from uncounted.toml.

Not here: which stats to use instead (caveats.toml), and which rules apply to a host (``analysis.uncounted``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from .data import read_toml
from .tomlfile import TomlEntry, read_tables

FILE = "uncounted.toml"


@dataclass(frozen=True, slots=True)
class UncountedRule:
    """Stats of provider ``kvm`` that are not counted if all of these conditions hold; empty ones always hold.

    ``modules``: one of these runs the guests. ``unless_modules``: none of these does. ``with_stat``: the kernel
    describes this stat too. ``caveat``: the slug of the caveat that explains it.
    """

    caveat: str
    stats: tuple[str, ...]
    modules: tuple[str, ...] = ()
    unless_modules: tuple[str, ...] = ()
    with_stat: str = ""


@cache
def load_uncounted() -> tuple[UncountedRule, ...]:
    """Every rule, in the order of the file."""
    return parse_uncounted(read_toml(FILE))


def parse_uncounted(text: str, file: str = FILE) -> tuple[UncountedRule, ...]:
    """Rules from TOML. Raises CatalogError if a key is missing, unknown or out of range."""
    return tuple(_parse_rule(entry) for entry in read_tables(text, file, "uncounted"))


def _parse_rule(entry: TomlEntry) -> UncountedRule:
    entry.check_keys(("caveat", "stats"), ("modules", "unless_modules", "with_stat"))
    return UncountedRule(
        caveat=entry.string("caveat"),
        stats=entry.strings("stats"),
        modules=entry.strings("modules"),
        unless_modules=entry.strings("unless_modules"),
        with_stat=entry.string("with_stat", ""),
    )
