"""The knowledge for the review of proposed stats, from review.toml. The judgements are made in ``publish.review``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from .data import read_toml
from .tomlfile import TomlEntry, read_root, shown


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of stats: their names contain a word of each group."""

    words: tuple[tuple[str, ...], ...]

    def covers(self, name_words: frozenset[str]) -> bool:
        """Whether a name with these words belongs to this topic."""
        return all(any(fnmatchcase(word, form) for word in name_words for form in group) for group in self.words)


@dataclass(frozen=True, slots=True)
class CountedStat:
    """A stat of KVM that already counts the events of this topic."""

    topic: Topic
    stat: str
    why: str


@dataclass(frozen=True, slots=True)
class DecidedState:
    """A state that follows from the configuration of the VM."""

    topic: Topic
    what: str
    decided_by: str


@dataclass(frozen=True, slots=True)
class PerVcpu:
    """A state that can differ between the vCPUs of a VM."""

    topic: Topic
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class UpdateSite:
    """A function of KVM, and the meaning of a stat that it updates."""

    function: str
    counts: str
    why: str


@dataclass(frozen=True, slots=True)
class ReviewKnowledge:
    """All of review.toml. ``words``: bitmask, negative, short, peak, now."""

    words: Mapping[str, frozenset[str]]
    counted: tuple[CountedStat, ...]
    configuration: tuple[DecidedState, ...]
    per_vcpu: tuple[PerVcpu, ...]
    places: Mapping[str, UpdateSite]


@cache
def load_review() -> ReviewKnowledge:
    """The reviewer's knowledge in the package. Raises CatalogError."""
    text = read_toml("review.toml")
    return parse_review(text, "review.toml")


def parse_review(text: str, file: str) -> ReviewKnowledge:
    """The knowledge from TOML. Raises CatalogError with the place of the mistake."""
    root = read_root(text, file)
    root.check_keys(("words", "counted", "configuration", "per_vcpu", "place"))
    words = root.table("words")
    words.check_keys(_WORDS)
    return ReviewKnowledge(
        words={key: frozenset(words.strings(key)) for key in _WORDS},
        counted=tuple(_counted(entry) for entry in root.tables("counted")),
        configuration=tuple(_decided(entry) for entry in root.tables("configuration")),
        per_vcpu=tuple(_per_vcpu(entry) for entry in root.tables("per_vcpu")),
        places={entry.string("function"): _place(entry) for entry in root.tables("place")},
    )


_WORDS = ("bitmask", "negative", "short", "peak", "now")


def _counted(entry: TomlEntry) -> CountedStat:
    entry.check_keys(("stat", "words", "why"))
    return CountedStat(_topic(entry), entry.string("stat"), entry.string("why"))


def _decided(entry: TomlEntry) -> DecidedState:
    entry.check_keys(("what", "words", "decided_by"))
    return DecidedState(_topic(entry), entry.string("what"), entry.string("decided_by"))


def _per_vcpu(entry: TomlEntry) -> PerVcpu:
    entry.check_keys(("what", "words", "why"))
    return PerVcpu(_topic(entry), entry.string("what"), entry.string("why"))


def _place(entry: TomlEntry) -> UpdateSite:
    entry.check_keys(("function", "counts", "why"))
    return UpdateSite(entry.string("function"), entry.string("counts"), entry.string("why"))


def _topic(entry: TomlEntry) -> Topic:
    groups = entry["words"]
    well_formed = isinstance(groups, list) and groups and all(isinstance(group, list) and group for group in groups)
    if not well_formed or not all(isinstance(word, str) and word for group in groups for word in group):
        raise entry.error("words", "a list of groups of words", shown(groups))
    return Topic(tuple(tuple(group) for group in groups))
