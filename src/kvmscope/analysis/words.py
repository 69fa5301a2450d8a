"""The words of many stats at once, for plans: one row per stat, one column per subject of the current sample.

The same rules as for one stat in ``window``: a stat that one of the samples lacks and a count that went down are
unknown, and their words are meaningless.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..sample import Sample, U64Array, WordColumns
from ..schema import Descriptor, Schema, Scope, Unknown
from .plan import Rows, StatSelection
from .runs import count_of
from .window import BoolArray, Window, agree

_LAYOUTS_KEPT = 256


@dataclass(frozen=True, slots=True, eq=False)
class StatWords:
    """``words`` of shape (stats, subjects). ``known``: of the same shape, None if everything is known."""

    words: U64Array
    known: BoolArray | None


def words_now(window: Window, selection: StatSelection) -> StatWords:
    """The stats at the end of the window."""
    return _read(window.current, selection)


def words_moved(window: Window, selection: StatSelection) -> StatWords:
    """The increase of counts in the window."""
    now, before = _read(window.current, selection), _aligned(window, selection)
    moved = now.words - before.words
    is_reset = moved > now.words  # a difference that wrapped below zero is larger than its minuend
    known = _both(now.known, before.known)
    continues = window.continues(selection.provider, selection.scope)
    if continues is not None:
        known = _both(known, np.broadcast_to(continues, moved.shape))
    if is_reset.any():
        known = _both(known, ~is_reset)
    return StatWords(moved, known)


def words_of(sample: Sample, provider: str, scope: Scope, names: tuple[str, ...]) -> StatWords:
    """One-word stats of a sample, by their names. A stat that no subject has is unknown for all."""
    schemas = tuple(block.schema for block in sample.blocks_from(provider, scope))
    return _read(sample, _selection(schemas, provider, scope, names))


@lru_cache(maxsize=_LAYOUTS_KEPT)
def _selection(schemas: tuple[Schema, ...], provider: str, scope: Scope, names: tuple[str, ...]) -> StatSelection:
    """The stats with the descriptors of the first schema that has each."""
    described = [next((schema[name] for schema in schemas if name in schema), None) for name in names]
    stats = (_NOT_THERE if stat is None or stat.size != 1 else stat for stat in described)
    return StatSelection(provider, scope, tuple(stats))


_NOT_THERE = Descriptor("", Unknown(0))


def _aligned(window: Window, selection: StatSelection) -> StatWords:
    """The stats at the beginning of the window, in the order of the current sample."""
    before = _read(window.previous, selection)
    if window.is_unchanged(selection.scope):
        return before
    rows = window.previous_rows(selection.scope)
    if not before.words.shape[1]:
        nothing = np.zeros((len(selection.stats), len(rows)), dtype=np.uint64)
        return StatWords(nothing, nothing.astype(np.bool_))
    was_there = np.broadcast_to(rows >= 0, (len(selection.stats), len(rows)))
    known = None if before.known is None else before.known[:, rows]
    return StatWords(before.words[:, rows], _both(known, was_there))


def _both(a: BoolArray | None, b: BoolArray | None) -> BoolArray | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def _read(sample: Sample, selection: StatSelection) -> StatWords:
    blocks = sample.blocks_from(selection.provider, selection.scope)
    layouts = [_layout(block.schema, selection) for block in blocks]
    count = count_of(sample, selection.scope)
    if len(blocks) == 1 and layouts[0].is_complete and len(blocks[0].rows) == count:
        return StatWords(blocks[0].words_of(layouts[0].columns), None)
    words = np.zeros((len(selection.stats), count), dtype=np.uint64)
    known = np.zeros(words.shape, dtype=np.bool_)
    for block, layout in zip(blocks, layouts, strict=True):
        places = np.ix_(layout.places, block.rows)
        words[places] = block.words_of(layout.columns)
        known[places] = True
    return StatWords(words, known)


@dataclass(frozen=True, slots=True, eq=False)
class _WordPlaces:
    """The places of a selection's stats in a schema. ``places``: the indices of those with an agreeing descriptor."""

    places: Rows
    columns: WordColumns
    is_complete: bool


@lru_cache(maxsize=_LAYOUTS_KEPT)
def _layout(schema: Schema, selection: StatSelection) -> _WordPlaces:
    places = [
        place for place, stat in enumerate(selection.stats) if stat.name in schema and agree(schema[stat.name], stat)
    ]
    found = [schema[selection.stats[place].name] for place in places]
    return _WordPlaces(np.array(places, dtype=np.intp), WordColumns.of(found), len(found) == len(selection.stats))
