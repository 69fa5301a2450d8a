"""The columns of statistics in the tables ``vms`` and ``vcpus``: the column of each word of a schema.

A stat of one word is the column ``PROVIDER.STAT``, a histogram ``PROVIDER.STAT.BUCKET``, a word that no stat describes
``PROVIDER.#WORD``; ``PROVIDER.@schema`` is the key of the schema, null for a subject that was not read.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..schema import Schema


def column_names(schema: Schema, lane: int = 0) -> Iterator[tuple[str, int]]:
    """Each column of a schema, and the word that it holds. Every word has one column."""
    owner = _owner(schema.provider, lane)
    named: dict[int, str] = {}
    taken: set[str] = set()
    for stat in schema.descriptors:
        if stat.bit is not None:
            continue  # several stats share the word, which is stored as it is
        first, name = stat.offset // 8, f"{owner}.{stat.name}"
        names = [name] if stat.size == 1 else [f"{name}.{i}" for i in range(stat.size)]
        if taken.isdisjoint(names) and not any(word in named for word in range(first, first + stat.size)):
            taken.update(names)
            named.update(zip(range(first, first + stat.size), names, strict=True))
    for word in range(schema.words):
        yield named.get(word, f"{owner}.#{word}"), word


def schema_column(provider: str, lane: int = 0) -> str:
    """The column with the key of the schema that describes a provider's stats in a row."""
    return f"{_owner(provider, lane)}.@schema"


def _owner(provider: str, lane: int) -> str:
    """The prefix of a provider's columns; further lanes are for subjects in two of its blocks."""
    return f"{provider}~{lane + 1}" if lane else provider
